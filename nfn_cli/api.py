"""api.py: the Python API, rooms joined: what the commands call, and what `import nfn_cli` offers. No printing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nfn_cli.checkpoint import Checkpoint, load
from nfn_cli.errors import NfnError, WrongUsage
from nfn_cli.graph import NameOptions, Network, find_networks
from nfn_cli.printable import printable
from nfn_cli.symmetry import GroupElement, Report
from nfn_cli.symmetry import act as _act
from nfn_cli.symmetry import random_element as _random_element
from nfn_cli.symmetry import symmetry_report as _symmetry_report

if TYPE_CHECKING:
    from nfn_cli.canonical import Canonicalized, CanonicalOptions
    from nfn_cli.canonical.norms import NetworkNorms
    from nfn_cli.canonical.quantization_answer import Effect, QuantizationReport
    from nfn_cli.canonical.quantization_report import Form
    from nfn_cli.canonical.reduction import Reduced, ReduceOptions
    from nfn_cli.checkpoint import Saved
    from nfn_cli.checkpoint.digest import Digest
    from nfn_cli.match.align import Aligned
    from nfn_cli.match.barrier import Barrier
    from nfn_cli.match.diff_model import Difference
    from nfn_cli.match.equivalent import Equivalence
    from nfn_cli.match.fingerprint import Judged
    from nfn_cli.match.merge_result import Merged
    from nfn_cli.networks.inr import Coordinates
    from nfn_cli.predictors import Prediction
    from nfn_cli.predictors.inr_edit import Edited
    from nfn_cli.predictors.inr_predictor import InrAnswer
    from nfn_cli.symmetry.element import FloatArray
    from nfn_cli.zoo.inr_picture import Rendered


@dataclass(frozen=True)
class Model:
    """A checkpoint and the networks found in it."""

    checkpoint: Checkpoint
    networks: tuple[Network, ...]


def open_model(source: str | Path | Checkpoint | Model, options: NameOptions = NameOptions()) -> Model:
    """Read a checkpoint (unless it already is one) and find its networks.

    Raises:
        NfnError: the file or the network in it cannot be taken; the message says why and what would settle it.
    """
    if isinstance(source, Model):
        return source
    checkpoint = source if isinstance(source, Checkpoint) else load(source)
    try:
        return Model(checkpoint, find_networks(checkpoint, options))
    except NfnError as error:
        raise error.located(printable(checkpoint.path)) from None


def symmetry_report(
    source: str | Path | Checkpoint | Model, options: NameOptions = NameOptions(), *, seed: int = 0, elements: int = 3
) -> Report:
    """The symmetry group of a checkpoint, its size, and a numerical check; see `nfn_cli.symmetry.symmetry_report`."""
    model = open_model(source, options)
    with _located(model):
        return _symmetry_report(model.checkpoint, model.networks, seed=seed, elements=elements)


def weight_norms(
    source: str | Path | Checkpoint | Model, options: NameOptions = NameOptions()
) -> tuple[NetworkNorms, ...]:
    """Norms of each network, raw and orbit-invariant; see `nfn_cli.canonical.norms.weight_norms`."""
    from nfn_cli.canonical.norms import weight_norms as _weight_norms

    model = open_model(source, options)
    with _located(model):
        return _weight_norms(model.checkpoint, model.networks)


def canonicalize(
    source: str | Path | Checkpoint | Model,
    options: NameOptions = NameOptions(),
    form: CanonicalOptions | None = None,
) -> Canonicalized:
    """The canonical form of a checkpoint; see `nfn_cli.canonical.canonicalize`. Nothing is written."""
    from nfn_cli.canonical import CanonicalOptions
    from nfn_cli.canonical import canonicalize as _canonicalize

    model = open_model(source, options)
    with _located(model):
        return _canonicalize(model.checkpoint, model.networks, form or CanonicalOptions())


def reduce(
    source: str | Path | Checkpoint | Model,
    options: NameOptions = NameOptions(),
    how: ReduceOptions | None = None,
    *,
    writable: bool = True,
) -> Reduced:
    """A checkpoint without dead, constant and repeated units; see `nfn_cli.canonical.reduction.reduce`. Nothing is written."""
    from nfn_cli.canonical.reduction import ReduceOptions
    from nfn_cli.canonical.reduction import reduce as _reduce

    model = open_model(source, options)
    with _located(model):
        return _reduce(model.checkpoint, model.networks, how or ReduceOptions(), writable=writable)


def quantization_report(
    source: str | Path | Checkpoint | Model,
    options: NameOptions = NameOptions(),
    *,
    data: str | Path | None = None,
    bits: int = 8,
    pixels: tuple[float, float] = (-1.0, 1.0),
    rows: int = 1000,
) -> QuantizationReport:
    """What integer weights cost a checkpoint, as it is and in forms with the same function. Nothing is written.

    Args:
        data: inputs to run (see `nfn_cli.zoo.network_inputs`): then also what becomes of the outputs and of the accuracy.
        pixels: what 0 and 255 of images become.
        rows: inputs to run at most.
    """
    from nfn_cli.canonical import quantization_report as parts
    from nfn_cli.canonical.quantization_answer import QuantizationReport

    model = open_model(source, options)
    parts.check_bits(bits)
    with _located(model):
        forms = parts.forms_of(model.checkpoint, model.networks)
        found = parts.qualities(forms, model.networks, model.checkpoint.aliases, bits)
    effects, not_run = _effects(model, forms, data, bits, pixels, rows)
    notes = dict.fromkeys(note for form in forms for note in form.notes)
    return QuantizationReport(bits, found, effects, not_run, tuple(notes))


def _effects(
    model: Model,
    forms: tuple[Form, ...],
    data: str | Path | None,
    bits: int,
    pixels: tuple[float, float],
    rows: int,
) -> tuple[tuple[Effect | None, ...], tuple[str | None, ...]]:
    """For each network what rounding does to its outputs, or why it was not run."""
    if data is None:
        nothing = (None,) * len(model.networks)
        return nothing, nothing
    from nfn_cli.networks.quantized_outputs import effect, why_not_run
    from nfn_cli.zoo.network_inputs import read_inputs

    effects: list[Effect | None] = []
    reasons: list[str | None] = []
    for network in model.networks:
        shape = network.graph.inputs[0].shape if network.graph.inputs else ()
        inputs = read_inputs(data, channels=shape[1] if len(shape) == 4 else None, pixels=pixels, rows=rows)
        reasons.append(why_not_run(network, inputs.values))
        if reasons[-1] is not None:
            effects.append(None)
            continue
        with _located(model):
            effects.append(effect(network, forms, model.checkpoint.aliases, bits, inputs.values, inputs.labels))
    return tuple(effects), tuple(reasons)


def digest(
    source: str | Path | Checkpoint | Model,
    options: NameOptions = NameOptions(),
    *,
    modulo_symmetry: bool = False,
    names: bool = True,
) -> Digest:
    """A SHA-256 of the tensors, or of the rounded canonical form; see `checkpoint.digest`, `canonical.orbit_digest`."""
    if not modulo_symmetry:
        from nfn_cli.checkpoint.digest import digest as _digest

        given = source.checkpoint if isinstance(source, Model) else source
        checkpoint = given if isinstance(given, Checkpoint) else load(given)
        try:
            return _digest(checkpoint, names=names)
        except NfnError as error:
            raise error.located(printable(checkpoint.path)) from None
    from nfn_cli.canonical.orbit_digest import orbit_digest

    model = open_model(source, options)
    with _located(model):
        return orbit_digest(model.checkpoint, model.networks, names=names)


def fingerprint(source: str | Path | Checkpoint | Model, options: NameOptions = NameOptions()) -> Judged:
    """A short code that the group leaves alone, and whether it survives float16; see `nfn_cli.match.fingerprint`."""
    from nfn_cli.match.fingerprint import judged_fingerprint

    model = open_model(source, options)
    with _located(model):
        return judged_fingerprint(model.checkpoint, model.networks)


def equivalent(
    left: str | Path | Checkpoint | Model,
    right: str | Path | Checkpoint | Model,
    options: NameOptions = NameOptions(),
    *,
    tolerance: float | None = None,
) -> Equivalence:
    """Whether two checkpoints are one network up to its symmetry group; see `nfn_cli.match.equivalent.equivalent`."""
    from nfn_cli.match.equivalent import equivalent as _equivalent

    one, other = open_model(left, options), open_model(right, options)
    return _equivalent(one.checkpoint, one.networks, other.checkpoint, other.networks, tolerance=tolerance)


def diff(
    left: str | Path | Checkpoint | Model,
    right: str | Path | Checkpoint | Model,
    options: NameOptions = NameOptions(),
    *,
    tolerance: float | None = None,
) -> Difference:
    """What became of each unit between two networks of one architecture up to widths; see `nfn_cli.match.diff.diff`."""
    from nfn_cli.match.diff import diff as _diff

    one, other = open_model(left, options), open_model(right, options)
    return _diff(one.checkpoint, one.networks, other.checkpoint, other.networks, tolerance=tolerance)


def align(
    source: str | Path | Checkpoint | Model,
    to: str | Path | Checkpoint | Model,
    options: NameOptions = NameOptions(),
    *,
    restarts: int = 0,
    seed: int = 0,
    keep_scales: bool = False,
    data: str | Path | None = None,
    pixels: tuple[float, float] = (-1.0, 1.0),
    rows: int = 1000,
) -> Aligned:
    """A checkpoint in another's frame, the same function; see `nfn_cli.match.align.align`. Nothing is written.

    Args:
        keep_scales: rescale nothing, and compare weights as they are.
        data: inputs (see `nfn_cli.zoo.network_inputs`) by the responses to which units are matched, instead of by weights.
        pixels: what 0 and 255 of images become.
        rows: inputs to run at most.
    """
    from nfn_cli.match.align import align as _align

    model, other = open_model(source, options), open_model(to, options)
    ours, theirs = (model.checkpoint, model.networks), (other.checkpoint, other.networks)
    correlations = None if data is None else _correlations(model, other, data, pixels, rows)
    return _align(*ours, *theirs, restarts=restarts, seed=seed, keep_scales=keep_scales, correlations=correlations)


def _correlations(
    model: Model, other: Model, data: str | Path, pixels: tuple[float, float], rows: int
) -> dict[int, FloatArray]:
    from nfn_cli.match.equivalent import paired
    from nfn_cli.networks.unit_correlations import unit_correlations
    from nfn_cli.zoo.network_inputs import read_inputs

    pair = paired(model.checkpoint, model.networks, other.checkpoint, other.networks)
    inputs = []
    for network in model.networks:
        shape = network.graph.inputs[0].shape if network.graph.inputs else ()
        channels = shape[1] if len(shape) == 4 else None
        inputs.append(read_inputs(data, channels=channels, pixels=pixels, rows=rows).values)
    with _located(model):
        return unit_correlations(pair, inputs)


def merge(
    sources: Sequence[str | Path | Checkpoint | Model],
    options: NameOptions = NameOptions(),
    *,
    weights: Sequence[float] | None = None,
    data: str | Path | None = None,
    batch_norm_data: str | Path | None = None,
    batch_norm: str = "recompute",
    pixels: tuple[float, float] = (-1.0, 1.0),
    rows: int = 1000,
    rounds: int = 10,
    match: str = "weights",
    restarts: int = 0,
    seed: int = 0,
) -> Merged:
    """The weighted mean of aligned networks; see `nfn_cli.match.merge.merge`. Nothing is written.

    Args:
        data: inputs to run (see `nfn_cli.zoo.network_inputs`), on which batch norm statistics are measured; with labels,
            loss and accuracy too.
        batch_norm_data: other inputs for the statistics.
        batch_norm: "recompute" (where there are data) or "average".
        pixels: what 0 and 255 of images become.
        rows: inputs to run at most.
        match: "weights", or "activations": match units by their responses to the inputs for the statistics; then no network
            is aligned to the mean of others.
    """
    from nfn_cli.match.merge import Source
    from nfn_cli.match.merge import merge as _merge
    from nfn_cli.zoo.networks_on_data import DataSet, merged_on

    if data is None and batch_norm_data is not None:
        raise WrongUsage("batch norm data without data", fix="--data alone is enough")
    shown = None if data is None else DataSet(data, batch_norm_data, batch_norm, pixels, rows)
    models = [open_model(source, options) for source in sources]
    responding = _matched_on(match, batch_norm_data or data)
    correlations = (
        None
        if responding is None
        else [_correlations(model, models[0], responding, pixels, rows) for model in models[1:]]
    )
    merged = _merge(
        [Source(model.checkpoint, model.networks) for model in models],
        weights=weights,
        rounds=rounds,
        restarts=restarts,
        seed=seed,
        correlations=correlations,
    )
    if shown is None:
        return merged
    with _located(models[0]):
        return merged_on(merged, models[0].networks, shown)


def _matched_on(match: str, data: str | Path | None) -> str | Path | None:
    """The inputs by whose responses units are matched; None: by weights.

    Raises:
        WrongUsage: an unknown way, or no data.
    """
    if match not in ("weights", "activations"):
        raise WrongUsage(f"unknown value {printable(match)!r}", where="--match", fix="weights or activations")
    if match == "activations" and data is None:
        raise WrongUsage("responses need inputs", where="--match", fix="name them with --data")
    return data if match == "activations" else None


def barrier(
    left: str | Path | Checkpoint | Model,
    right: str | Path | Checkpoint | Model,
    options: NameOptions = NameOptions(),
    *,
    data: str | Path,
    batch_norm_data: str | Path | None = None,
    batch_norm: str = "recompute",
    points: int = 11,
    pixels: tuple[float, float] = (-1.0, 1.0),
    rows: int = 1000,
    match: str = "weights",
    restarts: int = 0,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Barrier:
    """Loss on the straight line between two networks, as they are and aligned; see `nfn_cli.match.barrier`.

    Args:
        points: networks on each line, both ends with them.
        data, batch_norm_data, batch_norm, pixels, rows, match: as for `merge`; statistics are measured at every point.
        progress: is told how many of how many networks on the lines were run.
    """
    from nfn_cli.match.barrier import Barrier, shares_of
    from nfn_cli.match.pairing import Renamed, partners
    from nfn_cli.zoo.networks_on_data import DataSet, curves_on

    shares = shares_of(points)
    shown = DataSet(data, batch_norm_data, batch_norm, pixels, rows)
    one, other = open_model(left, options), open_model(right, options)
    responding = _matched_on(match, batch_norm_data or data)
    done = align(other, one, restarts=restarts, seed=seed, data=responding, pixels=pixels, rows=rows)
    found_there = partners(one.networks, other.networks)
    given, moved = (Renamed(each.tensors, found_there) for each in (other.checkpoint, done.checkpoint))
    with _located(one):
        found = curves_on(one.networks, one.checkpoint.tensors, given, moved, shares, shown, progress)
    return Barrier(shares, found, done.objective, done.start, done.distance)


def act(
    element: GroupElement,
    source: str | Path | Checkpoint | Model,
    options: NameOptions = NameOptions(),
    *,
    inverse: bool = False,
) -> Checkpoint:
    """The checkpoint after a group element (or its inverse). Nothing is written."""
    model = open_model(source, options)
    with _located(model):
        return _act(element, model.checkpoint, model.networks, inverse=inverse)


def random_element(
    source: str | Path | Checkpoint | Model, options: NameOptions = NameOptions(), *, seed: int = 0
) -> GroupElement:
    """A random element of a checkpoint's symmetry group."""
    model = open_model(source, options)
    return _random_element(model.checkpoint, model.networks, seed=seed)


