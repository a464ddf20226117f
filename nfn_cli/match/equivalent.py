"""match/equivalent.py: whether two checkpoints are one network up to the whole group, with the element that says so.

A negative answer means "not related by the group", never "a different function". Knows alignment; no file, no command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nfn_cli.canonical.canonicalize import output_tolerance
from nfn_cli.checkpoint.finite import check_finite
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.graph.model import Network
from nfn_cli.match.alignment import Alignment, aligned
from nfn_cli.match.common_reading import CommonReading, common_reading
from nfn_cli.match.comparison import Comparison, compared, even_weights
from nfn_cli.match.frame import Frame, Wide, dead_units, framed
from nfn_cli.match.pairing import Renamed, partners
from nfn_cli.printable import printable
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.check import outputs, relative_change
from nfn_cli.symmetry.element import GroupElement, to_flat
from nfn_cli.symmetry.solve import Symmetry, find_symmetry
from nfn_cli.symmetry.unit_set import UnitSet

# A few roundings of one entry, in units of the element type's step; nothing finer than float32 is asked for.
_STEPS = {"float16": 2.0, "bfloat16": 2.0}
_FLOAT32_TOLERANCE = 5e-6
# On the way to a related network a sweep gains nearly all there is; slow gains are those of scales between unrelated ones.
_GAIN = 0.05
_STEP_SIZE = {"float16": 2.0**-10, "bfloat16": 2.0**-7}


@dataclass(frozen=True)
class Equivalence:
    """The answer.

    Attributes:
        equivalent: whether some element brings the left weights to the right ones within `tolerance`.
        reason: why not ("" if they are): "not related by the group", or what makes the architectures differ.
        residual: see `match.comparison.Comparison`, after the best element found; units are compared one by one where the
            tolerance is the default and no tensor float16. None for different architectures.
        distance: Euclidean distance after it over the norm, tensors counted evenly; None for different architectures.
        worst_tensor: where the residual is.
        tolerance: what was allowed.
        element: from the left weights to the right ones, as closely as was found; None for different architectures.
        output_difference: relative difference of the outputs on random inputs, ours after the element; None if not run.
        original_output_difference: the same for the weights as they were given.
        dead_left_out: whether what feeds dead units was not compared.
        unit_sets: what the element acts on.
        assumed: what one of the files does not tell of the network's function (strides, pooling) and is taken to be alike in
            both: the answer holds under that condition, and only what all readings allow was tried.
    """

    equivalent: bool
    reason: str
    residual: float | None
    distance: float | None
    worst_tensor: str
    tolerance: float
    element: GroupElement | None
    output_difference: float | None
    original_output_difference: float | None
    dead_left_out: bool
    unit_sets: tuple[UnitSet, ...] = ()
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pair:
    """Two checkpoints of one architecture, their tensors under one set of names.

    Attributes:
        left, right: checkpoints; the right one's tensors under the left one's names.
        networks: of the left one, in the reading that both are known to have.
        names: tensors that the networks use, shared ones once.
        reading: what the networks of both are taken for.
    """

    left: Checkpoint
    right: Checkpoint
    networks: tuple[Network, ...]
    symmetry: Symmetry
    names: tuple[str, ...]
    reading: CommonReading

    def frames(self, dead: bool) -> tuple[Frame, Frame]:
        one, other = (framed(self.symmetry, each.tensors, self.names, dead) for each in (self.left, self.right))
        return one, other

    def moved(self, element: GroupElement) -> TransformedTensors:
        """The left tensors after the element, in float64."""
        flat = to_flat(self.symmetry, element)
        return TransformedTensors(self.left.tensors, self.left.aliases, self.symmetry, flat, np.float64)

    def output_difference(self, element: GroupElement | None) -> float | None:
        """Relative difference of outputs on random inputs; None where the networks cannot be run."""
        tensors = self.left.tensors if element is None else self.moved(element)
        try:
            return max(
                (
                    relative_change(outputs(network, self.right.tensors, 0), outputs(network, tensors, 0))
                    for network in self.networks
                ),
                default=0.0,
            )
        except Refused:
            return None


def paired(
    left: Checkpoint, left_networks: Sequence[Network], right: Checkpoint, right_networks: Sequence[Network]
) -> Pair:
    """Put two checkpoints side by side.

    Raises:
        Refused: different architectures, or weights that are not finite.
    """
    try:
        reading = common_reading(left_networks, right_networks)
        found = partners(reading.left, reading.right)
    except Refused as error:
        raise error.located(f"{printable(left.path)}, {printable(right.path)}") from None
    names = {ours: partner.name for ours, partner in found.items()}
    shared = {left.aliases.get(n, n): right.aliases.get(names[n], names[n]) for n in names}
    if any(shared[left.aliases.get(n, n)] != right.aliases.get(names[n], names[n]) for n in names):
        raise Refused("tensors are shared in one checkpoint only", code="different-architectures")
    for checkpoint, used in ((left, list(names)), (right, list(names.values()))):
        try:
            check_finite(checkpoint, used)
        except Refused as error:
            raise error.located(printable(checkpoint.path)) from None
    renamed = replace(right, tensors=Renamed(right.tensors, found))
    symmetry = find_symmetry(reading.left, left.aliases)
    return Pair(left, renamed, reading.left, symmetry, tuple(shared), reading)


def default_tolerance(pair: Pair) -> float:
    """What rounding to the coarsest element type of the two may do to an entry."""
    steps = (_STEPS[kind] * _STEP_SIZE[kind] for kind in _element_types(pair) if kind in _STEPS)
    return max([_FLOAT32_TOLERANCE, *steps])


def _element_types(pair: Pair) -> set[str]:
    return {side.tensors[name].dtype.name for side in (pair.left, pair.right) for name in pair.names}


def equivalent(
    left: Checkpoint,
    left_networks: Sequence[Network],
    right: Checkpoint,
    right_networks: Sequence[Network],
    *,
    tolerance: float | None = None,
) -> Equivalence:
    """Decide equality modulo permutations, scales, signs and phases, by matching.

    Units that nothing reads are not compared, as far as the outputs bear that out; repeated units may stand in for each
    other. `tolerance` bounds the residual; by default what rounding to the coarsest element type does.

    Raises:
        Refused: weights are not finite.
        WrongUsage: the tolerance is not a positive number.
    """
    if tolerance is not None and not tolerance > 0:
        raise WrongUsage("the tolerance must be a positive number", code="wrong-usage")
    try:
        pair = paired(left, left_networks, right, right_networks)
    except Refused as refusal:
        if refusal.code != "different-architectures":
            raise
        _check_reading(left_networks, right_networks, refusal)
        allowed = _FLOAT32_TOLERANCE if tolerance is None else tolerance
        return Equivalence(False, refusal.what, None, None, "", allowed, None, None, None, False)
    allowed = default_tolerance(pair) if tolerance is None else tolerance
    # by default noise is rounding, which is relative down to where float16 ends
    by_unit = tolerance is None and "float16" not in _element_types(pair)
    found, difference, comparison = _matched(pair, allowed, dead=True, by_unit=by_unit)
    without_dead = True
    outside = difference is None or difference > output_limit(pair, allowed)
    if comparison.residual <= allowed and outside and _has_dead(pair):
        # norms over all units read dead ones too: then they have to agree as well
        found, difference, comparison = _matched(pair, allowed, dead=False, by_unit=by_unit)
        without_dead = False
    related = comparison.residual <= allowed
    return Equivalence(
        related,
        "" if related else "not related by the group",
        comparison.residual,
        comparison.distance,
        comparison.tensor,
        allowed,
        found.element,
        difference,
        pair.output_difference(None),
        without_dead and _has_dead(pair),
        pair.symmetry.unit_sets,
        pair.reading.assumed,
    )


def _check_reading(left: Sequence[Network], right: Sequence[Network], refusal: Refused) -> None:
    """Equal tensors under different graphs say that one file tells more of its network than the other."""
    shapes = [
        {n: tuple(s) for net in networks for n, s in net.graph.parameter_shapes.items()} for networks in (left, right)
    ]
    activations = [[network.activation for network in networks] for networks in (left, right)]
    if shapes[0] == shapes[1] and activations[0] == activations[1]:
        raise Refused(
            f"the same tensors were read as different networks: {refusal.what.partition(': ')[2]}",
            fix="say how to read both, with --pooling, --residual, --concat, --omega or --arch",
            code="read-differently",
        )


def output_limit(pair: Pair, allowed: float) -> float:
    """How far outputs may be apart where weights agree within the tolerance."""
    return max(output_tolerance(side.tensors, pair.names) for side in (pair.left, pair.right)) + 100 * allowed


def _matched(pair: Pair, allowed: float, dead: bool, by_unit: bool) -> tuple[Alignment, float | None, Comparison]:
    left, right = pair.frames(dead)

    def measured(ours: Wide) -> Comparison:
        return compared(pair.symmetry, ours, right.tensors, by_unit=by_unit)

    found = aligned(
        pair.symmetry,
        left,
        right,
        even_weights(left.tensors, right.tensors),
        restarts=0,
        enough=lambda ours: measured(ours).residual <= allowed / 4,
        gain=_GAIN,
    )
    return found, pair.output_difference(found.element), measured(found.ours)


def _has_dead(pair: Pair) -> bool:
    return any(
        bool(dead_units(pair.symmetry, {n: np.asarray(side.tensors[n]) for n in pair.names}).any())
        for side in (pair.left, pair.right)
    )
