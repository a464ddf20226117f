"""Which architectures are understood: every torchvision classifier and one of every timm family, with random weights.

    python benchmarks/coverage.py [--out FILE.jsonl] [MODEL…]     runs; lines already in FILE are not run again
    python benchmarks/coverage.py --table [--out FILE.jsonl]      the table of the README, from FILE

Columns of a line: the captured graph computes what the module computes (float64; null where it holds what the evaluator does
not run); what the module itself computes stays under a random group element and in canonical form, from float64 and from
float32 weights; the canonical form of a random orbit member has the same weights; parts left opaque. "attention": the
graph has matrix products of values with each other, so it is no plain CNN.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import figure
from framework_models import capture, import_frameworks, make, names, randomise, timm_families

from nfn_cli.canonical.canonicalize import CanonicalOptions, canonical_element
from nfn_cli.errors import Refused
from nfn_cli.graph.from_export import graph_from_export
from nfn_cli.graph.model import Graph, Network
from nfn_cli.graph.reference import evaluate
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import random_flat, to_flat
from nfn_cli.symmetry.solve import Symmetry, find_symmetry

OUT = Path(__file__).with_name("coverage.jsonl")
FLOAT64, FLOAT32, ORBIT = 1e-10, 1e-5, 1e-6
_LARGE = 3e8
GRAPH = 1e-6  # some modules compute a part of themselves in float32, whatever they are given


def tensors_in(answer: Any) -> list[torch.Tensor]:
    if isinstance(answer, torch.Tensor):
        return [answer]
    parts = answer.values() if isinstance(answer, dict) else answer
    return [tensor for part in parts if part is not None for tensor in tensors_in(part)]


def answers(module: torch.nn.Module, example: torch.Tensor, tensors: Mapping[str, Any] | None = None) -> list[Any]:
    """What the module itself computes, with other weights where they are given."""
    with torch.no_grad():
        if tensors is not None:
            for name, tensor in module.state_dict().items():
                tensor.copy_(torch.from_numpy(np.array(tensors[name])))
        return [tensor.numpy().copy() for tensor in tensors_in(module(example))]


def change(old: Any, new: Any) -> float:
    return max(float(np.max(np.abs(a - b)) / max(1e-300, np.max(np.abs(a)))) for a, b in zip(old, new, strict=True))


def canonical(symmetry: Symmetry, tensors: Mapping[str, Any]) -> TransformedTensors:
    element = canonical_element(symmetry, tensors, CanonicalOptions())
    return TransformedTensors(tensors, {}, symmetry, to_flat(symmetry, element))


def distance(left: Any, right: Any) -> float:
    return float(np.max(np.abs(left - right), initial=0) / max(1e-300, np.max(np.abs(left), initial=0)))


def has_attention(graph: Graph) -> bool:
    products = ("matmul", "aten.einsum", "aten.scaled_dot_product_attention")
    return any(op.kind in products for op in graph.ops)


def compared(graph: Graph, tensors: Mapping[str, Any], example: torch.Tensor, wanted: list[Any]) -> float | None:
    """How far the graph is from the module; None where it holds what the evaluator cannot run."""
    try:
        return change(wanted, evaluate(graph, tensors, {graph.inputs[0].name: example.numpy()}))
    except Refused:
        return None


def row(name: str) -> dict[str, Any]:
    out: dict[str, Any] = {"model": name}
    started = time.perf_counter()
    try:
        module = make(name)
        randomise(module)
        program, example = capture(name, module)
        graph = graph_from_export(program)
        del program
        out["attention"] = has_attention(graph)
        tensors = {key: value.numpy().copy() for key, value in module.state_dict().items()}
        out["parameters"] = sum(p.numel() for p in module.parameters())
        before = answers(module, example)
        out["graph"] = compared(graph, tensors, example, before)
        symmetry = find_symmetry([Network("", "cnn", graph)])
        out["opaque"] = list(symmetry.opaque[0])
        out["units"] = symmetry.units
        out["permutable"] = sum(s.size for s in symmetry.unit_sets if s.permutable)
        out["scales"] = len(np.unique(symmetry.classes["scale"]))
        moved_by = TransformedTensors(tensors, {}, symmetry, random_flat(symmetry, 1))
        # the largest are computed again each time they are read, so that fewer copies stand in memory
        moved = moved_by if out["parameters"] > _LARGE else {key: moved_by[key] for key in tensors}
        out["group"] = change(before, answers(module, example, moved))
        first, second = canonical(symmetry, tensors), canonical(symmetry, moved)
        out["canonical"] = change(before, answers(module, example, first))
        out["orbit"] = max(
            (distance(first[key], second[key]) for key in tensors if key in symmetry.actions), default=0.0
        )
        del moved, moved_by, first, second
        single = {key: a.astype(np.float32) if a.dtype == np.float64 else a for key, a in tensors.items()}
        del tensors
        before = answers(module, example, single)
        out["canonical_float32"] = change(before, answers(module, example, canonical(symmetry, single)))
    except Exception as error:
        out["failed"] = f"{type(error).__name__}: {str(error)[:150]}"
    out["seconds"] = round(time.perf_counter() - started, 1)
    return out


def right(line: Mapping[str, Any]) -> bool:
    return bool(
        (line["graph"] is None or line["graph"] < GRAPH)
        and line["group"] < FLOAT64
        and line["canonical"] < FLOAT64
        and line["canonical_float32"] < FLOAT32
        and line["orbit"] < ORBIT
    )


def table(lines: list[dict[str, Any]]) -> str:
    """Markdown: one row for each library and kind of network."""
    out = [
        "| networks | captured | function kept, one form per orbit | without opaque part | wrong |",
        "| --- | --- | --- | --- | --- |",
    ]
    for label, library, attention in (
        ("torchvision CNNs", "torchvision", False),
        ("timm CNN families", "timm", False),
        ("torchvision, with attention", "torchvision", True),
        ("timm families with attention", "timm", True),
    ):
        mine = [
            line
            for line in lines
            if line["model"].startswith(library) and bool(line.get("attention", attention)) == attention
        ]
        done = [line for line in mine if "failed" not in line]
        good = [line for line in done if right(line)]
        whole = [line for line in good if not line["opaque"]]
        out.append(f"| {label} ({len(mine)}) | {len(done)} | {len(good)} | {len(whole)} | {len(done) - len(good)} |")
    return "\n".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--table", action="store_true", help="print the table of what is there, run nothing")
    arguments = parser.parse_args()
    lines = [json.loads(line) for line in arguments.out.read_text().splitlines()] if arguments.out.exists() else []
    if arguments.table:
        print(table(lines))
        for library in ("torchvision", "timm"):
            plain = [line for line in lines if line["model"].startswith(library) and not line.get("attention")]
            figure(
                library, sum(right(line) and not line["opaque"] for line in plain if "failed" not in line) / len(plain)
            )
        figure("wrong", sum(not right(line) for line in lines if "failed" not in line))
        return
    try:
        import_frameworks()
    except ImportError as error:
        sys.exit(f"skipped: {error}")
    torch.set_num_threads(1)
    wanted = arguments.models or [*(n for n in names() if n.startswith("torchvision:")), *timm_families()]
    done = {line["model"] for line in lines}
    for name in wanted:
        if name in done:
            continue
        answer = row(name)
        with arguments.out.open("a") as file:
            file.write(json.dumps(answer) + "\n")
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
