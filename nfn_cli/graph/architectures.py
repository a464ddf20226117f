"""graph/architectures.py: known architectures: recognised by the names and shapes of a checkpoint's tensors.

`architectures.zip` holds the graphs, captured once by benchmarks/build_architectures.py and compared with the modules they
come from; neither torch nor torchvision nor timm is needed to use them.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.graph.graph_file import graph_from_json
from nfn_cli.graph.model import Graph, Network
from nfn_cli.printable import printable

LIBRARY = Path(__file__).with_name("architectures.zip")
_FLOATS = ("float16", "float32", "float64", "bfloat16")


def shapes_key(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What identifies an architecture exactly: names and shapes of its floating-point tensors."""
    return _digest(f"{name} {list(shape)}" for name, shape in shapes.items())


def names_key(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What identifies it up to the size of its answer (and of its layers)."""
    return _digest(shapes)


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()[:16]


@lru_cache(maxsize=1)
def _index() -> dict[str, Any]:
    if not LIBRARY.exists():
        return {"shapes": {}, "names": {}, "architectures": []}
    with zipfile.ZipFile(LIBRARY) as archive:
        index: dict[str, Any] = json.loads(archive.read("index.json"))
    return index


def known_architectures() -> tuple[str, ...]:
    """`torchvision:resnet50`, … in the order of the library."""
    return tuple(_index()["architectures"])


def _graph(name: str) -> Graph:
    with zipfile.ZipFile(LIBRARY) as archive:
        return graph_from_json(json.loads(archive.read(f"{name.replace(':', '/')}.json")))


def identified(checkpoint: Checkpoint) -> Network | None:
    """The network of a checkpoint whose tensors are those of a known architecture, else None."""
    shapes = _shapes(checkpoint)
    index = _index()
    exact = index["shapes"].get(shapes_key(shapes), [])
    for name in exact or index["names"].get(names_key(shapes), []):
        graph = _fitted(_graph(name), shapes)
        if graph is not None:
            others = f" (as {', '.join(exact[1:4])})" if len(exact) > 1 else ""
            return _network(graph, name, "names and shapes of the tensors", others)
    return None


def from_architecture(checkpoint: Checkpoint, architecture: str, trust_code: bool) -> Network:
    """The network of a checkpoint, its architecture named by the user.

    Args:
        architecture: "torchvision:NAME", "timm:NAME", or "path/to/file.py:factory".
        trust_code: whether the user allows the file to be run.

    Raises:
        Refused: the checkpoint's tensors are not those of the architecture (code "architecture-does-not-fit").
        WrongUsage: the name is unknown, or code would have to be run without permission.
    """
    if architecture in known_architectures():
        graph = _graph(architecture)
    else:
        from nfn_cli.graph.from_module import captured

        graph = captured(architecture, trust_code)
    shapes = _shapes(checkpoint)
    fitted = _fitted(graph, shapes)
    if fitted is None:
        wrong = next(n for n, s in graph.parameter_shapes.items() if shapes.get(n) != s)
        found = f"has {shapes[wrong]}" if wrong in shapes else "is not in the file"
        raise Refused(
            f"not the tensors of {printable(architecture)}: {printable(wrong)} {found}, "
            f"needed {graph.parameter_shapes[wrong]}",
            code="architecture-does-not-fit",
        )
    return _network(fitted, architecture, "option --arch", "")


def _shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    return {n: tuple(array.shape) for n, array in checkpoint.tensors.items() if array.dtype.name in _FLOATS}


def _fitted(graph: Graph, shapes: Mapping[str, tuple[int, ...]]) -> Graph | None:
    """The graph with the checkpoint's shapes; layers that give the answer may be wider or narrower. None: does not fit."""
    heads = {
        tensor: op.attributes["out_axis"] if role == "weight" else 0
        for op in graph.ops
        if op.kind == "linear" and op.output in graph.outputs
        for role, tensor in op.parameters.items()
    }
    for name, wanted in graph.parameter_shapes.items():
        found = shapes.get(name)
        if found == wanted:
            continue
        free = heads.get(name)
        if found is None or free is None or len(found) != len(wanted):
            return None
        if any(a != b for axis, (a, b) in enumerate(zip(found, wanted, strict=True)) if axis != free):
            return None
    return replace(graph, parameter_shapes={name: shapes[name] for name in graph.parameter_shapes})


def _network(graph: Graph, name: str, source: str, others: str) -> Network:
    functions = (op.attributes["function"] for op in graph.ops if op.kind == "pointwise")
    note = f"architecture {printable(name)}{others}, known by {source}"
    return Network("", "cnn", graph, tuple(dict.fromkeys(functions)), f"architecture {printable(name)}", (note,))


def check_architecture_name(architecture: str) -> tuple[str, str]:
    """Split at the last colon.

    Raises:
        WrongUsage: neither LIBRARY:NAME nor FILE.py:FACTORY.
    """
    place, _, name = architecture.rpartition(":")
    if not name or (place not in ("torchvision", "timm") and not place.endswith(".py")):
        raise WrongUsage(
            f"unknown architecture {printable(architecture)!r}",
            fix="name torchvision:NAME, timm:NAME or path/to/file.py:factory",
            code="unknown-architecture",
        )
    return place, name
