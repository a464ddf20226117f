"""match/align.py: one checkpoint brought into another's frame: the closest member of its orbit. Knows alignment; writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nfn_cli.canonical.canonicalize import verify
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import AnswerIsNo, WrongUsage
from nfn_cli.graph.model import Network
from nfn_cli.match.alignment import aligned
from nfn_cli.match.comparison import compared, cost
from nfn_cli.match.equivalent import paired
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import GroupElement, to_flat


@dataclass(frozen=True)
class Aligned:
    """The result; nothing is written.

    Attributes:
        checkpoint: the same function as the input's, in the frame of the other; tensors are computed when they are read.
        element: leads from the input to it.
        objective: sum of squared differences to the other checkpoint, both in its balanced frame.
        start: the same for the input in balanced form, its units in the order they were given.
        trace: the objective after each step of the best run; it never increases.
        distance: see `match.comparison.Comparison`.
        relative_change, tolerance: how far the outputs moved, and might have.
    """

    checkpoint: Checkpoint
    element: GroupElement
    objective: float
    start: float
    trace: tuple[float, ...]
    distance: float
    relative_change: float
    tolerance: float


def align(
    checkpoint: Checkpoint,
    networks: Sequence[Network],
    to: Checkpoint,
    to_networks: Sequence[Network],
    *,
    restarts: int = 0,
    seed: int = 0,
) -> Aligned:
    """Move a checkpoint along its orbit to where it agrees best with another of the same architecture.

    Both are compared in balanced scale, so that rescaled layers do not count more. Aligned is not the same as
    corresponding: of networks trained apart, units of one need have no counterpart in the other.

    Raises:
        Refused: different architectures (code "different-architectures"), or weights that are not finite.
        AnswerIsNo: the result does not compute the same function within its element type (code "verification-failed").
    """
    if restarts < 0:
        raise WrongUsage("restarts cannot be negative", code="wrong-usage")
    pair = paired(checkpoint, networks, to, to_networks)
    left, right = pair.frames(dead=False)
    weights = dict.fromkeys(right.tensors, 1.0)
    found = aligned(pair.symmetry, left, right, weights, restarts=restarts, seed=seed)
    flat = to_flat(pair.symmetry, found.element)
    changed = replace(
        checkpoint, tensors=TransformedTensors(checkpoint.tensors, checkpoint.aliases, pair.symmetry, flat)
    )
    proof = verify(checkpoint, changed, networks)
    if not proof.passed:
        raise AnswerIsNo(
            f"the outputs would change by {proof.relative_change:.2g} (allowed {proof.tolerance:.2g})",
            where=checkpoint.path,
            fix="nothing was written",
            code="verification-failed",
        )
    return Aligned(
        changed,
        found.element,
        found.objective,
        cost(left.tensors, right.tensors, weights),
        found.trace,
        compared(pair.symmetry, found.ours, right.tensors).distance,
        proof.relative_change,
        proof.tolerance,
    )
