"""Make nfn_cli/graph/architectures.zip: the index of torchvision's and timm's classifiers, and graphs of their convolutional ones.

    python benchmarks/build_architectures.py [--work DIR] [--only REGEX] [--largest PARAMETERS] [--step keys|graphs|pack]

Every graph is run against the module it comes from, with random weights, in float64; one that differs, or that holds an
operation outside the vocabulary, is left out and its reason kept in DIR. What is in DIR already is not made again.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from coverage import answers, change, has_attention
from framework_models import capture, import_frameworks, make, names, on_meta, randomise

from nfn_cli.errors import NfnError
from nfn_cli.graph.architecture_index import LIBRARY, names_key, shapes_key
from nfn_cli.graph.from_export import graph_from_export
from nfn_cli.graph.graph_file import graph_from_json, graph_to_json
from nfn_cli.graph.model import Graph, Network
from nfn_cli.graph.reference import evaluate
from nfn_cli.symmetry.solve import find_symmetry

TOLERANCE = 1e-9
Shapes = dict[str, tuple[int, ...]]


def shapes_of(module: torch.nn.Module) -> Shapes:
    return {k: tuple(v.shape) for k, v in module.state_dict().items() if v.is_floating_point()}


def keys(name: str) -> dict[str, Any]:
    """What identifies an architecture: with its own number of classes, and with another."""
    try:
        module = on_meta(name)
        own = shapes_of(module)
        other = shapes_of(on_meta(name, num_classes=7))
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {str(error)[:200]}"}
    heads = {
        tensor: next(axis for axis, (a, b) in enumerate(zip(shape, other[tensor], strict=True)) if a != b)
        for tensor, shape in own.items()
        if tensor in other and len(other[tensor]) == len(shape) and other[tensor] != shape
    }
    if set(own) != set(other) or any(len(own[t]) != len(other[t]) for t in own):
        heads = {}
    size = sum(p.numel() for p in module.parameters())
    return {
        "names": names_key(own),
        "shapes": shapes_key(own),
        "body": shapes_key(own, heads),
        "heads": heads,
        "parameters": size,
    }


def captured(name: str) -> dict[str, Any]:
    """The graph, or the reason why there is none."""
    try:
        module = make(name)
        randomise(module)
        program, example = capture(name, module)
        graph = graph_from_export(program)
        if has_attention(graph):
            return {"refused": "attention"}
        state = module.state_dict()
        answer = evaluate(graph, {k: v.numpy() for k, v in state.items()}, {graph.inputs[0].name: example.numpy()})
        off = change(answers(module, example), answer)
    except NfnError as error:
        return {"refused": str(error)}
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {str(error)[:200]}"}
    if not off < TOLERANCE:
        return {"refused": f"differs from the module by {off:.2g}"}
    return {"graph": graph_to_json(graph)}


def group_digest(graph: Graph) -> str:
    """Equal for graphs whose unit sets act on the same axes of the same tensors in the same way."""
    symmetry = find_symmetry([Network("", "cnn", graph)])
    lines = [
        f"{s.size} {s.permutable} {sorted(s.families.items())} {s.block_size} {sorted(s.touches)}"
        for s in symmetry.unit_sets
    ]
    return names_key(lines)


def eps_digest(graph: Graph) -> str:
    return names_key(
        f"{op.parameters['running_var']} {op.attributes['eps']}" for op in graph.ops if op.kind == "batch_norm"
    )


def pack(folder: Path, index: Mapping[str, dict[str, Any]]) -> int:
    """The index and all graphs of the folder into the library; returns how many graphs."""
    by_names: dict[str, list[str]] = {}
    entries: dict[str, list[Any]] = {}
    graphs: dict[str, str] = {}
    for name, key in sorted(index.items(), key=lambda item: (not item[0].startswith("torchvision"), item[0])):
        if "refused" in key:
            continue
        path = folder / f"{name.replace(':', '__')}.json"
        values = json.loads(path.read_text()) if path.exists() else {}
        digests = []
        if "graph" in values:
            graph = graph_from_json(values["graph"])
            digests = [group_digest(graph), eps_digest(graph)]
            graphs[name] = json.dumps(values["graph"], separators=(",", ":"))
        by_names.setdefault(key["names"], []).append(name)
        entries[name] = [key["shapes"], key["body"], key["heads"], *digests]
    with zipfile.ZipFile(LIBRARY, "w", zipfile.ZIP_LZMA) as archive:
        text = json.dumps({"architectures": entries, "names": by_names}, separators=(",", ":"))
        for member, content in [("index", text), *((name.replace(":", "/"), graphs[name]) for name in graphs)]:
            item = zipfile.ZipInfo(f"{member}.json", (2020, 1, 1, 0, 0, 0))
            item.compress_type = zipfile.ZIP_LZMA
            archive.writestr(item, content)
    return len(graphs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=".", help="regular expression on torchvision:NAME or timm:NAME")
    parser.add_argument("--work", type=Path, default=Path("build/architectures"))
    parser.add_argument("--largest", type=float, default=float("inf"), help="leave graphs of larger models out")
    parser.add_argument("--step", choices=("keys", "graphs", "pack"), help="only this step")
    arguments = parser.parse_args()
    try:
        import_frameworks()
    except ImportError as error:
        sys.exit(f"skipped: {error}")
    arguments.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    lines = arguments.work / "keys.jsonl"
    index = dict(json.loads(line) for line in lines.read_text().splitlines()) if lines.exists() else {}
    if arguments.step in (None, "keys"):
        with lines.open("a") as file:
            for name in names():
                if name not in index:
                    index[name] = keys(name)
                    file.write(json.dumps([name, index[name]]) + "\n")
                    file.flush()
    if arguments.step in (None, "graphs"):
        for name, key in sorted(index.items(), key=lambda item: item[1].get("parameters", 0)):
            path = arguments.work / f"{name.replace(':', '__')}.json"
            small = key.get("parameters", float("inf")) <= arguments.largest
            if re.search(arguments.only, name) and small and not path.exists():
                made = captured(name)
                path.write_text(json.dumps(made))
                print(name, made.get("refused", "ok"), flush=True)
    if arguments.step in (None, "pack"):
        print(pack(arguments.work, index), "graphs,", len(index), "architectures in", LIBRARY)


if __name__ == "__main__":
    main()
