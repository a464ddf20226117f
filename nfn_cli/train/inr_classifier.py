"""train/inr_classifier.py: from zoos of INRs to a classifier. Knows recipes, INR data and the harness.

Networks follow the split of their images. One output stands for "none of these": it is trained on the same networks
with their entries shuffled, on networks before any training, and on INRs of other images, and is the in-distribution test.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nfn_cli.errors import WrongUsage
from nfn_cli.graph.model import Graph
from nfn_cli.networks.inr import ORDERS, Coordinates, inr_channels
from nfn_cli.networks.inr_pixels import Pixels
from nfn_cli.networks.monomial_nfn import parameter_count
from nfn_cli.predictors.inr_card import INR_MODELS, InrCard
from nfn_cli.predictors.inr_predictor import InrPredictor, assemble_inr, read_outputs, tensors_of_inr
from nfn_cli.predictors.kinds.inr import InrEncoder, ProbeReader
from nfn_cli.train.contrast import shuffled
from nfn_cli.train.harness import Examples, TrainConfig, classes, fit, json_log, outputs
from nfn_cli.train.inr_augment import InrAugment
from nfn_cli.train.inr_data import InrData, in_validation, load_inrs
from nfn_cli.train.inr_measure import alarms, fitted_temperature, parts_of, scores_of
from nfn_cli.train.inr_probe_learning import InrProbeLearning, learned_probes
from nfn_cli.train.inr_recipes import INR_RECIPES, InrRecipe
from nfn_cli.train.inr_untrained import untrained_sines
from nfn_cli.zoo.images import ImageSet, read_images

Array = np.ndarray[Any, np.dtype[Any]]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class InrClassifierConfig:
    """All settings of a classifier, beside its recipe.

    Attributes:
        model: a key of INR_RECIPES.
        images: where the zoo's images lie; for models that are shown images, too.
        outside: zoos of INRs of other images.
        labels: names of the classes; none: their numbers.
        epochs: of the member; None for the recipe's.
        architecture: in place of entries of the recipe's.
        exchanged: share of training networks shown with rows and columns exchanged; 0 makes a classifier that takes the
            order of coordinates as it is given.
        mirrored: share shown mirrored.
        alarm: share of validation INRs that the in-distribution test may reject.
        seed: of the member.
    """

    model: str
    images: Path | None = None
    outside: tuple[Path, ...] = ()
    labels: tuple[str, ...] = ()
    epochs: int | None = None
    architecture: Mapping[str, Any] | None = None
    exchanged: float = 0.2
    mirrored: float = 0.0
    alarm: float = 0.01
    seed: int = 0

    @property
    def recipe(self) -> InrRecipe:
        """Raises WrongUsage where there is no such model."""
        if self.model not in INR_RECIPES:
            raise WrongUsage(f"no model {self.model!r}", fix=f"models: {', '.join(INR_RECIPES)}", code="unknown-model")
        return INR_RECIPES[self.model]

    @property
    def training(self) -> TrainConfig:
        """Of the member."""
        training = replace(self.recipe.training, seed=self.seed)
        return training if self.epochs is None else replace(training, epochs=self.epochs)


def encode_inrs(data: InrData, encoder: InrEncoder, exchanged: bool = False) -> Any:
    """All networks in their order, in float32, each read where its image lies; or as if its coordinates changed places."""
    parts, rows = [], []
    for part in data.parts:
        encoder.accept(part.graph)
        where = data.coordinates[part.rows[0]]
        where = replace(where, order=next(each for each in ORDERS if each != where.order)) if exchanged else where
        for start in range(0, len(part), 2048):
            piece = {name: array[start : start + 2048] for name, array in part.tensors.items()}
            parts.append(encoder.encode(part.graph, piece, where).to(torch.float32))
        rows.append(part.rows)
    order = np.argsort(np.concatenate(rows), kind="stable")
    return encoder.joined(parts)[torch.from_numpy(order)]


def changed(data: InrData, change: Callable[[Graph, Mapping[str, Array]], Mapping[str, Array]]) -> InrData:
    """The data with tensors changed."""
    return replace(
        data, parts=tuple(replace(part, tensors=dict(change(part.graph, part.tensors))) for part in data.parts)
    )


def some(data: InrData, count: int, seed: int) -> InrData:
    """At most so many of the rows, drawn."""
    keep = np.zeros(len(data), bool)
    keep[np.random.default_rng(seed).permutation(len(data))[:count]] = True
    return data.where(keep)


def train_inr_classifier(
    zoos: Sequence[str | Path],
    config: InrClassifierConfig,
    name: str,
    reproduce: Sequence[str],
    work: Path | None = None,
    progress: Progress | None = None,
) -> tuple[InrCard, dict[str, Tensor]]:
    """Reads, encodes, trains, calibrates, and measures once on the INRs of test images.

    Raises:
        WrongUsage, Refused, SurroundingsFailed: data or settings that do not serve.
    """
    say = progress or (lambda stage, done, total: None)
    data = load_inrs(zoos)
    recipe, channels = config.recipe, inr_channels(data.parts[0].graph)
    count = int(data.label.max()) + 1
    labels = config.labels or tuple(map(str, range(count)))
    if len(labels) < count:
        raise WrongUsage(f"{len(labels)} labels for {count} classes", where="--labels")
    orders = 2 if config.exchanged else 1
    none = orders * len(labels)
    encoder = recipe.encoder(channels, data)
    architecture = {**recipe.architecture[channels], **(config.architecture or {})}
    log = json_log(work / "log.jsonl" if work else None)
    loss = classes(none + 1, smoothing=0.02)
    augment = InrAugment(len(labels), exchanged=config.exchanged, mirrored=config.mirrored, **recipe.augment)
    seen = data.where(data.split != "test")
    images = None
    if recipe.image_epochs and config.images is not None:
        images = read_images(config.images, grey=channels == 1).train
    member = encoder.network(none + 1, architecture)

    def fitted(
        stage: str, training: Examples, validation: Examples | None, settings: TrainConfig, warm: bool
    ) -> nn.Module:
        def logged(record: dict[str, Any]) -> None:
            log({"stage": stage, **record})
            if "epoch" in record:
                say(f"training on {stage}", record["epoch"], settings.epochs)

        return fit(
            lambda: copy.deepcopy(member) if warm else encoder.network(none + 1, architecture),
            settings,
            training,
            validation,
            identity=_identity(config, architecture, training),
            checkpoint=work / f"{stage}.pt" if work else None,
            log=logged,
            loss=loss,
            # there is no noise between the pixels of an image
            augment=replace(augment, kept=0.2) if stage == "images" else augment,
            warm=warm,
        )

    if images is not None:
        shown = _examples_of_images(images, torch.zeros(1))
        member = fitted("images", shown, None, replace(config.training, epochs=recipe.image_epochs), False)
    if images is not None and isinstance(encoder, ProbeReader):
        say("learning probes", 0, 1)
        encoder = learned_probes(
            encoder, member, data.where(data.split == "train"), loss, InrProbeLearning(seed=config.seed), log
        )
    say("encoding", 0, len(data))
    prepared = encode_inrs(seen, encoder)
    outside = [load_inrs([folder]) for folder in config.outside]
    say("encoding what is none of these", 0, 1)

    def others(part: InrData, split: str, share: int, seed: int) -> list[Any]:
        own = some(part, max(len(part) // share, 1), seed)
        found = [changed(own, lambda graph, tensors: shuffled(tensors, seed)), changed(own, untrained_sines(seed))]
        found += [some(each.where(each.split == split), 2 * len(own), seed) for each in outside]
        return [encode_inrs(each, encoder) for each in found]

    def examples(split: str, share: int, seed: int) -> Examples:
        keep = torch.from_numpy(np.flatnonzero(seen.split == split))
        target = torch.from_numpy(seen.label)[keep]
        parts, targets = [prepared[keep]], [target]
        if split == "train" and images is not None and isinstance(encoder, ProbeReader):
            shown = _examples_of_images(images, encoder.offsets.float())
            parts.append(shown.prepared)
            targets.append(shown.target)
        for each in others(seen.where(seen.split == split), split, share, seed):
            parts.append(each)
            targets.append(torch.full((len(each),), none))
        return Examples(encoder.joined(parts), torch.cat(targets))

    training, validation = examples("train", 9, 1 + config.seed), examples("validation", 2, 1001 + config.seed)
    member = fitted("INRs", training, validation, config.training, images is not None)
    own = validation.target < len(labels)
    logits = outputs(member, validation.prepared[own]).double()
    temperature = fitted_temperature(logits, validation.target[own], len(labels))
    _, odds = read_outputs(logits, len(labels), temperature)
    card = InrCard(
        name=name,
        summary=f"Says what an INR of a {'/'.join(data.names)} image shows: {INR_MODELS[config.model]}.",
        model=config.model,
        data_set="+".join(data.names),
        labels=tuple(labels),
        channels=channels,
        takes=recipe.takes.format(colours={1: "a grey value", 3: "a colour"}[channels]),
        blind_to=recipe.blind_to,
        orders=orders,
        encoder=encoder.settings(),
        architecture=architecture,
        parameters=parameter_count(member) + sum(int(tensor.numel()) for tensor in encoder.tensors().values()),
        temperature=round(temperature, 4),
        least_log_odds=float(torch.quantile(odds, config.alarm)),
        data=_data(data, config),
        split="that of the images: INRs of test images are used once, for the figures below; of the training images one in "
        "16, by a hash of its number, is kept aside with its INRs for the choice of the epoch, the temperature "
        "and the threshold.",
        training=_training(config, training, orders, encoder),
        test={},
        in_distribution={},
        reproduce=tuple(reproduce),
    )
    tensors = tensors_of_inr(encoder, member)
    say("measuring", 0, 1)
    return measured(card, tensors, data, outside), tensors


def measured(card: InrCard, tensors: Mapping[str, Tensor], data: InrData, outside: Sequence[InrData]) -> InrCard:
    """The card with scores on the INRs of test images, and alarm rates."""
    predictor = assemble_inr(card, tensors)
    tested = data.where(data.split == "test")
    prepared = encode_inrs(tested, predictor.encoder)
    probabilities, odds = predictor.read(predictor.logits(prepared))
    label = torch.from_numpy(tested.label)
    test: dict[str, Any] = {**scores_of(probabilities, label), "parts": parts_of(probabilities, label, tested.facts)}
    if card.orders == 2:
        test["parts"] |= exchanged_part(predictor, some(tested, 2000, 0))
    rates = {"INRs of test images": alarms(odds, card.least_log_odds)}
    kinds = {
        "the same with shuffled weights": changed(tested, lambda graph, tensors: shuffled(tensors, 77)),
        "untrained networks": changed(tested, untrained_sines(77)),
    }
    kinds |= {f"INRs of test images of {'+'.join(each.names)}": each.where(each.split == "test") for each in outside}
    for kind, each in kinds.items():
        few = encode_inrs(some(each, 2000, 0), predictor.encoder)
        rates[kind] = alarms(predictor.read(predictor.logits(few))[1], card.least_log_odds)
    return replace(card, test=test, in_distribution=rates)


def exchanged_part(predictor: InrPredictor, tested: InrData) -> dict[str, dict[str, Any]]:
    """Accuracy where rows and columns are exchanged and nobody says so."""
    prepared = encode_inrs(tested, predictor.encoder, exchanged=True)
    probabilities, _ = predictor.read(predictor.logits(prepared))
    found = scores_of(probabilities, torch.from_numpy(tested.label))
    return {"rows and columns exchanged": {"accuracy": found["accuracy"], "count": found["count"]}}


def _examples_of_images(images: ImageSet, offsets: Tensor) -> Examples:
    """Training images, those for validation left out, read at their pixels and offsets as if they were INRs."""
    rows = np.flatnonzero(~in_validation(np.arange(len(images))))
    height, width = images.images.shape[1:3]
    grid = torch.from_numpy(Coordinates(centred=True).grid(height, width)).float()  # where grid_sample has the pixels
    read = (grid + offsets).flip(1).reshape(1, height, width, 2)
    parts = []
    for start in range(0, len(rows), 4096):
        bytes_ = torch.from_numpy(images.images[rows[start : start + 4096]]).permute(0, 3, 1, 2).float()
        places = read.expand(len(bytes_), -1, -1, -1)
        parts.append(functional.grid_sample(bytes_ / 255, places, padding_mode="border", align_corners=False))
    return Examples(Pixels(torch.cat(parts)), torch.from_numpy(images.labels[rows]))


def _identity(config: InrClassifierConfig, architecture: Mapping[str, Any], training: Examples) -> str:
    digest = hashlib.sha256(training.target.numpy().tobytes()).hexdigest()
    return json.dumps([config.model, dict(architecture), digest, config.exchanged, config.mirrored])


def _data(data: InrData, config: InrClassifierConfig) -> dict[str, Any]:
    counts = {split: int((data.split == split).sum()) for split in ("train", "validation", "test")}
    told = ", ".join(f"{number:,} {split}" for split, number in counts.items())
    return {"description": f"{data.description}: {told}.", **counts, "left_out": data.left_out}


def _training(config: InrClassifierConfig, training: Examples, orders: int, encoder: InrEncoder) -> dict[str, Any]:
    words = [f"{len(training.target):,} examples an epoch: INRs of training images"]
    shown = bool(config.recipe.image_epochs) and config.images is not None
    epochs = config.recipe.image_epochs
    before = f"before, the training images themselves (with noise), for {epochs} epoch{'s' * (epochs > 1)}; then "
    if shown and isinstance(encoder, ProbeReader):
        words.append("the training images themselves")
    words.append("shuffled and untrained networks, which are none of these")
    words += ["INRs of other images, which are none of these either"] if config.outside else []
    text = ", ".join(words) + "; most of them a little shifted, turned and zoomed"
    text += ", some mirrored" if config.mirrored else ""
    text += ", some with rows and columns exchanged, as classes of their own" if orders == 2 else ""
    if shown and isinstance(encoder, ProbeReader):
        moved = float(encoder.offsets.float().abs().mean())
        told = (
            f"moved by {moved:.4f} on average" if moved else "stayed on the grid: none that were learned served better"
        )
        text += f". Probes {told}"
    return {"description": (before if shown else "") + text + ".", **asdict(config.training)}
