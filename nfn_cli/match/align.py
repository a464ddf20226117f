"""match/align.py: one checkpoint brought into another's frame: the closest member of its orbit. Knows alignment; writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from nfn_cli.canonical.canonicalize import verify
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import AnswerIsNo, WrongUsage
from nfn_cli.graph.model import Network
from nfn_cli.match.activation_matching import matched_units
from nfn_cli.match.alignment import Alignment, aligned
from nfn_cli.match.common_reading import untold
from nfn_cli.match.comparison import cost, distance
from nfn_cli.match.equivalent import Pair, paired
from nfn_cli.match.frame import Frame, Wide, framed
from nfn_cli.match.readings import LARGE, sign_families
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import FloatArray, GroupElement, to_flat

# A sweep that gains less than this part of the objective is the last one: what unrelated networks still gain is small change.
_GAIN = 2e-3
# Without scales, whose gains are slow, a search ends by itself soon.
_LITTLE = 1e-9
# Products of more multiplications than this are taken in single precision, until the networks turn out to be nearly the same.
_SINGLE = 1 << 22
_NEARLY = 1e-3


@dataclass(frozen=True)
class Aligned:
    """The result; nothing is written.

    Attributes:
        checkpoint: the same function as the input's, in the frame of the other; tensors are computed when they are read.
        element: leads from the input to it.
        objective: sum of squared differences to the other checkpoint, both in its balanced frame (or, where scales are kept, as
            they are given, running statistics left out).
        start: the same for the input in that frame, its units in the order they were given.
        trace: the objective after each step of the best run; it never increases.
        distance: see `match.comparison.Comparison`.
        relative_change, tolerance: how far the outputs moved, and might have.
        notes: what one of the files does not tell and was taken to be alike in both, see `match.common_reading`.
    """

    checkpoint: Checkpoint
    element: GroupElement
    objective: float
    start: float
    trace: tuple[float, ...]
    distance: float
    relative_change: float
    tolerance: float
    notes: tuple[str, ...] = ()


def align(
    checkpoint: Checkpoint,
    networks: Sequence[Network],
    to: Checkpoint,
    to_networks: Sequence[Network],
    *,
    restarts: int = 0,
    seed: int = 0,
    keep_scales: bool = False,
    correlations: Mapping[int, FloatArray] | None = None,
) -> Aligned:
    """Move a checkpoint along its orbit to where it agrees best with another of the same architecture.

    Both are compared in balanced scale, so that rescaled layers do not count more. Aligned is not the same as
    corresponding: of networks trained apart, units of one need have no counterpart in the other.

    Args:
        restarts: further searches from random elements; the best one counts.
        keep_scales: permutations, signs and phase counts only, and weights compared as they are, running statistics left out.
        correlations: of the responses of units to the same inputs, see `match.activation_matching`; units are then matched by
            them and not by weights, which settle scales and signs only.

    Raises:
        Refused: different architectures (code "different-architectures"), or weights that are not finite.
        AnswerIsNo: the result does not compute the same function within its element type (code "verification-failed").
    """
    if restarts < 0:
        raise WrongUsage("restarts cannot be negative", code="wrong-usage")
    if restarts and correlations is not None:
        raise WrongUsage("units that are matched by their responses are matched once: restarts change nothing")
    pair = paired(checkpoint, networks, to, to_networks)
    left, right = _frames(pair, keep_scales)
    weights = dict.fromkeys(right.tensors, 1.0)
    if keep_scales:
        weights |= dict.fromkeys(_statistics(networks) & set(weights), 0.0)
    given = None if correlations is None else matched_units(pair.symmetry, correlations)

    def searched(gain: float, single: int) -> Alignment:
        how = pair.symmetry, left, right, weights
        return aligned(
            *how, restarts=restarts, seed=seed, gain=gain, single=single, scales=not keep_scales, given=given
        )

    found = searched(_LITTLE if keep_scales else _GAIN, _SINGLE)
    if found.objective < _NEARLY * _squares(right.tensors, weights):
        found = searched(_LITTLE, LARGE)
    flat = to_flat(pair.symmetry, found.element)
    changed = replace(
        checkpoint, tensors=TransformedTensors(checkpoint.tensors, checkpoint.aliases, pair.symmetry, flat)
    )
    # of a network that its file does not tell whole what the other file tells of it holds
    told = [own if not untold(own.graph) else both for own, both in zip(networks, pair.networks, strict=True)]
    proof = verify(checkpoint, changed, told)
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
        distance(pair.symmetry, found.ours, right.tensors),
        proof.relative_change,
        proof.tolerance,
        pair.reading.note,
    )


def _frames(pair: Pair, keep_scales: bool) -> tuple[Frame, Frame]:
    scale = "none" if keep_scales else "balanced"
    # signs of single units are found beside their partners, at no cost; others have to start where both settle them
    signs = bool(len(pair.symmetry.classes["shift"])) or any(
        sign_families(pair.symmetry, number).shared for number in range(len(pair.symmetry.unit_sets))
    )
    one, other = (
        framed(pair.symmetry, side.tensors, pair.names, dead=False, scale=scale, signs=signs)
        for side in (pair.left, pair.right)
    )
    return one, other


def _squares(tensors: Wide, weights: Mapping[str, float]) -> float:
    return sum(weights[name] * float((array**2).sum()) for name, array in tensors.items())


def _statistics(networks: Sequence[Network]) -> set[str]:
    """Tensors that training measures and no gradient moves."""
    norms = [op for network in networks for op in network.graph.ops if op.kind == "batch_norm"]
    return {name for op in norms for role, name in op.parameters.items() if role.startswith("running_")}
