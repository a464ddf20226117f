"""train/generalization.py: from zoos to a predictor of test accuracy. Knows recipes, zoo data and the harness.

Runs, not rows, are split. A share of them is the test set, untouched until the end. The others form folds; member k of
the predictor is trained without fold k, so every non-test run has a prediction by a network that has seen nothing of
it: these calibrate the interval. All checkpoints of a run are trained on and calibrate, because a user's checkpoint
need not be a finished one; scores are those of final ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nfn_cli.errors import WrongUsage
from nfn_cli.graph.model import Graph
from nfn_cli.networks.statistics_mlp import StatisticsMlp
from nfn_cli.predictors.card import MODELS, Card
from nfn_cli.predictors.interval import Interval, calibrate
from nfn_cli.predictors.kinds.kind import Encoder
from nfn_cli.predictors.kinds.probe import ProbeEncoder
from nfn_cli.predictors.predictor import assemble, tensors_of_predictor
from nfn_cli.predictors.takes import Takes
from nfn_cli.predictors.typicality import Distance, fit_distance
from nfn_cli.train.contrast import reinitialised, shuffled
from nfn_cli.train.harness import Examples, TrainConfig, fit, json_log, predict
from nfn_cli.train.metrics import coverage, scores
from nfn_cli.train.probe_learning import ProbeLearning, learned_probes
from nfn_cli.train.recipes import RECIPES, Recipe, Sources
from nfn_cli.train.zoo_data import ZooData, load_zoos
from nfn_cli.train.zoo_part import Part

Array = np.ndarray[Any, np.dtype[Any]]
Tensors = Mapping[str, Array]
Copy = Callable[[Graph, Tensors], Tensors]
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class GeneralizationConfig:
    """All settings of a predictor of test accuracy, beside its recipe.

    Attributes:
        model: a key of RECIPES.
        activation: rows of the zoos to use; None for all.
        images, probes: of models that show inputs to networks.
        probe_epochs: passes over half of the folds in which probes are learned; these folds then calibrate nothing.
        epochs: of each member; None for the recipe's.
        folds: number of members, one left-out fold each.
        test_fraction: share of runs set aside, by hash.
        seed: of the split, the folds and the members.
        level: of the interval.
        alarm: share of finished out-of-fold networks that the in-distribution test may reject at most; noticed: share of
            shuffled and of re-initialised ones that it shall notice. It rejects no more of the former than it needs for the latter.
    """

    model: str
    activation: str | None = None
    images: Path | None = None
    probes: int = 512
    probe_epochs: int = 0
    epochs: int | None = None
    folds: int = 6
    test_fraction: float = 0.15
    seed: int = 0
    level: float = 0.9
    alarm: float = 0.04
    noticed: float = 0.975

    @property
    def recipe(self) -> Recipe:
        """Raises WrongUsage where there is no such model."""
        if self.model not in RECIPES:
            raise WrongUsage(f"no model {self.model!r}", fix=f"models: {', '.join(RECIPES)}", code="unknown-model")
        return RECIPES[self.model]

    @property
    def training(self) -> TrainConfig:
        """Of each member, its seed aside."""
        training = self.recipe.training
        return training if self.epochs is None else replace(training, epochs=self.epochs)


@dataclass(frozen=True)
class Encoded:
    """The zoo's networks as members read them, in zoo order."""

    data: ZooData
    encoder: Encoder
    takes: Takes
    exact: Any  # in float64
    prepared: Any  # in float32
    calibrates: Array  # (n,) bool: runs that nothing but the members of other folds has seen

    def copies(self, copy: Copy, keep: Array | None = None) -> Any:
        """Changed copies of networks, encoded, in zoo order."""
        data = self.data if keep is None else self.data.where(keep)
        return encoded_rows(self.encoder, data, copy)


def encoded_rows(encoder: Encoder, data: ZooData, copy: Copy | None = None) -> Any:
    """Networks (or changed copies of them) as the encoder gives them, in zoo order, in float64."""
    parts, rows = [], []
    for part in data.parts:
        tensors = part.tensors if copy is None else copy(part.graph, part.tensors)
        graph, names = accepted_form(encoder, part)
        parts.append(encoder.encode(graph, {new: tensors[old] for new, old in names.items()}))
        rows.append(part.rows)
    order = np.argsort(np.concatenate(rows), kind="stable")
    return encoder.joined(parts)[torch.from_numpy(order)]