def predict_generalization(
    source: str | Path | Checkpoint | Model,
    options: NameOptions = NameOptions(),
    *,
    predictor: str | None = None,
    model: str | None = None,
) -> Prediction:
    """Predicted test accuracy with its interval; see `nfn_cli.predictors.predict_generalization`."""
    (answer,) = predict_many([open_model(source, options)], predictor=predictor, model=model)
    if isinstance(answer, NfnError):
        raise answer
    return answer


def predict_many(
    models: Iterable[Model], *, predictor: str | None = None, model: str | None = None
) -> list[Prediction | NfnError]:
    """Predictions for many models, batched; a refused one stands as its error in its place."""
    from nfn_cli.predictors import predict_many as _predict_many

    models = list(models)
    answers = _predict_many([(each.checkpoint, each.networks) for each in models], predictor, model)
    return [
        answer.located(printable(each.checkpoint.path)) if isinstance(answer, NfnError) else answer
        for each, answer in zip(models, answers, strict=True)
    ]


def render_inr(
    source: str | Path | Checkpoint | Model,
    options: NameOptions = NameOptions(),
    *,
    size: tuple[int, int] | None = None,
    coordinates: Coordinates | None = None,
    pixels: tuple[float, float] | None = None,
) -> Rendered:
    """What an INR shows, as bytes; see `nfn_cli.zoo.inr_picture.rendered`. Nothing is written."""
    from nfn_cli.zoo.inr_picture import rendered

    model = open_model(source, options)
    with _located(model):
        return rendered(model.checkpoint, model.networks, size=size, coordinates=coordinates, pixels=pixels)


