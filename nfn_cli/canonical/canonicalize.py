"""canonical/canonicalize.py: the canonical member of an orbit, and the proof that it computes the same function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nfn_cli.canonical.batch_norm_folding import fold_batch_norms
from nfn_cli.canonical.norm_pairs import NormPair, norm_pairs
from nfn_cli.canonical.refinement import Refinement
from nfn_cli.canonical.scale import log_scales
from nfn_cli.canonical.scale_freedom import without_scale_freedom
from nfn_cli.checkpoint.finite import check_finite
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import AnswerIsNo, WrongUsage
from nfn_cli.graph.model import Network
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.check import outputs, relative_change
from nfn_cli.symmetry.element import FlatElement, GroupElement, from_flat, identity, to_flat
from nfn_cli.symmetry.solve import Symmetry, find_symmetry

SCALES = ("balanced", "unit", "pow2", "equalize", "none")

Tensors = Mapping[str, np.ndarray[Any, np.dtype[Any]]]


@dataclass(frozen=True, slots=True)
class _Precision:
    """What rounding does in one element type: to keys and scales, to outputs of a deep network, to phases.

    Attributes:
        phase: of a bias of some tens of turns, in half periods.
    """

    rounding: float
    outputs: float
    phase: float


_PRECISIONS = {
    "float64": _Precision(1e-11, 1e-9, 1e-9),
    "float32": _Precision(3e-7, 1e-4, 1e-5),
    "float16": _Precision(1e-3, 3e-2, 3e-2),
    "bfloat16": _Precision(8e-3, 2e-1, 1e-1),
}


@dataclass(frozen=True, slots=True)
class CanonicalOptions:
    """Which steps are taken (DESIGN 2.4).

    Attributes:
        scale: "balanced" (least Σ‖W‖²), "unit" (incoming norm 1), "pow2" (powers of two nearest to balanced),
            "equalize" (equal ranges on both sides, for quantization), "none".
        sign: whether signs (and the phases of sin) are settled.
        order: whether units are sorted.
        fold_batch_norm: whether layers take up the batch norms behind them first, whose tensors then are the identity
            (see `batch_norm_folding`). This leaves the orbit: it changes the network's form, not its function.
    """

    scale: str = "balanced"
    sign: bool = True
    order: bool = True
    fold_batch_norm: bool = False


@dataclass(frozen=True, slots=True)
class Canonicalized:
    """The result.

    Attributes:
        checkpoint: tensors are computed when they are read, in the dtypes of the input.
        element: the group element that leads from the input to it; with `fold_batch_norm`, from the folded input.
        relative_change: measured change of the outputs, float64 arithmetic on the stored weights.
        tolerance: what was allowed.
        notes: what the user should know.
    """

    checkpoint: Checkpoint
    element: GroupElement
    relative_change: float
    tolerance: float
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verification:
    """Whether two checkpoints compute the same function on random inputs."""

    relative_change: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return self.relative_change <= self.tolerance


def canonicalize(
    checkpoint: Checkpoint, networks: Sequence[Network], options: CanonicalOptions = CanonicalOptions()
) -> Canonicalized:
    """Bring a checkpoint into canonical form.

    Sorting units is not continuous in the weights, and no canonical order can be: to compare two checkpoints, match them
    instead of comparing their canonical forms.

    Raises:
        Refused: weights are not finite, or shapes disagree.
        AnswerIsNo: the result does not compute the same function within the precision of its element type
            (code "verification-failed"); for "pow2", a power of two would leave the range of the element type.
    """
    if options.scale not in SCALES:
        raise WrongUsage(f"unknown scale {options.scale!r}", fix=f"one of {', '.join(SCALES)}")
    check_finite(checkpoint, [name for network in networks for name in network.graph.parameter_shapes])
    way = way_to_form(checkpoint, networks, options)
    changed = way.result()
    if options.scale == "pow2":
        _check_exact(way.start, changed, way.symmetry, way.element)
    verification = verify(checkpoint, changed, networks)
    if not verification.passed:
        raise AnswerIsNo(
            f"the outputs would change by {verification.relative_change:.2g} (allowed {verification.tolerance:.2g})",
            where=checkpoint.path,
            fix="nothing was written; try --scale pow2 or none, or a wider element type",
            code="verification-failed",
        )
    return Canonicalized(changed, way.element, verification.relative_change, verification.tolerance, way.notes)


@dataclass(frozen=True)
class Way:
    """How a checkpoint comes into a form.

    Attributes:
        start: the input, or the input with its batch norms folded.
        symmetry: the group of its networks.
        element: what leads from `start` to the form.
        notes: what the user should know.
    """

    start: Checkpoint
    symmetry: Symmetry
    element: GroupElement
    notes: tuple[str, ...]

    def result(self) -> Checkpoint:
        """The form; its tensors are computed when they are read."""
        flat = to_flat(self.symmetry, self.element)
        view = TransformedTensors(self.start.tensors, self.start.aliases, self.symmetry, flat)
        return replace(self.start, tensors=view)


def way_to_form(checkpoint: Checkpoint, networks: Sequence[Network], options: CanonicalOptions) -> Way:
    """What `canonicalize` does, without the proof that the function stays."""
    notes = without_scale_freedom(networks) if options.scale == "equalize" else ()
    start, graphs = checkpoint, networks
    if options.fold_batch_norm:
        folded = fold_batch_norms(networks, checkpoint.tensors, checkpoint.aliases)
        start, graphs = checkpoint.with_tensors(folded.tensors), folded.networks
        notes = (*folded.notes, *notes)
    symmetry = find_symmetry(graphs, start.aliases)
    pairs = norm_pairs(graphs, start.aliases)[0] if options.scale == "equalize" else ()
    return Way(start, symmetry, canonical_element(symmetry, start.tensors, options, pairs), notes)


def canonical_element(
    symmetry: Symmetry, tensors: Tensors, options: CanonicalOptions, pairs: Sequence[NormPair] = ()
) -> GroupElement:
    """The group element that leads to the canonical form; no tensor is changed.

    Args:
        pairs: see `log_scales`.
    """
    precision = _precision(tensors, symmetry.actions)
    flat = identity(symmetry)
    logs = log_scales(symmetry, tensors, options.scale, pairs)
    # rounding of stored weights must not make a canonical form move again
    logs[np.abs(logs) < precision.rounding] = 0.0
    if len(logs):
        flat.scale[:] = np.exp(logs)[symmetry.classes["scale"]]
        if options.scale == "pow2":
            flat.scale[:] = np.exp2(np.round(np.log2(flat.scale)))
    state = Refinement(symmetry, tensors, flat, precision.rounding * 4, precision.phase)
    if options.sign and options.scale != "pow2":
        state.settle_phases()
    if options.sign or options.order:
        state.run(options.sign)
    scaled = from_flat(symmetry, flat)
    if not options.order:
        return scaled
    plain = identity(symmetry)
    sorting = FlatElement(state.order(), plain.scale, plain.sign, plain.shift)
    return from_flat(symmetry, sorting).after(scaled)


def verify(before: Checkpoint, after: Checkpoint, networks: Sequence[Network], *, seed: int = 0) -> Verification:
    """Run both sets of weights on the same random inputs, in float64."""
    change = 0.0
    for network in networks:
        old = outputs(network, before.tensors, seed)
        change = max(change, relative_change(old, outputs(network, after.tensors, seed)))
    names = [name for network in networks for name in network.graph.parameter_shapes]
    return Verification(change, _precision(before.tensors, names).outputs)


def output_tolerance(tensors: Tensors, names: Sequence[str]) -> float:
    """How far outputs may move, relatively, through rounding of these tensors' coarsest element type."""
    return _precision(tensors, names).outputs


def _precision(tensors: Tensors, names: Any) -> _Precision:
    found = [_PRECISIONS[tensors[name].dtype.name] for name in names if tensors[name].dtype.name in _PRECISIONS]
    return max(found, key=lambda precision: precision.rounding, default=_PRECISIONS["float64"])


def _check_exact(checkpoint: Checkpoint, changed: Checkpoint, symmetry: Symmetry, element: GroupElement) -> None:
    back = TransformedTensors(changed.tensors, checkpoint.aliases, symmetry, to_flat(symmetry, element.inverse()))
    for name in symmetry.actions:
        if not np.array_equal(back[name], checkpoint.tensors[name]):
            raise AnswerIsNo(
                f"a power of two takes {name} out of the range of {checkpoint.tensors[name].dtype.name}",
                where=checkpoint.path,
                fix="nothing was written; save the network in a wider element type first",
                code="verification-failed",
            )
