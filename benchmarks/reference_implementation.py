"""benchmarks/reference_implementation.py: Monomial-NFN beside the reference implementation of its paper, in one run.

    python benchmarks/reference_implementation.py --checkout PATH --zoo ZOO_DIR

PATH is a checkout of MathematicalAI-NUS/Monomial-NFN; what it imports (einops, hydra's part is not needed) must be
installed. None of its code is in this repository. With one thread, all times are processor times, so that a busy machine
does not show in them; with more, inference is timed by the clock on the wall. Three questions, each with its factor:

* batch inference at equal channels (16, 16, 5), raw weights to prediction, each side at its own best batch size;
* batch inference beside a loop over single files, per network;
* training to the best validation τ that the reference reaches with its own recipe (Adam 1e-3, batches of 8, at most 50
  epochs), in processor seconds, validation not counted. --reference-seconds cuts its training short.

Its weight features keep kernel positions, so 16 channels are 16 per position there; ours read positions as channels of the
input. The rows say which is which: "per position" has its feature sizes, and about its number of operations.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from figures import figure
from generalization_data import Array, Rows, rows_of
from generalization_methods import Recipe, Setting, balanced_monomial, paper_monomial, trained
from torch import nn

from nfn_cli.networks.monomial_nfn import MonomialNfn, MonomialNfnConfig, parameter_count, prepare
from nfn_cli.networks.weight_features import features_from_arrays
from nfn_cli.train.metrics import scores
from nfn_cli.zoo.open_zoo import open_zoo
from nfn_cli.zoo.split import fold_of_run, split_of_run

BATCHES = (8, 32, 128, 512)
Predict = Callable[[Rows], torch.Tensor]


def reference(checkout: Path, rows: Rows, seed: int) -> Any:
    """Its network in its own configuration for this experiment and activation, and the function that wraps inputs."""
    sys.path[:0] = [str(checkout), str(checkout / "experiments" / "perceiver-pytorch")]
    from experiments import models
    from nfn.common import WeightSpaceFeatures, network_spec_from_wsfeat

    def wrapped(some: Rows) -> Any:
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array))[:, None] for name, array in some.tensors.items()}
        return WeightSpaceFeatures(
            [t for name, t in tensors.items() if not name.endswith("bias")],
            [t for name, t in tensors.items() if name.endswith("bias")],
        )

    torch.manual_seed(seed)
    spec = network_spec_from_wsfeat(wrapped(rows.take(slice(2))))
    head = partial(models.MlpHead, sigmoid=True, pool_mode="HNPS_param_mul_L2", h_size=200)
    common: dict[str, Any] = {"hchannels": [16, 16, 5], "head_cls": head, "mode": "HNPS", "init_type": "xavier_normal"}
    if rows.activation == "tanh":
        return models.InvariantNFN_HNPS(spec, model_type="S_tanh_abs_gen", **common), wrapped
    return models.InvariantNFN(spec, **common), wrapped


def forms(activation: str) -> dict[str, MonomialNfnConfig]:
    """Ours, by name."""
    paper = paper_monomial(activation)
    return {
        "ours, 16, 16, 5 per position": paper,
        "ours, 16, 16, 5": replace(paper, per_position=False),
        "ours, balanced, 8, 8": balanced_monomial(activation),
    }


def built(config: MonomialNfnConfig, rows: Rows, seed: int) -> MonomialNfn:
    """An untrained network of ours."""
    torch.manual_seed(seed)
    return MonomialNfn(rows.features.shape, config).eval()


def clock() -> float:
    """Seconds, of the kind that the number of threads asks for."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def rates(predictors: Mapping[str, Predict], rows: Rows, rounds: int) -> dict[str, float]:
    """Networks a second of each, at its best batch size, the best of several interleaved rounds."""
    best = dict.fromkeys(predictors, 0.0)
    with torch.inference_mode():
        for _ in range(rounds):
            for name, predict in predictors.items():
                for size in BATCHES:
                    parts = [rows.take(slice(i, i + size)) for i in range(0, len(rows), size)]
                    start = clock()
                    for part in parts:
                        predict(part)
                    best[name] = max(best[name], len(rows) / (clock() - start))
    return best


def single_files(model: MonomialNfn, rows: Rows, folder: Path) -> float:
    """Networks a second when each is a safetensors file, read and predicted on its own."""
    from safetensors.numpy import load_file, save_file

    paths = []
    for row in range(len(rows)):
        path = folder / f"{row}.safetensors"
        save_file({name: np.ascontiguousarray(array[row]) for name, array in rows.tensors.items()}, path)
        paths.append(path)
    start = clock()
    with torch.inference_mode():
        for path in paths:
            tensors = load_file(path)
            weights = [tensors[name] for name in rows.tensors if not name.endswith("bias")]
            biases = [tensors[name] for name in rows.tensors if name.endswith("bias")]
            model(features_from_arrays(weights, biases, torch.float32))
    return len(rows) / (clock() - start)


def tau(predicted: torch.Tensor, actual: Array) -> float:
    """Kendall's τ."""
    return scores(predicted.double().numpy(), actual).kendall_tau


