"""Make nfn_cli/graph/architectures.zip: graphs of torchvision's and timm's convolutional networks.

    python benchmarks/build_architectures.py [--only REGEX] [--graphs DIR] [--limit-parameters N]

Every graph is run against the module it comes from, with random weights, in float64; one that differs, or that holds an
operation outside the vocabulary, is left out and listed. Graphs already in DIR are not made again.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import zipfile
from pathlib import Path

import numpy as np
import torch
from coverage import first_tensor
from framework_models import capture, import_frameworks, make, names, randomise

from nfn_cli.errors import NfnError
from nfn_cli.graph.architectures import LIBRARY, names_key, shapes_key
from nfn_cli.graph.from_export import graph_from_export
from nfn_cli.graph.graph_file import graph_to_json
from nfn_cli.graph.reference import evaluate

TOLERANCE = 1e-9


def entry(name: str) -> dict[str, object]:
    """The graph and its keys, or the reason why there is none."""
    try:
        module = make(name)
        randomise(module)
        program, example = capture(name, module)
        graph = graph_from_export(program)
        state = module.state_dict()
        answer = evaluate(graph, {k: v.numpy() for k, v in state.items()}, {graph.inputs[0].name: example.numpy()})[0]
        with torch.no_grad():
            wanted = first_tensor(module(example)).numpy()
        change = float(np.max(np.abs(answer - wanted)) / np.max(np.abs(wanted)))
    except NfnError as error:
        return {"refused": str(error)}
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {str(error)[:200]}"}
    if not change < TOLERANCE:
        return {"refused": f"differs from the module by {change:.2g}"}
    shapes = {k: tuple(v.shape) for k, v in state.items() if v.is_floating_point()}
    return {"shapes": shapes_key(shapes), "names": names_key(shapes), "graph": graph_to_json(graph)}


def pack(folder: Path) -> int:
    """All graphs of the folder into the library; returns how many."""
    index: dict[str, object] = {}
    shapes: dict[str, list[str]] = {}
    by_names: dict[str, list[str]] = {}
    found = []
    with zipfile.ZipFile(LIBRARY, "w", zipfile.ZIP_LZMA) as archive:
        for path in sorted(folder.glob("*.json"), key=lambda p: (not p.name.startswith("torchvision"), p.name)):
            values = json.loads(path.read_text())
            if "graph" not in values:
                continue
            name = path.stem.replace("__", ":", 1)
            found.append(name)
            shapes.setdefault(values["shapes"], []).append(name)
            by_names.setdefault(values["names"], []).append(name)
            item = zipfile.ZipInfo(f"{name.replace(':', '/')}.json", (2020, 1, 1, 0, 0, 0))
            item.compress_type = zipfile.ZIP_LZMA
            archive.writestr(item, json.dumps(values["graph"], separators=(",", ":")))
        index = {"shapes": shapes, "names": by_names, "architectures": found}
        item = zipfile.ZipInfo("index.json", (2020, 1, 1, 0, 0, 0))
        item.compress_type = zipfile.ZIP_LZMA
        archive.writestr(item, json.dumps(index, separators=(",", ":")))
    return len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=".", help="regular expression on torchvision:NAME or timm:NAME")
    parser.add_argument("--graphs", type=Path, default=Path("build/architectures"))
    parser.add_argument("--pack", action="store_true", help="only pack what is there")
    arguments = parser.parse_args()
    try:
        import_frameworks()
    except ImportError as error:
        sys.exit(f"skipped: {error}")
    arguments.graphs.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for name in [] if arguments.pack else names():
        path = arguments.graphs / f"{name.replace(':', '__')}.json"
        if not re.search(arguments.only, name) or path.exists():
            continue
        made = entry(name)
        path.write_text(json.dumps(made))
        print(name, made.get("refused", "ok"), flush=True)
    print(pack(arguments.graphs), "architectures in", LIBRARY)


if __name__ == "__main__":
    main()
