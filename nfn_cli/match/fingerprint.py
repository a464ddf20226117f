"""match/fingerprint.py: fingerprints of checkpoints, and of many networks of one graph at once. No file, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from nfn_cli.checkpoint.finite import check_finite
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, Network
from nfn_cli.match.fingerprint_code import Fingerprint, codes
from nfn_cli.match.fingerprint_plan import Array, FingerprintPlan, plan_of
from nfn_cli.match.fingerprint_statistics import statistics
from nfn_cli.printable import printable

Found = TypeVar("Found")

_BATCH_ENTRIES = 1 << 20
_SMALLEST_NORMAL = 2.0**-14  # of float16


@dataclass(frozen=True, slots=True)
class Judged:
    """A fingerprint, and whether it may be trusted to survive half precision.

    Attributes:
        reliable: false where a float16 copy of these very tensors has another code, because most of what some tensor holds
            is too small for that type.
    """

    code: Fingerprint
    reliable: bool


@dataclass(frozen=True, eq=False)
class Fingerprinter:
    """Fingerprints of networks that all have one graph."""

    plan: FingerprintPlan

    @staticmethod
    def of(networks: Sequence[Network]) -> Fingerprinter:
        """For the networks of one checkpoint, or every row of a family.

        Raises:
            Refused: shapes disagree.
        """
        return Fingerprinter(plan_of(networks))

    @staticmethod
    def of_graph(graph: Graph) -> Fingerprinter:
        return Fingerprinter.of([Network("", "", graph)])

    def codes_and_usable(self, tensors: Mapping[str, Array]) -> tuple[Array, Array]:
        """Many codes at once.

        Args:
            tensors: name -> (networks, *shape of that tensor), of any float type; names that no op reads may be there too.

        Returns:
            (networks, 32) uint8 bits of the fingerprints; and (networks,) whether they mean anything: false where weights
            are not finite, or too large for their squares to be.

        Raises:
            Refused: a tensor is missing or has another shape (code "shape-mismatch").
        """
        count = self._rows(tensors)
        size = sum(int(np.prod(t.shape)) for t in self.plan.tensors)
        step = max(1, _BATCH_ENTRIES // max(1, size))
        out, usable = np.zeros((count, 32), np.uint8), np.zeros(count, bool)
        for start in range(0, count, step):
            piece = slice(start, start + step)
            with np.errstate(all="ignore"):
                found = statistics(self.plan, {t.name: tensors[t.name][piece] for t in self.plan.tensors})
            good: Array = np.asarray(np.isfinite(found).all(axis=1))
            out[piece], usable[piece] = codes(np.where(good[:, None], found, 0.0)), good
        return out, usable

    def fingerprints(self, tensors: Mapping[str, Array]) -> list[Fingerprint | None]:
        """One for each network; None where `codes_and_usable` finds it not usable."""
        rows, usable = self.codes_and_usable(tensors)
        return [
            Fingerprint(self.plan.architecture, row.tobytes()) if good else None
            for row, good in zip(rows, usable, strict=True)
        ]

    def judged(self, tensors: Mapping[str, Array]) -> list[Judged | None]:
        """As `fingerprints`, with a judgement."""
        found = self.fingerprints(tensors)
        read = {t.name: np.asarray(tensors[t.name]) for t in self.plan.tensors}
        faint = np.flatnonzero(np.logical_or.reduce([_is_faint(array) for array in read.values()]))
        reliable = [True] * len(found)
        if len(faint):
            with np.errstate(over="ignore"):
                copies = self.fingerprints({name: array[faint].astype(np.float16) for name, array in read.items()})
            for row, copy in zip(faint.tolist(), copies, strict=True):
                code = found[row]
                # weights too large for float16 have no such copy that could be mistaken
                reliable[row] = copy is None or (code is not None and code.same_network(copy))
        return [None if code is None else Judged(code, good) for code, good in zip(found, reliable, strict=True)]

    def _rows(self, tensors: Mapping[str, Array]) -> int:
        counts = {len(tensors[t.name]) for t in self.plan.tensors if t.name in tensors}
        for tensor in self.plan.tensors:
            found = tensors.get(tensor.name)
            if found is None or (found.shape[1:] or (1,)) != tensor.shape or len(counts) != 1:
                shape = ", ".join(map(str, tensor.shape))
                raise Refused(f"needs {printable(tensor.name)} as (networks, {shape})", code="shape-mismatch")
        return counts.pop() if counts else 0


def fingerprint(checkpoint: Checkpoint, networks: Sequence[Network]) -> Fingerprint:
    """The fingerprint of all networks of one checkpoint together.

    Raises:
        Refused: no network, weights are not finite, or shapes disagree.
    """
    maker = _maker(checkpoint, networks)
    return _the_one(maker.fingerprints(_stacked(maker, checkpoint)))


def judged_fingerprint(checkpoint: Checkpoint, networks: Sequence[Network]) -> Judged:
    """The same, with a judgement.

    Raises:
        Refused: as `fingerprint`.
    """
    maker = _maker(checkpoint, networks)
    return _the_one(maker.judged(_stacked(maker, checkpoint)))


def _maker(checkpoint: Checkpoint, networks: Sequence[Network]) -> Fingerprinter:
    maker = Fingerprinter(plan_of(networks, checkpoint.aliases))
    names = [tensor.name for tensor in maker.plan.tensors]
    if not names:
        raise Refused("no weights that a network reads", code="no-fingerprint")
    check_finite(checkpoint, names)
    return maker


def _stacked(maker: Fingerprinter, checkpoint: Checkpoint) -> dict[str, Array]:
    return {tensor.name: np.asarray(checkpoint.tensors[tensor.name])[None] for tensor in maker.plan.tensors}


def _the_one(found: Sequence[Found | None]) -> Found:
    (answer,) = found
    if answer is None:
        raise Refused("weights are too large for their squares", code="no-fingerprint")
    return answer


def _is_faint(array: Array) -> Array:
    """(rows, …) -> (rows,) whether the root mean square is below the smallest normal number of float16, and not 0."""
    flat = array.reshape(len(array), -1)
    total, step = np.zeros(len(flat)), max(1, _BATCH_ENTRIES // max(1, len(flat)))
    for start in range(0, flat.shape[1], step):
        total += np.square(flat[:, start : start + step].astype(np.float64)).sum(axis=1)
    return np.asarray((total > 0) & (total < flat.shape[1] * _SMALLEST_NORMAL**2))
