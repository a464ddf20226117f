"""match/fingerprint.py: fingerprints of checkpoints, and of many networks of one graph at once. No file, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nfn_cli.checkpoint.finite import check_finite
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, Network
from nfn_cli.match.fingerprint_code import Fingerprint, codes
from nfn_cli.match.fingerprint_plan import Array, FingerprintPlan, plan_of
from nfn_cli.match.fingerprint_statistics import statistics
from nfn_cli.printable import printable

_BATCH_ENTRIES = 1 << 20


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
    maker = Fingerprinter(plan_of(networks, checkpoint.aliases))
    names = [tensor.name for tensor in maker.plan.tensors]
    if not names:
        raise Refused("no weights that a network reads", code="no-fingerprint")
    check_finite(checkpoint, names)
    (answer,) = maker.fingerprints({name: np.asarray(checkpoint.tensors[name])[None] for name in names})
    if answer is None:
        raise Refused("weights are too large for their squares", code="no-fingerprint")
    return answer