def edit_inr(
    source: str | Path | Checkpoint | Model,
    editor: str | Path,
    options: NameOptions = NameOptions(),
    *,
    size: tuple[int, int] | None = None,
    coordinates: Coordinates | None = None,
    pixels: tuple[float, float] | None = None,
) -> Edited:
    """An INR with weights that show an edited picture; see `nfn_cli.predictors.inr_edit.edit_inr`. Nothing is written.

    Args:
        editor: a shipped editor, such as "inr-edit-dilate", or a folder with editor.json.
    """
    from nfn_cli.predictors.inr_edit import edit_inr as _edit_inr
    from nfn_cli.predictors.inr_edit import load_editor

    loaded, model = load_editor(str(editor)), open_model(source, options)
    with _located(model):
        return _edit_inr(model.checkpoint, model.networks, loaded, size=size, coordinates=coordinates, pixels=pixels)


def classify_inrs(
    models: Iterable[Model],
    *,
    predictor: str | None = None,
    model: str | None = None,
    coordinates: Coordinates | None = None,
) -> list[InrAnswer | NfnError]:
    """What INRs show, batched; a refused one stands as its error. See `nfn_cli.predictors.inr_classify.classify_many`."""
    from nfn_cli.predictors.inr_classify import classify_many

    models = list(models)
    answers = classify_many([(each.checkpoint, each.networks) for each in models], predictor, model, coordinates)
    return [
        answer.located(printable(each.checkpoint.path)) if isinstance(answer, NfnError) else answer
        for each, answer in zip(models, answers, strict=True)
    ]


def save(checkpoint: Checkpoint, out: str | Path, *, force: bool = False) -> Saved:
    """Write a checkpoint in its own container; see `nfn_cli.checkpoint.save`."""
    from nfn_cli.checkpoint import save as _save

    return _save(checkpoint, out, force=force)


class _located:
    """Put the checkpoint's path before the place an error names."""

    def __init__(self, model: Model) -> None:
        self.path = printable(model.checkpoint.path)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, NfnError) and not error.where.startswith(self.path):
            raise error.located(self.path) from None


__all__ = [
    "Model",
    "NameOptions",
    "act",
    "align",
    "barrier",
    "canonicalize",
    "classify_inrs",
    "diff",
    "digest",
    "edit_inr",
    "equivalent",
    "load",
    "merge",
    "open_model",
    "predict_generalization",
    "predict_many",
    "quantization_report",
    "random_element",
    "reduce",
    "render_inr",
    "save",
    "symmetry_report",
    "weight_norms",
]
