"""graph/from_onnx/rewriting.py: what exporters take apart put together again: one pass over the ops, one rule after another.

A rule sees an op with what made its inputs, and answers with the op that computes the same value at one stroke. It never
changes the group by what it leaves alone: the pieces are sound, too, only poorer (a layer norm in pieces has no sign).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from nfn_cli.checkpoint.model import Array
from nfn_cli.graph.from_onnx.capture import Shape
from nfn_cli.graph.from_onnx.pieces import (
    activation,
    bias,
    flattened,
    frequency,
    group_norm,
    normalization,
    root_mean_square,
)
from nfn_cli.graph.model import Op

# whoever reads an op by the one name it was made under
Rule = Callable[["Pieces", Op], "Op | None"]


@dataclass
class Pieces:
    """Ops by the value they make, while they are rewritten.

    Attributes:
        maker: value -> op.
        readers: value -> the ops that read it.
        shapes: of values.
        tensors: the checkpoint's, for their shapes.
    """

    maker: dict[str, Op]
    readers: dict[str, list[str]]
    outputs: frozenset[str]
    shapes: Mapping[str, Shape | None]
    tensors: Mapping[str, Array]

    def of(self, name: str, *kinds: str) -> Op | None:
        """The op that makes the value, where it is of these kinds."""
        op = self.maker.get(name)
        return op if op is not None and (not kinds or op.kind in kinds) else None

    def function(self, name: str, *functions: str) -> Op | None:
        op = self.of(name, "pointwise")
        return op if op is not None and op.attributes["function"] in functions else None

    def shape(self, name: str) -> list[int] | None:
        found = self.shapes.get(name)
        return None if found is None else list(found)

    def used_once(self, name: str) -> bool:
        return len(self.readers.get(name, ())) == 1 and name not in self.outputs


_RULES: tuple[Rule, ...] = (
    bias,
    frequency,
    normalization,
    root_mean_square,
    group_norm,
    activation,
    flattened,
)


def rewritten(
    ops: Sequence[Op], outputs: Sequence[str], shapes: Mapping[str, Shape | None], tensors: Mapping[str, Array]
) -> tuple[Op, ...]:
    """The same values from fewer ops; ops that nothing reads any more are still there.

    Args:
        shapes: of every value, as far as known.
    """
    unique = _without_twins(ops, outputs)
    readers: dict[str, list[str]] = {}
    for op in unique:
        for name in op.inputs:
            readers.setdefault(name, []).append(op.kind)
    pieces = Pieces({}, readers, frozenset(outputs), shapes, tensors)
    for op in unique:
        for rule in _RULES:
            op = rule(pieces, op) or op
        pieces.maker[op.output] = op
    return tuple(pieces.maker.values())


def _without_twins(ops: Sequence[Op], outputs: Sequence[str]) -> list[Op]:
    """Each value once: exporters repeat what is read twice."""
    first: dict[tuple[str, ...], str] = {}
    same: dict[str, str] = {}
    kept = []
    for op in ops:
        op = replace(op, inputs=tuple(same.get(name, name) for name in op.inputs))
        key = (op.kind, *op.inputs, repr(sorted(op.attributes.items())))
        if op.parameters or op.kind in ("opaque", "constant") or op.output in outputs:
            kept.append(op)
        elif key in first:
            same[op.output] = first[key]
        else:
            first[key] = op.output
            kept.append(op)
    return kept
