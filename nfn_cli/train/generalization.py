"""train/generalization.py: from a zoo to a shipped predictor of test accuracy. Knows zoo/, predictors/ and the harness.

    python -m nfn_cli.train.generalization --zoo ZOO_DIR --activation relu --out FOLDER

Runs, not rows, are split. A share of them is the test set, untouched until the end. The others form folds; member k of
the predictor is trained without fold k, so every non-test run has a prediction by a network that has seen nothing of
it: these calibrate the interval. All checkpoints of a run are trained on and calibrate, because a user's checkpoint
need not be a finished one; scores are those of final ones.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from nfn_cli.networks.monomial_nfn import MonomialNfn, MonomialNfnConfig, Prepared, parameter_count, prepare
from nfn_cli.networks.weight_features import ChainShape, WeightFeatures
from nfn_cli.predictors.card import Card
from nfn_cli.predictors.interval import Interval, calibrate
from nfn_cli.predictors.predictor import assemble, tensors_of_predictor, write_predictor
from nfn_cli.predictors.typicality import Distance, fit_distance
from nfn_cli.train.contrast import reinitialised, shuffled
from nfn_cli.train.harness import Examples, TrainConfig, fit, json_log, predict
from nfn_cli.train.metrics import coverage, scores
from nfn_cli.zoo.small_cnn import ZooRows, read_zoo
from nfn_cli.zoo.split import fold_of_run, split_of_run

Array = np.ndarray[Any, np.dtype[Any]]

GROUP_OF: Mapping[str, str] = MappingProxyType({"relu": "positive_scale", "tanh": "sign"})


@dataclass(frozen=True, slots=True)
class GeneralizationConfig:
    """All settings of a predictor of test accuracy.

    Attributes:
        activation: rows of the zoo to use; a key of GROUP_OF.
        architecture, training: of each member.
        folds: number of members, one left-out fold each.
        test_fraction: share of runs set aside, by hash.
        seed: of the split, the folds and the members.
        level: of the interval.
        alarm: share of finished out-of-fold networks that the in-distribution test may reject.
    """

    activation: str
    architecture: MonomialNfnConfig
    training: TrainConfig = field(default_factory=lambda: TrainConfig(epochs=40, learning_rate=1e-3, patience=0))
    folds: int = 6
    test_fraction: float = 0.15
    seed: int = 0
    level: float = 0.9
    alarm: float = 0.04


@dataclass(frozen=True)
class ZooTensors:
    """A zoo's rows in memory, in zoo order, with their sides of the split.

    Attributes:
        raw: weight features, float32; target: (n,) test accuracies; final: (n,) last checkpoint of its run.
        test: (n,) test side; fold: (n,) fold of every row, of meaning for the others only.
    """

    zoo: ZooRows
    raw: WeightFeatures
    target: Array
    final: Array
    test: Array
    fold: Array


def default_config(activation: str) -> GeneralizationConfig:
    """Settings of the shipped predictors, chosen by cross-validation on the non-test runs."""
    return GeneralizationConfig(activation, MonomialNfnConfig(GROUP_OF[activation], channels=(8, 8), head_width=40))


def load_tensors(folder: str | Path, config: GeneralizationConfig) -> ZooTensors:
    """Reads the rows of one activation; rows with a weight or a score that is not finite are left out."""
    zoo = read_zoo(folder, activation=config.activation, final_only=False)
    finite = np.isfinite(zoo.weights[zoo.rows]).all(1) & np.isfinite(zoo.numbers("test_accuracy"))
    zoo = zoo.where(finite)
    weights, biases = zoo.chains()
    raw = WeightFeatures(
        tuple(torch.from_numpy(w).permute(0, 3, 1, 2) for w in weights),
        tuple(torch.from_numpy(b)[:, None] for b in biases),
    )
    steps = zoo.numbers("step")
    return ZooTensors(
        zoo,
        raw,
        zoo.numbers("test_accuracy"),
        steps == steps.max(),
        split_of_run(zoo.runs, config.test_fraction, config.seed),
        fold_of_run(zoo.runs, config.folds, config.seed),
    )


def train_members(
    data: ZooTensors, prepared: Prepared, config: GeneralizationConfig, work: Path | None = None
) -> tuple[tuple[MonomialNfn, ...], Array]:
    """One member per fold, and out-of-fold predictions (n,), NaN on test rows."""
    log = json_log(work / "log.jsonl" if work else None)
    target = torch.from_numpy(data.target).float()
    out_of_fold = np.full(len(data.target), np.nan)
    members = []
    for k in range(config.folds):
        left_out = ~data.test & (data.fold == k)
        learned, judged = _indices(~data.test & ~left_out), _indices(left_out)
        member = fit(
            data.raw.shape,
            config.architecture,
            replace(config.training, seed=config.seed * 1000 + k),
            Examples(prepared[learned], target[learned]),
            None,
            checkpoint=work / f"member{k}.pt" if work else None,
            log=lambda record, k=k: log({"member": k, **record}),  # type: ignore[misc]
        )
        out_of_fold[judged.numpy()] = predict(member, prepared[judged])
        members.append(member)
    return tuple(members), out_of_fold


@dataclass(frozen=True)
class InDistribution:
    """What the in-distribution test is made of, before it is put together with the members."""

    contrast: MonomialNfn
    distance: Distance
    largest_distance: float
    least_log_odds: float


def train_in_distribution(data: ZooTensors, prepared: Prepared, config: GeneralizationConfig) -> InDistribution:
    """Fits distance and contrast without two folds, and sets thresholds on those.

    A quarter of the false alarms is given to the distance, the rest to the contrast, whose job is the harder one: a
    zoo's own untrained networks look like re-initialised ones.
    """
    architecture = MonomialNfnConfig(config.architecture.group, channels=(4,), head_width=32, dropout=0.2)
    held = ~data.test & (data.fold == 0)
    stopping = ~data.test & (data.fold == 1)
    learned = ~data.test & ~held & ~stopping

    def examples(keep: Array, seed: int, copies: int) -> Examples:
        rows = _indices(keep)
        raw = data.raw[rows]
        parts = [prepared[rows]]
        for copy in range(copies):
            parts.append(prepare(architecture, shuffled(raw, seed + 2 * copy)).to(torch.float32))
            parts.append(prepare(architecture, reinitialised(raw, seed + 2 * copy + 1)).to(torch.float32))
        target = torch.cat([torch.ones(len(rows)), torch.zeros(2 * copies * len(rows))])
        return Examples(_joined(parts), target)

    settings = TrainConfig(epochs=20, learning_rate=2e-3, weight_decay=0.1, patience=10, seed=config.seed)
    contrast = fit(data.raw.shape, architecture, settings, examples(learned, 1000, 4), examples(stopping, 2000, 1))
    distance = fit_distance(prepared.statistics[_indices(learned)])
    # finished networks only: what is barely trained yet is too like what never was
    calibration = prepared[_indices((held | stopping) & data.final)]
    with torch.no_grad():
        odds = contrast.forward_prepared(calibration)[:, 0].double().numpy()
    return InDistribution(
        contrast,
        distance,
        float(np.quantile(distance(calibration.statistics).numpy(), 1 - config.alarm / 4)),
        # what the contrast itself takes for trained, at even odds or better, is never turned away
        min(float(np.quantile(odds, 0.75 * config.alarm)), 0.0),
    )


def train_predictor(
    folder: str | Path, config: GeneralizationConfig, name: str, reproduce: str, work: Path | None = None
) -> tuple[Card, dict[str, torch.Tensor]]:
    """The whole way: read, split, train, calibrate, measure on the test runs once. Returns card and tensors."""
    data = load_tensors(folder, config)
    exact = prepare(config.architecture, data.raw)
    prepared = exact.to(torch.float32)
    members, out_of_fold = train_members(data, prepared, config, work)
    known = np.isfinite(out_of_fold)
    interval = calibrate(out_of_fold[known], data.target[known], config.level)
    inside = train_in_distribution(data, prepared, config)
    card = _card(data, config, name, reproduce, members, interval, inside)
    final = known & data.final
    card = replace(card, out_of_fold=asdict(scores(out_of_fold[final], data.target[final])))
    tensors = tensors_of_predictor(members, inside.contrast, inside.distance)
    test, measured = measure(data, exact, card, tensors, interval)
    return replace(card, test=test, measured=measured), tensors


def measure(
    data: ZooTensors, prepared: Prepared, card: Card, tensors: Mapping[str, torch.Tensor], interval: Interval
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Scores on the final rows of the test runs; coverage of the interval; alarm rates of the in-distribution test."""
    predictor = assemble(card, tensors)
    every, rows = _indices(data.test), _indices(data.test & data.final)
    actual, raw = data.target[rows.numpy()], data.raw[rows]
    predicted = predictor.scores(prepared[rows])
    low, high = interval.around(predicted)
    low_of_all, high_of_all = interval.around(predictor.scores(prepared[every]))

    def alarm(networks: WeightFeatures) -> float:
        fresh = prepare(predictor.members[0].config, networks)
        return 1.0 - float(predictor.typicality.inside(fresh).double().mean())

    return asdict(scores(predicted, actual)), {
        "coverage": coverage(low, high, actual),
        "coverage_of_all_checkpoints": coverage(low_of_all, high_of_all, data.target[every.numpy()]),
        "interval_width": float((high - low).mean()),
        "alarm_on_test": alarm(raw),
        "alarm_on_all_test_checkpoints": alarm(data.raw[every]),
        "alarm_on_reinitialised": float(np.mean([alarm(reinitialised(raw, 90_000 + s)) for s in range(5)])),
        "alarm_on_shuffled": float(np.mean([alarm(shuffled(raw, 95_000 + s)) for s in range(5)])),
    }


