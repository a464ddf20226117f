"""cli/network_picture/layer_rows.py: a graph as rows: one a layer, sum or concatenation; what only passes on is a word in its row.

Knows graphs and symmetries; no colour and no place on a page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nfn_cli.graph.model import Network, Op
from nfn_cli.symmetry.rules.registry import FACTOR_RULES, RULES
from nfn_cli.symmetry.solve import Symmetry

Segments = tuple[tuple[int, int], ...]  # (number of a unit set or −1 for what cannot move, slots), in order

_LAYERS = {"linear", "conv"}
_JOINS = {"add": "+", "mul": "×", "concat": "concat", "matmul": "matmul"}
_MOST_SEGMENTS = 40
MOST_ROWS = 1200


@dataclass
class Row:
    """One line of the picture.

    Attributes:
        reads: numbers of the rows whose values it reads.
        incoming, outgoing: unit sets along the axis of units that comes in and goes out.
        words: what is done to its value before the next row reads it, in order.
        makes: unit sets that no row before has.
        frozen: why it is not understood; "" where it is.
    """

    title: str
    detail: str
    reads: tuple[int, ...]
    incoming: Segments = ()
    outgoing: Segments = ()
    words: list[str] = field(default_factory=list)
    makes: list[int] = field(default_factory=list)
    frozen: str = ""


def layer_rows(network: Network, number: int, symmetry: Symmetry, aliases: Mapping[str, str]) -> list[Row]:
    """The rows of one network, number `number` of its checkpoint, in the order of its graph; at most `MOST_ROWS`."""
    rows: list[Row] = []
    row_of: dict[str, int] = {}
    for entry in network.graph.inputs:
        shape = " × ".join("any" if n is None else str(n) for n in entry.shape[1:])
        row_of[entry.name] = len(rows)
        rows.append(Row("input", shape, ()))
    for op in network.graph.ops:
        read = tuple(dict.fromkeys(row_of[name] for name in op.inputs if name in row_of))
        row = _row(op, read, network)
        if row is None and len(read) == 1:
            row_of[op.output] = read[0]
            rows[read[0]].words += [word for word in [_word(op)] if rows[read[0]].words[-1:] != [word]]
            continue
        row = row or Row(_word(op), "", read)
        before = [rows[i].outgoing for i in read]
        row.incoming, row.outgoing = _segments(op, before, symmetry, aliases)
        row_of[op.output] = len(rows)
        rows.append(row)
        if len(rows) == MOST_ROWS:
            rows.append(Row("…", "the rest of the network is not drawn", (len(rows) - 1,)))
            break
    _note_makers(rows, number, symmetry)
    return rows


def _row(op: Op, read: tuple[int, ...], network: Network) -> Row | None:
    """None for what is a word in another row."""
    name = next(iter(op.parameters.values()), "")
    title = name.rpartition(".")[0] or name
    if title and network.name:
        title = title.removeprefix(f"{network.name}.")
    if op.kind in _LAYERS:
        shape = network.graph.parameter_shapes.get(op.parameters.get("weight", ""), ())
        return Row(title or op.kind, _layer_detail(op, shape), read)
    if not _understood(op):
        reason = str(op.attributes.get("reason") or "not understood")
        return Row(title or op.kind, op.kind if title else "", read, frozen=reason)
    if op.kind in _JOINS and len(op.inputs) > 1:
        return Row(_JOINS[op.kind], "", read)
    if op.kind == "parameter":
        shape = network.graph.parameter_shapes.get(name, ())
        return Row(name, f"parameter {' × '.join(map(str, shape))}", read)
    return None


def _understood(op: Op) -> bool:
    return op.kind != "opaque" and (op.kind in RULES or op.kind in FACTOR_RULES)


def _layer_detail(op: Op, shape: Sequence[int]) -> str:
    if not shape:
        return op.kind
    outer, inner = int(op.attributes.get("out_axis", 0)), int(op.attributes.get("in_axis", 1))
    groups = op.attributes.get("groups", 1)
    ends = f"{shape[inner] * (1 if op.attributes.get('transposed') else groups)} → {shape[outer]}"
    if op.kind == "linear":
        return f"linear {ends}"
    kernel = "×".join(str(n) for axis, n in enumerate(shape) if axis not in (outer, inner))
    stride = op.attributes.get("stride", 1)
    steps = stride if isinstance(stride, (tuple, list)) else (stride,)
    also = f", stride {'×'.join(map(str, dict.fromkeys(steps)))}" if any(s not in (1, None) for s in steps) else ""
    also += f", {groups} groups" if groups != 1 else ""
    return f"{'transposed ' if op.attributes.get('transposed') else ''}conv {kernel}, {ends}{also}"


def _word(op: Op) -> str:
    if op.kind == "pointwise":
        omega = op.attributes.get("omega")
        return f"{op.attributes['function']}{f' ω={omega:g}' if isinstance(omega, (int, float)) else ''}"
    return op.kind.replace("_", " ")


def _segments(
    op: Op, before: Sequence[Segments], symmetry: Symmetry, aliases: Mapping[str, str]
) -> tuple[Segments, Segments]:
    joined = tuple(segment for segments in before for segment in segments)
    first = before[0] if before else ()
    if op.kind in _LAYERS and "weight" in op.parameters:
        weight = aliases.get(op.parameters["weight"], op.parameters["weight"])
        out = _along(weight, int(op.attributes.get("out_axis", 0)), symmetry)
        grouped = op.attributes.get("groups", 1) != 1
        into = first if grouped else _along(weight, int(op.attributes.get("in_axis", 1)), symmetry)
        return into, out
    if op.kind == "concat":
        return merged(joined), merged(joined)
    return first, first if _understood(op) else ()


def _along(tensor: str, dim: int, symmetry: Symmetry) -> Segments:
    """Unit sets along one axis of a tensor."""
    for action in symmetry.actions.get(tensor, ()):
        if action.dim == dim and (action.unit >= 0).any():
            starts = np.array([unit_set.start for unit_set in symmetry.unit_sets])
            numbers = np.where(action.unit >= 0, np.searchsorted(starts, action.unit, side="right") - 1, -1)
            cuts = np.flatnonzero(np.diff(numbers)) + 1
            lengths = np.diff(np.concatenate([[0], cuts, [len(numbers)]]))
            heads = numbers[np.concatenate([[0], cuts])]
            return merged(tuple((int(n), int(length)) for n, length in zip(heads, lengths, strict=True)))
    return ()


def merged(segments: Segments) -> Segments:
    """Neighbours of one unit set together; where many alternate, each set once with all its slots."""
    out: list[tuple[int, int]] = []
    for number, length in segments:
        if out and out[-1][0] == number:
            out[-1] = number, out[-1][1] + length
        else:
            out.append((number, length))
    if len(out) <= _MOST_SEGMENTS:
        return tuple(out)
    total: dict[int, int] = {}
    for number, length in out:
        total[number] = total.get(number, 0) + length
    return tuple(total.items())


def _note_makers(rows: Sequence[Row], network: int, symmetry: Symmetry) -> None:
    """Each unit set stands at the first row that has it; what no row has stands at the last."""
    wanted = {n for n, unit_set in enumerate(symmetry.unit_sets) if unit_set.network == network}
    for row in rows:
        for segments in (row.outgoing, row.incoming):
            for number, _ in segments:
                if number in wanted:
                    row.makes.append(number)
                    wanted.discard(number)
    if rows:
        rows[-1].makes += sorted(wanted)