def train_reference(
    network: Any, wrapped: Any, train: Rows, target: Array, held: Rows, actual: Array, limit: float
) -> tuple[float, float, int]:
    """Its recipe, written anew: best validation τ, processor seconds until it first reached that, epochs done."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    truth = torch.from_numpy(target).float()
    seconds, best, reached, epochs = 0.0, -1.0, 0.0, 0
    while epochs < 50 and seconds < limit:
        start = time.process_time()
        network.train()
        for rows in torch.randperm(len(truth)).split(8):
            predicted = network(wrapped(train.take(rows.numpy()))).squeeze(-1)
            loss = nn.functional.binary_cross_entropy(predicted, truth[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        seconds, epochs = seconds + time.process_time() - start, epochs + 1
        network.eval()
        with torch.no_grad():
            now = tau(network(wrapped(held)).squeeze(-1), actual)
        if now > best:
            best, reached = now, seconds
    return best, reached, epochs


def train_ours(
    model: MonomialNfn, train: Rows, target: Array, held: Rows, actual: Array, goal: float, seed: int
) -> tuple[float, float]:
    """Best validation τ, and processor seconds, preparation included, until it first reached the goal (inf: never).

    Training ends there.
    """
    start = time.process_time()
    prepared = prepare(model.config, train.features).to(torch.float32)
    before = time.process_time() - start
    shown = prepare(model.config, held.features).to(torch.float32)
    best, reached = -1.0, float("inf")

    def after(seconds: float) -> bool:
        nonlocal best, reached
        model.eval()
        with torch.no_grad():
            best = max(best, tau(model.forward_prepared(shown)[:, 0], actual))
        reached = min(reached, before + seconds) if best >= goal else reached
        return best >= goal

    torch.manual_seed(seed)
    trained(model, prepared, target, Setting(seed), Recipe(epochs=40, learning_rate=2e-3), after)
    return best, reached


Networks = tuple[Rows, Array]


def report_inference(network: Any, wrapped: Any, models: Mapping[str, MonomialNfn], rows: Rows, rounds: int) -> None:
    """Prints the table of networks a second."""
    predictors: dict[str, Predict] = {"reference": lambda some: network(wrapped(some))}
    predictors |= {name: lambda some, model=model: model(some.features) for name, model in models.items()}  # type: ignore[misc]
    found = rates(predictors, rows, rounds)
    with tempfile.TemporaryDirectory() as folder:
        alone = {name: single_files(model, rows.take(slice(128)), Path(folder)) for name, model in models.items()}
    print(f"\n{rows.activation}, threads: {torch.get_num_threads()}, float32, {len(rows)} networks\n")
    print(
        "| | parameters | networks/s in batch | times the reference | networks/s, a file at a time | batch over files |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    print(f"| reference | {parameter_count(network):,} | {found['reference']:,.0f} | 1 | | |")
    for name, model in models.items():
        print(
            f"| {name} | {parameter_count(model):,} | {found[name]:,.0f} | {found[name] / found['reference']:.1f} "
            f"| {alone[name]:,.0f} | {found[name] / alone[name]:.1f} |",
            flush=True,
        )
    figure("inference", max(found[name] for name in models) / found["reference"])
    figure("batch", min(found[name] / alone[name] for name in models))


def report_training(
    network: Any,
    wrapped: Any,
    models: Mapping[str, MonomialNfn],
    train: Networks,
    held: Networks,
    limit: float,
    seed: int,
) -> None:
    """Prints the table of processor seconds to the reference's validation τ."""
    goal, reached, epochs = train_reference(network, wrapped, *train, *held, limit)
    print(
        f"\n{len(train[0])} networks to learn from, {len(held[0])} for validation; reference: {epochs} of 50 epochs\n"
    )
    print("| | best validation τ | processor seconds to the reference's | share of its time |")
    print("| --- | --- | --- | --- |")
    print(f"| reference | {goal:.4f} | {reached:.1f} | 1 |", flush=True)
    shares = []
    for name, model in models.items():
        best, seconds = train_ours(model, *train, *held, goal, seed)
        print(f"| {name} | {best:.4f} | {seconds:.1f} | {seconds / reached:.2f} |", flush=True)
        shares.append(seconds / reached)
    figure("training", min(shares))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of this benchmark; prints Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkout", required=True, type=Path, help="of MathematicalAI-NUS/Monomial-NFN")
    parser.add_argument("--zoo", required=True, help="a zoo in any form that `nfn zoo info` reads")
    parser.add_argument("--activation", choices=("relu", "tanh"), default="relu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="of the timing of inference; 0: none")
    parser.add_argument(
        "--reference-seconds", type=float, default=600.0, help="processor time for its training; 0: none"
    )
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    zoo = open_zoo(options.zoo, activation=options.activation)
    zoo = zoo.where(~split_of_run(zoo.runs, 0.15, 0))
    learning = fold_of_run(zoo.runs, 6, 0) != 0
    train, target = rows_of(zoo.where(learning), options.activation)
    held, actual = rows_of(zoo.where(~learning), options.activation)
    network, wrapped = reference(options.checkout.resolve(), train, options.seed)
    network.eval()
    models = {name: built(config, train, options.seed) for name, config in forms(options.activation).items()}
    if options.rounds > 0:
        report_inference(network, wrapped, models, train.take(np.arange(512) % len(train)), options.rounds)
    if options.reference_seconds > 0:
        sides = (train, target), (held, actual)
        report_training(network, wrapped, models, *sides, options.reference_seconds, options.seed)


if __name__ == "__main__":
    main()
