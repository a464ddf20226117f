"""graph/architectures.py: the network of a checkpoint that is a known architecture: recognised, or named by the user.

Architectures with the same tensors may still differ in what no tensor shows. Where their groups agree, the first is taken
and the others are named; where only the ε of a batch norm differs, what depends on it is left alone; else the user is asked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused, SurroundingsFailed, WrongUsage
from nfn_cli.graph.architecture_index import (
    KnownArchitecture,
    candidates,
    known_architecture,
    known_architectures,
    library_graph,
)
from nfn_cli.graph.model import Graph, Network, Op
from nfn_cli.graph.refit import refitted
from nfn_cli.printable import printable

__all__ = ["check_architecture_name", "from_architecture", "identified", "known_architectures"]

_FLOATS = ("float16", "float32", "float64", "bfloat16")
_NAMED = 3  # other candidates that a note names


def identified(checkpoint: Checkpoint) -> Network | None:
    """The network of a checkpoint whose tensors are those of a known architecture, else None.

    Raises:
        Refused: several architectures with different groups have these tensors (code "ambiguous-architecture"), or the only
            one is not in the library and what builds it is not installed (code "architecture-not-installed").
    """
    shapes = _shapes(checkpoint)
    found = candidates(shapes)
    told = _told(checkpoint, found)
    if told is None and checkpoint.hints.architecture is not None:
        made = _made_as_told(checkpoint, shapes, needed=not found)
        if made is not None:
            return made
    if not found:
        return None
    if told is not None:
        found, source = (told,), checkpoint.hints.source
    else:
        source = "names and shapes of the tensors"
    captured = [each for each in found if each.captured]
    if not captured:
        return _built(found, shapes, source)
    if len({each.group for each in captured}) > 1 or len(captured) < len(found):
        raise _ambiguous(found)
    graph = refitted(library_graph(captured[0].name), shapes)
    if graph is None:
        return None
    others = [each.name for each in captured[1:]]
    if len({each.eps for each in captured}) > 1:
        graph = _eps_left_open(graph, [library_graph(name) for name in others])
    return _network(graph, captured[0].name, source, others)


def _told(checkpoint: Checkpoint, found: Sequence[KnownArchitecture]) -> KnownArchitecture | None:
    """The candidate that a config.json or metadata names, with or without its library and pretraining tag."""
    named = (checkpoint.hints.architecture or "").split(".")[0]
    return next((each for each in found if named in (each.name, each.name.split(":", 1)[1])), None)


def _made_as_told(checkpoint: Checkpoint, shapes: Mapping[str, tuple[int, ...]], needed: bool) -> Network | None:
    """timm's model of the name and with the arguments that a config.json gives; None where that is not what the file holds."""
    name = (checkpoint.hints.architecture or "").split(".")[0]
    if known_architecture(f"timm:{name}") is None or checkpoint.hints.architecture_arguments is None:
        return None
    from nfn_cli.graph.from_module import captured_as_told

    arguments = json.loads(checkpoint.hints.architecture_arguments)
    try:
        graph = captured_as_told(name, arguments, shapes)
    except SurroundingsFailed:
        if needed:
            raise _not_installed(f"timm:{name}", "the config names") from None
        return None
    except WrongUsage:
        return None
    return None if graph is None else _network(graph, f"timm:{name}", checkpoint.hints.source, [])


def _ambiguous(found: Sequence[KnownArchitecture]) -> Refused:
    by_group: dict[str, str] = {}
    for each in found:
        by_group.setdefault(each.group or each.name, each.name)
    names = list(by_group.values())
    return Refused(
        f"several architectures with different symmetries have these tensors: {', '.join(names[:5])}",
        fix="name the right one with --arch",
        code="ambiguous-architecture",
    )


def _built(found: Sequence[KnownArchitecture], shapes: Mapping[str, tuple[int, ...]], source: str) -> Network | None:
    """An architecture of the index whose graph is not shipped, built by its library where that is installed."""
    if len(found) > 1:
        raise _ambiguous(found)
    from nfn_cli.graph.from_module import captured

    name = found[0].name
    try:
        graph = captured(name, trust_code=False)
    except SurroundingsFailed:
        raise _not_installed(name, "the tensors are those of") from None
    fitted = refitted(graph, shapes)
    return None if fitted is None else _network(fitted, name, source, [])


def _not_installed(name: str, how: str) -> Refused:
    return Refused(
        f"{how} {printable(name)}, whose graph is not shipped",
        fix=f"pip install 'nfn-cli[arch]', which lets {name.split(':')[0]} build it",
        code="architecture-not-installed",
    )


def _eps_left_open(graph: Graph, others: Sequence[Graph]) -> Graph:
    """Batch norms whose ε the candidates disagree about are marked: their statistics can then take up no magnitude."""
    seen: dict[str, set[float]] = {}
    for op in (op for each in (graph, *others) for op in each.ops if op.kind == "batch_norm"):
        seen.setdefault(op.parameters["running_var"], set()).add(float(op.attributes["eps"]))

    def opened(op: Op) -> Op:
        if op.kind == "batch_norm" and len(seen[op.parameters["running_var"]]) > 1:
            return replace(op, attributes={**op.attributes, "eps_known": False})
        return op

    return replace(graph, ops=tuple(opened(op) for op in graph.ops))


def from_architecture(checkpoint: Checkpoint, architecture: str, trust_code: bool) -> Network:
    """The network of a checkpoint, its architecture named by the user.

    Args:
        architecture: "torchvision:NAME", "timm:NAME", or "path/to/file.py:factory".
        trust_code: whether the user allows the file to be run.

    Raises:
        Refused: the checkpoint's tensors are not those of the architecture (code "architecture-does-not-fit").
        WrongUsage: the name is unknown, or code would have to be run without permission.
        SurroundingsFailed: the library that builds it is not installed (code "missing-extra").
    """
    known = known_architecture(architecture)
    if known is not None and known.captured:
        graph = library_graph(architecture)
    else:
        from nfn_cli.graph.from_module import captured

        graph = captured(architecture, trust_code)
    shapes = _shapes(checkpoint)
    fitted = refitted(graph, shapes)
    if fitted is None:
        wrong = next(n for n, s in graph.parameter_shapes.items() if shapes.get(n) != s)
        found = f"has {shapes[wrong]}" if wrong in shapes else "is not in the file"
        raise Refused(
            f"not the tensors of {printable(architecture)}: {printable(wrong)} {found}, "
            f"needed {graph.parameter_shapes[wrong]}",
            code="architecture-does-not-fit",
        )
    return _network(fitted, architecture, "option --arch", [])


def _shapes(checkpoint: Checkpoint) -> dict[str, tuple[int, ...]]:
    return {n: tuple(array.shape) for n, array in checkpoint.tensors.items() if array.dtype.name in _FLOATS}


def _network(graph: Graph, name: str, source: str, others: Sequence[str]) -> Network:
    functions = (op.attributes["function"] for op in graph.ops if op.kind == "pointwise")
    notes = [f"architecture {printable(name)}, known by {source}"]
    if others:
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        verb = "has" if len(others) == 1 else "have"
        notes.append(f"{', '.join(others[:_NAMED])}{more} {verb} the same tensors and the same group")
    if any(op.attributes.get("eps_known") is False for op in graph.ops):
        notes.append(
            "they differ in a batch norm's ε, so what its statistics could absorb is left alone; --arch settles it"
        )
    return Network("", "cnn", graph, tuple(dict.fromkeys(functions)), f"architecture {printable(name)}", tuple(notes))


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
