"""canonical/reduction/reading.py: a layer's weight as what it takes from each input slot, and slots that stand for others.

Knows linear layers and convolutions; no graph beyond one op, no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.canonical.reduction.affine import Affine
from nfn_cli.canonical.reduction.duplicates import Close, first_of, grouped
from nfn_cli.graph.model import Op
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import FloatArray
from nfn_cli.symmetry.relations import BoolArray

Array = np.ndarray[Any, np.dtype[Any]]
Tensors = Mapping[str, Array]

_CHUNK_ENTRIES = 1 << 20


@dataclass(frozen=True, eq=False)
class Mix:
    """Slots gone[i] are Σ_j coefficients[i, j] · slots stay[j], and their rest."""

    gone: IntArray
    stay: IntArray
    coefficients: FloatArray


@dataclass(frozen=True, eq=False)
class Terms:
    """Input slot i is ratio[i] · slot stand[i] + rest[i]; where stand is −1 it is rest[i] alone, where −2 see `mixes`."""

    stand: IntArray
    ratio: FloatArray
    rest: FloatArray
    mixes: tuple[Mix, ...] = ()

    @property
    def moved(self) -> IntArray:
        """Slots that one other stands for."""
        return np.flatnonzero((self.stand != np.arange(len(self.stand))) & (self.stand >= 0))


def terms(x: Affine, groups: int, absorbs: bool, kept: BoolArray, tolerance: float) -> Terms:
    """Let one slot of each kind stand for all of them.

    Args:
        groups: slots of different groups are not read together.
        absorbs: whether the layer can add a constant to what it makes. If not, slots must be multiples of each other
            together with their constants, and constants are multiples of each other.
        kept: (n,) slots that stand for themselves, and rather than others for those of their kind.
    """
    n = len(x)
    part = np.arange(n) // (n // groups)
    nowhere = x.constant if absorbs else x.constant & (x.offset == 0)
    use = np.flatnonzero(~nowhere)
    stand, ratio, rest = np.full(n, -1), np.zeros(n), np.where(x.constant, x.offset, 0.0)
    if len(use):
        close = []
        if not absorbs:
            safe = np.where(x.constant, 1.0, x.factor)
            relative = np.where(x.constant, 0.0, x.offset / safe)[use]
            blur = np.where(x.constant, 0.0, x.blur / np.abs(safe))[use]
            close.append(Close(relative, tolerance * np.abs(relative) + blur))
        group = grouped([part[use], x.kind[use]], close)
        order = np.argsort(~kept[use], kind="stable")
        lead = use[order[first_of(group[order])]][group]
        stand[use] = lead
        amount = np.where(x.constant, x.offset, x.factor)
        ratio[use] = amount[use] / amount[lead]
        rest[use] = (x.offset[use] - ratio[use] * x.offset[lead]) if absorbs else 0.0
    own = kept | (stand == np.arange(n))
    return Terms(np.where(own, np.arange(n), stand), np.where(own, 1.0, ratio), np.where(own, 0.0, rest))


def untouched_terms(x: Affine, kept: BoolArray) -> Terms:
    """Every slot for itself, but those that are 0 and can go."""
    n = len(x)
    nothing = x.constant & (x.offset == 0) & ~kept
    return Terms(np.where(nothing, -1, np.arange(n)), np.where(nothing, 0.0, 1.0), np.zeros(n))


@dataclass(frozen=True, eq=False)
class Reading:
    """The weight of one linear layer or convolution, seen as (groups, outputs of a group, inputs of a group, kernel)."""

    view: Array
    rounding: float

    @property
    def groups(self) -> int:
        return int(self.view.shape[0])

    @property
    def outputs(self) -> int:
        return int(self.view.shape[0] * self.view.shape[1])

    def rows(self, seen: Terms, index: IntArray) -> tuple[FloatArray, FloatArray]:
        """(k, inputs of a group · kernel): what output slots `index` take from slots that stand for themselves.

        Beside it, entry by entry, the sum of magnitudes that were added up.
        """
        g, o, i, _ = self.view.shape
        part = self.view[index // o, index % o].astype(np.float64)  # (rows, i, k)
        parts = np.abs(part)
        moved = seen.moved
        if g == 1:
            part, parts = _merged(part, seen, moved), _merged_magnitudes(parts, seen, moved)
            part[:, seen.stand != np.arange(i)] = 0.0
            return part.reshape(len(index), -1), parts.reshape(len(index), -1)
        for number in np.unique(index // o):
            mine = index // o == number
            span = slice(number * i, number * i + i)
            stand = np.where(seen.stand[span] < 0, -1, seen.stand[span] - number * i)
            own = Terms(stand, seen.ratio[span], seen.rest[span])
            part[mine] = _merged(part[mine], own, own.moved)
            parts[mine] = _merged_magnitudes(parts[mine], own, own.moved)
            part[np.ix_(mine, stand != np.arange(i))] = 0.0
        return part.reshape(len(index), -1), parts.reshape(len(index), -1)

    def constants(self, seen: Terms) -> tuple[FloatArray, FloatArray]:
        """(outputs,) what the rests add to each output where no padding comes between, and its rounding."""
        _, o, i, _ = self.view.shape
        total, blur = np.zeros(self.outputs), np.zeros(self.outputs)
        at = np.flatnonzero(seen.rest)
        for number in np.unique(at // i):
            mine = at[at // i == number]
            column = self.view[number][:, mine % i].astype(np.float64).sum(axis=2)
            size = np.abs(self.view[number][:, mine % i].astype(np.float64)).sum(axis=2)
            total[number * o : number * o + o] = column @ seen.rest[mine]
            blur[number * o : number * o + o] = self.rounding * (size @ np.abs(seen.rest[mine]))
        return total, blur

    def read(self, seen: Terms, needed: BoolArray) -> BoolArray:
        """(inputs,) whether some needed output takes anything from the slot, others' share included."""
        g, o, i, k = self.view.shape
        found = np.zeros((g, i), bool)
        rows = np.flatnonzero(needed)
        step = max(1, _CHUNK_ENTRIES // max(1, i * k))
        for start in range(0, len(rows), step):
            index = rows[start : start + step]
            if g == 1 and not len(seen.moved) and not seen.mixes:
                found[0] |= (self.view[0, index] != 0).any(axis=(0, 2))
                continue
            part, parts = self.rows(seen, index)
            entries = (np.abs(part) > self.rounding * parts).reshape(len(index), i, k).any(axis=2)
            np.logical_or.at(found, index // o, entries)
        return np.asarray(found.reshape(-1) & (seen.stand == np.arange(g * i)))


def _merged(part: FloatArray, seen: Terms, moved: IntArray) -> FloatArray:
    """(rows, inputs, kernel): every slot's column added to the column of the slot that stands for it."""
    if not len(moved) and not seen.mixes:
        return part
    part = part.copy()
    if len(moved):
        order = moved[np.argsort(seen.stand[moved], kind="stable")]
        target, start = np.unique(seen.stand[order], return_index=True)
        part[:, target] += np.add.reduceat(part[:, order] * seen.ratio[order][:, None], start, axis=1)
    for mix in seen.mixes:
        part[:, mix.stay] += np.einsum("rik,ij->rjk", part[:, mix.gone], mix.coefficients)
    return part


def _merged_magnitudes(parts: FloatArray, seen: Terms, moved: IntArray) -> FloatArray:
    mixes = tuple(Mix(mix.gone, mix.stay, np.abs(mix.coefficients)) for mix in seen.mixes)
    return _merged(parts, Terms(seen.stand, np.abs(seen.ratio), seen.rest, mixes), moved)


def reading_of(op: Op, tensors: Tensors, rounding: float) -> Reading | None:
    """None where the weight is a value, is empty, or laid out in a way that is not taken apart here."""
    if op.kind not in ("linear", "conv") or len(op.inputs) > 1:
        return None
    weight = tensors[op.parameters["weight"]]
    if weight.size == 0:
        return None
    groups = int(op.attributes.get("groups", 1))
    weight = np.moveaxis(weight, (op.attributes["out_axis"], op.attributes["in_axis"]), (0, 1))
    if groups == 1:
        return Reading(weight.reshape(1, weight.shape[0], weight.shape[1], -1), rounding)
    if op.attributes.get("transposed") or (op.attributes["out_axis"], op.attributes["in_axis"]) != (0, 1):
        return None
    return Reading(weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1), rounding)


def padded(op: Op) -> bool:
    """Whether outputs at the border see less of a constant than others: then it is not a bias."""
    if op.kind == "linear":
        return False
    padding = np.atleast_1d(op.attributes.get("padding", 0))
    behind = np.atleast_1d(op.attributes.get("output_padding", 0))
    kernel_overlaps = bool(op.attributes.get("transposed", False))
    return bool(padding.any()) or bool(behind.any()) or kernel_overlaps
