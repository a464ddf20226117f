"""symmetry/extras/proof.py: do random members of the extras keep the outputs? One run for all; one by one only where that fails."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nfn_cli.symmetry.extras.extra import Extra, Tensors, applied

# tensors -> largest relative change of the outputs
Change = Callable[[Tensors], float]


@dataclass(frozen=True, eq=False)
class Proof:
    """Attributes:
    kept: extras that the run did not refute.
    refuted: extras that changed the outputs: errors of the rules, not counted.
    relative_change: largest change under the kept ones; None where the network cannot be run.
    """

    kept: tuple[Extra, ...]
    refuted: tuple[Extra, ...]
    relative_change: float | None


def proved(extras: Sequence[Extra], tensors: Tensors, seed: int, change: Change, tolerance: float) -> Proof:
    """Split the extras into those that keep the outputs and those that do not."""
    if not extras:
        return Proof((), (), 0.0)
    together = change(applied(extras, tensors, seed))
    if together <= tolerance:
        return Proof(tuple(extras), (), together)
    if len(extras) == 1:
        return Proof((), tuple(extras), 0.0)
    half = len(extras) // 2
    left, right = (proved(part, tensors, seed, change, tolerance) for part in (extras[:half], extras[half:]))
    kept = (*left.kept, *right.kept)
    return Proof(kept, (*left.refuted, *right.refuted), max(left.relative_change or 0.0, right.relative_change or 0.0))