def _card(
    data: ZooTensors,
    config: GeneralizationConfig,
    name: str,
    reproduce: str,
    members: Sequence[MonomialNfn],
    interval: Interval,
    inside: InDistribution,
) -> Card:
    shape: ChainShape = data.raw.shape
    kernels = tuple(layer.kernel_shape[:-2] for layer in data.zoo.layout.layers)
    datasets = sorted(set(data.zoo.columns["config.dataset"].tolist())) if "config.dataset" in data.zoo.columns else []
    runs = {"all": _runs(data, slice(None)), "train": _runs(data, ~data.test), "test": _runs(data, data.test)}
    return Card(
        name=name,
        summary=f"Predicts the test accuracy of small {config.activation} CNNs from their weights alone.",
        predicts=f"accuracy on the test images of {', '.join(datasets) or 'the zoo'}, between 0 and 1",
        activation=config.activation,
        group=config.architecture.group,
        widths=shape.widths,
        kernels=kernels,
        network=_in_words(shape, kernels),
        architecture=asdict(config.architecture),
        members=len(members),
        contrast=asdict(inside.contrast.config),
        parameters=sum(parameter_count(member) for member in members),
        data={
            "description": f"zoo in the Small CNN Zoo layout, {', '.join(datasets)}, {config.activation}: "
            f"{len(data.target)} checkpoints of {runs['all']} runs.",
            "rows": len(data.target),
            "runs": runs,
        },
        split={
            "rule": f"by run, from SHA-256 of the run's name with seed {config.seed}: {config.test_fraction:.0%} test "
            f"({runs['test']} runs), the others in {config.folds} folds; member k is trained without fold k, "
            f"which calibrates the interval.",
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


def _in_words(shape: ChainShape, kernels: Sequence[tuple[int, ...]]) -> str:
    layers = []
    for i, kernel in enumerate(kernels):
        kind = f"convolution {'x'.join(map(str, kernel))}" if kernel else "linear"
        layers.append(f"{kind} {shape.widths[i]}-{shape.widths[i + 1]}")
    return ", ".join(layers)


def _runs(data: ZooTensors, keep: Any) -> int:
    return len(set(data.zoo.runs[keep].tolist()))


def _indices(keep: Array) -> torch.Tensor:
    return torch.from_numpy(np.nonzero(keep)[0])


def _joined(parts: Sequence[Prepared]) -> Prepared:
    depth = range(len(parts[0].features.weights))
    features = WeightFeatures(
        tuple(torch.cat([p.features.weights[i] for p in parts]) for i in depth),
        tuple(torch.cat([p.features.biases[i] for p in parts]) for i in depth),
    )
    return Prepared(features, torch.cat([p.statistics for p in parts]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of this module; prints the card's figures as one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m nfn_cli.train.generalization", description=__doc__)
    parser.add_argument("--zoo", required=True, help="folder with weights.npy, metrics.csv.gz and layout.csv")
    parser.add_argument("--activation", required=True, choices=sorted(GROUP_OF))
    parser.add_argument("--out", required=True, type=Path, help="folder to write the predictor to")
    parser.add_argument("--name", help="name on the card; default: the folder's")
    parser.add_argument("--work", type=Path, help="folder for the log and checkpoints; a killed training resumes there")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1, help="more threads may change the last digits")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    if options.work:
        options.work.mkdir(parents=True, exist_ok=True)
    config = replace(default_config(options.activation), seed=options.seed)
    name = options.name or options.out.name
    seed = f" --seed {options.seed}" if options.seed else ""
    reproduce = (
        "python -m nfn_cli.train.generalization --zoo ZOO_DIR "
        f"--activation {options.activation}{seed} --out {options.out}"
    )
    card, tensors = train_predictor(options.zoo, config, name, reproduce, options.work)
    write_predictor(options.out, card, tensors)
    print(json.dumps({"test": card.test, "out_of_fold": card.out_of_fold, "measured": card.measured}))


if __name__ == "__main__":
    main()
