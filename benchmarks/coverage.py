"""Which architectures are understood: every torchvision classifier and one of every timm family, with random weights.

    python benchmarks/coverage.py --out coverage.jsonl [MODEL…]      (resumes: lines already there are not run again)

Columns: the captured graph computes what the module computes (float64); random group elements keep the function;
canonicalize keeps it; canonicalizing a random orbit member gives the same weights; parts left opaque.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from framework_models import capture, import_frameworks, make, names, randomise, timm_families

from nfn_cli.canonical.canonicalize import CanonicalOptions, canonical_element
from nfn_cli.graph.from_export import graph_from_export
from nfn_cli.graph.model import Network
from nfn_cli.graph.reference import evaluate
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import random_flat, to_flat
from nfn_cli.symmetry.solve import find_symmetry


def first_tensor(answer: Any) -> torch.Tensor:
    while not isinstance(answer, torch.Tensor):
        answer = next(iter(answer.values())) if isinstance(answer, dict) else answer[0]
    return answer


def change(old: Any, new: Any) -> float:
    return max(float(np.max(np.abs(a - b)) / max(1e-300, np.max(np.abs(a)))) for a, b in zip(old, new, strict=True))


def row(name: str) -> dict[str, Any]:
    out: dict[str, Any] = {"model": name}
    started = time.perf_counter()
    try:
        module = make(name)
        randomise(module)
        program, example = capture(name, module)
        graph = graph_from_export(program)
        tensors = {key: value.numpy() for key, value in module.state_dict().items()}
        feed = {graph.inputs[0].name: example.numpy()}
        before = evaluate(graph, tensors, feed)
        with torch.no_grad():
            wanted = first_tensor(module(example)).numpy()
        out["graph"] = change([wanted], before[:1])
        symmetry = find_symmetry([Network("", "cnn", graph)])
        out["opaque"] = list(symmetry.opaque[0])
        out["units"] = symmetry.units
        out["permutable"] = sum(s.size for s in symmetry.unit_sets if s.permutable)
        out["scales"] = len(np.unique(symmetry.classes["scale"]))
        moved_by = TransformedTensors(tensors, {}, symmetry, random_flat(symmetry, 1))
        moved = {key: moved_by[key] for key in tensors}
        out["group"] = change(before, evaluate(graph, moved, feed))
        forms = []
        for weights in (tensors, moved):
            element = canonical_element(symmetry, weights, CanonicalOptions())
            view = TransformedTensors(weights, {}, symmetry, to_flat(symmetry, element))
            forms.append({key: view[key] for key in tensors})
        out["canonical"] = change(before, evaluate(graph, forms[0], feed))
        out["orbit"] = max(
            (float(np.max(np.abs(a - forms[1][k]), initial=0) / max(1e-300, np.max(np.abs(a), initial=0)))
             for k, a in forms[0].items() if k in symmetry.actions), default=0.0
        )  # fmt: skip
    except Exception as error:
        out["failed"] = f"{type(error).__name__}: {str(error)[:150]}"
    out["seconds"] = round(time.perf_counter() - started, 1)
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--out", type=Path, default=Path("coverage.jsonl"))
    arguments = parser.parse_args()
    try:
        import_frameworks()
    except ImportError as error:
        sys.exit(f"skipped: {error}")
    torch.set_num_threads(1)
    wanted = arguments.models or [*(n for n in names() if n.startswith("torchvision:")), *timm_families()]
    done = (
        {json.loads(line)["model"] for line in arguments.out.read_text().splitlines()}
        if arguments.out.exists()
        else set()
    )
    for name in wanted:
        if name in done:
            continue
        answer = row(name)
        with arguments.out.open("a") as file:
            file.write(json.dumps(answer) + "\n")
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