def accepted_form(encoder: Encoder, part: Part) -> tuple[Graph, dict[str, str]]:
    """The graph that the encoder runs or reads, and its tensors by the names they have in the zoo.

    A zoo knows how its networks run, so accepting one never renames or lays out its tensors anew.
    """
    graph, tensors = encoder.accept(part.graph, {name: array[0] for name, array in part.tensors.items()})
    return graph, {name: name for name in tensors}


def encode_zoo(data: ZooData, config: GeneralizationConfig) -> Encoded:
    """Makes the encoder and encodes everything once.

    Raises:
        Refused, WrongUsage: networks that the model cannot take.
    """
    sources = Sources(config.images, config.probes, config.seed)
    encoder, takes = config.recipe.encoder(data, sources)
    calibrates = ~data.test
    if config.probe_epochs:
        shown = ~data.test & (data.fold < config.folds // 2)
        encoder = _with_learned_probes(encoder, data.where(shown), config)
        calibrates &= ~shown
    exact = encoded_rows(encoder, data)
    return Encoded(data, encoder, takes, exact, exact.to(torch.float32), calibrates)


def _with_learned_probes(encoder: Encoder, data: ZooData, config: GeneralizationConfig) -> Encoder:
    if not isinstance(encoder, ProbeEncoder):
        raise WrongUsage(f"{config.model} shows no inputs to networks", where="--probe-epochs", fix="--model probe")
    answers = encoded_rows(encoder, data).to(torch.float32)
    head = fit(
        lambda: encoder.network(answers, config.recipe.architecture),
        replace(config.training, seed=config.seed),
        Examples(answers, torch.from_numpy(data.target).float()),
    )
    assert isinstance(head, StatisticsMlp)
    parts = tuple(replace(part, graph=accepted_form(encoder, part)[0]) for part in data.parts)
    data = replace(data, parts=parts)
    learning = ProbeLearning(epochs=config.probe_epochs, seed=config.seed)
    return encoder.showing(learned_probes(encoder.probes, head, data, encoder.answers, learning))


def train_members(
    encoded: Encoded, config: GeneralizationConfig, work: Path | None = None, progress: Progress | None = None
) -> tuple[tuple[nn.Module, ...], Array]:
    """One member per fold, and out-of-fold predictions (n,), NaN on rows that do not calibrate."""
    data, prepared = encoded.data, encoded.prepared
    log = json_log(work / "log.jsonl" if work else None)
    target = torch.from_numpy(data.target).float()
    out_of_fold = np.full(len(data), np.nan)
    members = []
    for k in range(config.folds):
        if progress is not None:
            progress("members", k, config.folds)
        left_out = ~data.test & (data.fold == k)
        learned, judged = _indices(~data.test & ~left_out), _indices(left_out)
        if not len(learned) or not len(judged):
            raise WrongUsage(f"too few runs for {config.folds} folds", fix="train on more runs, or use fewer --folds")
        member = fit(
            lambda: encoded.encoder.network(prepared, config.recipe.architecture),
            replace(config.training, seed=config.seed * 1000 + k),
            Examples(prepared[learned], target[learned]),
            identity=_identity(encoded, config, k),
            checkpoint=work / f"member{k}.pt" if work else None,
            log=lambda record, k=k: log({"member": k, **record}),  # type: ignore[misc]
        )
        out_of_fold[judged.numpy()] = predict(member, prepared[judged])
        members.append(member)
    out_of_fold[~encoded.calibrates] = np.nan
    return tuple(members), out_of_fold


@dataclass(frozen=True)
class InDistribution:
    """What the in-distribution test is made of, before it is put together with the members."""

    contrast: nn.Module
    distance: Distance
    largest_distance: float
    least_log_odds: float


def train_in_distribution(encoded: Encoded, config: GeneralizationConfig) -> InDistribution:
    """Fits distance and contrast without two folds (one where there are but two), and sets thresholds on those.

    A quarter of the false alarms is given to the distance, the rest to the contrast, whose job is the harder one: a
    zoo's own untrained networks look like re-initialised ones.
    """
    data, encoder, recipe = encoded.data, encoded.encoder, config.recipe
    held = ~data.test & (data.fold == 0)
    stopping = ~data.test & (data.fold == (1 if config.folds > 2 else 0))
    learned = ~data.test & ~held & ~stopping

    def examples(keep: Array, seed: int, copies: int) -> Examples:
        rows = _indices(keep)
        parts = [encoded.prepared[rows]]
        for copy in range(copies):
            parts += [each.to(torch.float32) for each in untrained(encoded, keep, seed + 2 * copy)]
        target = torch.cat([torch.ones(len(rows)), torch.zeros(2 * copies * len(rows))])
        return Examples(encoder.joined(parts), target)

    training = examples(learned, 1000, recipe.copies)
    contrast = fit(
        lambda: encoder.network(training.prepared, recipe.contrast),
        replace(recipe.contrast_training, seed=config.seed),
        training,
        examples(stopping, 2000, 1),
    )
    distance = fit_distance(encoder.statistics(encoded.prepared[_indices(learned)]))
    # finished networks only: what is barely trained yet is too like what never was
    finished = (held | stopping) & data.final
    calibration = encoded.prepared[_indices(finished)]
    odds = _log_odds(contrast, calibration)
    never = [_log_odds(contrast, each.to(torch.float32)) for each in untrained(encoded, finished, 3000)]
    needed = max(np.quantile(each, config.noticed) for each in never)
    return InDistribution(
        contrast,
        distance,
        float(np.quantile(distance(encoder.statistics(calibration)).numpy(), 1 - config.alarm / 4)),
        float(min(np.quantile(odds, 0.75 * config.alarm), needed)),
    )


def _log_odds(contrast: nn.Module, prepared: Any) -> Array:
    return np.asarray(torch.logit(torch.from_numpy(predict(contrast, prepared)), eps=1e-12).numpy())


def untrained(encoded: Encoded, keep: Array, seed: int) -> tuple[Any, Any]:
    """Shuffled and re-initialised copies of some networks, encoded in float64."""
    return (
        encoded.copies(lambda _, tensors: shuffled(tensors, seed), keep),
        encoded.copies(lambda graph, tensors: reinitialised(graph, tensors, seed + 1), keep),
    )


def train_predictor(
    zoos: Sequence[str | Path],
    config: GeneralizationConfig,
    name: str,
    reproduce: str,
    work: Path | None = None,
    progress: Progress | None = None,
) -> tuple[Card, dict[str, Tensor]]:
    """The whole way: read, split, train, calibrate, measure on the test runs once. Returns card and tensors.

    Args:
        work: folder for the log and checkpoints, made where missing; a killed training resumes there.
    """
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
    data = load_zoos(
        zoos,
        activation=config.activation,
        test_fraction=config.test_fraction,
        folds=config.folds,
        seed=config.seed,
    )
    for side, count in (("test", len(set(data.runs[data.test]))), ("training", len(set(data.runs[~data.test])))):
        if count < 2:
            raise WrongUsage(f"{count} {side} runs are too few", fix="train on more runs, or change --test-fraction")
    encoded = encode_zoo(data, config)
    for side, rows in (("test", data.test), ("calibrating", encoded.calibrates)):
        if len(set(data.target[rows & data.final].tolist())) < 2:
            raise WrongUsage(f"final networks of the {side} runs have no two different scores", fix="use more runs")
    members, out_of_fold = train_members(encoded, config, work, progress)
    if progress is not None:
        progress("in-distribution test", config.folds, config.folds)
    known = np.isfinite(out_of_fold)
    final = known & data.final
    interval = calibrate(out_of_fold[known], data.target[known], config.level, groups=data.final[known])
    inside = train_in_distribution(encoded, config)
    card = _card(encoded, config, name, reproduce, members, interval, inside)
    parts = {
        f"out of fold, {kind}": asdict(scores(out_of_fold[rows], data.target[rows]))
        for kind in sorted(set(data.kind.tolist()))
        if (rows := final & (data.kind == kind)).sum() >= 10 and len(set(data.target[rows].tolist())) > 1
    }
    card = replace(card, out_of_fold=asdict(scores(out_of_fold[final], data.target[final])))
    tensors = tensors_of_predictor(encoded.encoder, members, inside.contrast, inside.distance)
    test, measured = measure(encoded, card, tensors, interval)
    parts = parts if len(set(data.kind.tolist())) > 1 else {}
    return replace(card, test=test, measured={**measured, "parts": parts}), tensors


def measure(
    encoded: Encoded, card: Card, tensors: Mapping[str, Tensor], interval: Interval
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores on the final rows of the test runs; coverage of the interval; alarm rates of the in-distribution test."""
    data, predictor = encoded.data, assemble(card, tensors)
    final = data.test & data.final
    every, rows = _indices(data.test), _indices(final)
    actual = data.target[rows.numpy()]
    predicted = predictor.scores(encoded.exact[rows])
    low, high = interval.around(predicted)
    low_of_all, high_of_all = interval.around(predictor.scores(encoded.exact[every]))

    def alarm(prepared: Any) -> float:
        return 1.0 - float(predictor.inside(prepared).mean())

    copies = [untrained(encoded, final, 90_000 + 10 * seed) for seed in range(5)]
    return asdict(scores(predicted, actual)), {
        "coverage": coverage(low, high, actual),
        "coverage_of_all_checkpoints": coverage(low_of_all, high_of_all, data.target[every.numpy()]),
        "interval_width": float((high - low).mean()),
        "alarm_on_test": alarm(encoded.exact[rows]),
        "alarm_on_all_test_checkpoints": alarm(encoded.exact[every]),
        "alarm_on_reinitialised": float(np.mean([alarm(fresh) for _, fresh in copies])),
        "alarm_on_shuffled": float(np.mean([alarm(mixed) for mixed, _ in copies])),
    }


def _card(
    encoded: Encoded,
    config: GeneralizationConfig,
    name: str,
    reproduce: str,
    members: Sequence[nn.Module],
    interval: Interval,
    inside: InDistribution,
) -> Card:
    data, recipe, encoder = encoded.data, config.recipe, encoded.encoder
    runs = {"all": _runs(data.runs), "train": _runs(data.runs[~data.test]), "test": _runs(data.runs[data.test])}
    learned = sum(int(p.numel()) for member in members for p in member.parameters() if p.requires_grad)
    learned += sum(int(t.numel()) for t in encoder.tensors().values() if t.is_floating_point())
    kinds = {kind: int((data.kind == kind).sum()) for kind in sorted(set(data.kind.tolist()))}
    return Card(
        name=name,
        summary=f"Predicts the test accuracy of small CNNs: {MODELS[config.model]}.",
        predicts=f"accuracy on the test images of the zoo's data set, between 0 and 1 ({data.description})",
        model=config.model,
        takes=encoded.takes.to_json(),
        blind_to=recipe.blind_to,
        encoder=encoder.settings(),
        architecture=dict(recipe.architecture),
        members=len(members),
        contrast=dict(recipe.contrast),
        parameters=learned,
        data={
            "description": f"{data.description}: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}.",
            "rows": len(data),
            "kinds": kinds,
            "runs": runs,
            "left_out": dict(data.left_out),
        },
        split={
            "rule": f"by run, from SHA-256 of the run's name with seed {config.seed}: {config.test_fraction:.0%} test "
            f"({runs['test']} runs), the others in {config.folds} folds; member k is trained without fold k, "
            f"which calibrates the interval, for finished checkpoints and for the others.{_probe_rule(config)}",
            "seed": config.seed,
            "test_fraction": config.test_fraction,
            "folds": config.folds,
        },
        training={**asdict(config.training), "seeds": [config.seed * 1000 + k for k in range(config.folds)]},
        test={},
        out_of_fold={},
        interval=asdict(interval),
        in_distribution={
            "largest_distance": inside.largest_distance,
            "least_log_odds": inside.least_log_odds,
        },
        measured={},
        reproduce=reproduce,
    )


def _probe_rule(config: GeneralizationConfig) -> str:
    if not config.probe_epochs:
        return ""
    return f" Probes were learned on the first {config.folds // 2} folds, which calibrate nothing."


def _identity(encoded: Encoded, config: GeneralizationConfig, member: int) -> str:
    """Tells one training from another: data, what the encoder made of them, architecture."""
    digest = hashlib.sha256(encoded.data.target.tobytes())
    digest.update(encoded.encoder.statistics(encoded.prepared).numpy().tobytes())
    return json.dumps([config.model, dict(config.recipe.architecture), member, digest.hexdigest()])


def _runs(names: Array) -> int:
    return len(set(names.tolist()))


def _indices(keep: Array) -> Tensor:
    return torch.from_numpy(np.nonzero(keep)[0])
