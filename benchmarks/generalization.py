"""benchmarks/generalization.py: shipped predictors beside baselines on weight statistics, on the same held-out runs.

    python benchmarks/generalization.py --zoo ZOO_DIR

Baselines see mean, variance and the quantiles 0, 25, 50, 75 and 100 of every tensor (Unterthiner et al. 2020), and are
trained on all rows of the runs that are not test runs, as the predictors were: gradient boosting (needs scikit-learn,
otherwise left out with a note) and an MLP. Everyone is then asked about the final checkpoints of the test runs as they
are, and after a random member of the group took their place: unit scales U[1, 10] and U[1, 10⁴] for relu, random signs
for tanh. The moved weights are rounded to float32, as a file would hold them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nfn_cli.networks.balance import scaled
from nfn_cli.networks.weight_features import WeightFeatures
from nfn_cli.predictors import load_predictor
from nfn_cli.train.generalization import GROUP_OF, default_config, load_tensors
from nfn_cli.train.metrics import scores

Array = np.ndarray[Any, np.dtype[Any]]
Guess = Callable[[WeightFeatures], Array]


def weight_statistics(raw: WeightFeatures) -> Array:
    """(b, 7 · tensors): mean, variance and quantiles of each tensor's entries."""
    parts = []
    for tensor in (*raw.weights, *raw.biases):
        entries = tensor.flatten(1).double().numpy()
        parts += [entries.mean(1), entries.var(1), *np.quantile(entries, [0, 0.25, 0.5, 0.75, 1], axis=1)]
    return np.stack(parts, 1)


def gradient_boosting(train: WeightFeatures, target: Array) -> Guess | None:
    """scikit-learn's histogram gradient boosting; None where it is not installed."""
    try:
        from sklearn.ensemble import HistGradientBoostingRegressor
    except ImportError:
        return None
    model = HistGradientBoostingRegressor(max_iter=300, learning_rate=0.05, random_state=0)
    model.fit(weight_statistics(train), target)
    return lambda raw: np.asarray(model.predict(weight_statistics(raw)))


def mlp(train: WeightFeatures, target: Array, members: int = 5) -> Guess:
    """Standardized statistics into two hidden layers of 128; mean of several seeds."""
    statistics = weight_statistics(train)
    mean, spread = statistics.mean(0), statistics.std(0) + 1e-12
    inputs, outputs = torch.from_numpy((statistics - mean) / spread).float(), torch.from_numpy(target).float()
    models = [_fitted(inputs, outputs, seed) for seed in range(members)]

    @torch.no_grad()
    def guess(raw: WeightFeatures) -> Array:
        x = torch.from_numpy((weight_statistics(raw) - mean) / spread).float()
        return np.asarray(torch.stack([torch.sigmoid(model(x)[:, 0]) for model in models]).mean(0).double().numpy())

    return guess


def _fitted(inputs: Tensor, outputs: Tensor, seed: int, epochs: int = 150) -> nn.Module:
    torch.manual_seed(seed)
    model = nn.Sequential(
        nn.Linear(inputs.shape[1], 128), nn.GELU(), nn.Dropout(0.1), nn.Linear(128, 128), nn.GELU(), nn.Linear(128, 1)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(inputs)), 64):
            loss = nn.functional.binary_cross_entropy_with_logits(model(inputs[rows])[:, 0], outputs[rows])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        schedule.step()
    return model.eval()


def moved_by_scales(raw: WeightFeatures, largest: float, seed: int = 0) -> WeightFeatures:
    """Unit scales from U[1, largest]."""
    rng = np.random.default_rng(seed)
    logs = [torch.from_numpy(np.log(rng.uniform(1.0, largest, w.shape[::2]))) for w in raw.weights[:-1]]
    return scaled(raw.map(lambda t: t.double()), logs).map(lambda t: t.float())


def moved_by_signs(raw: WeightFeatures, seed: int = 0) -> WeightFeatures:
    """Unit signs, each −1 with probability one half."""
    rng = np.random.default_rng(seed)
    ends: list[Tensor | None] = [None]
    ends += [torch.from_numpy(rng.choice([-1.0, 1.0], w.shape[::2])).float() for w in raw.weights[:-1]]
    ends.append(None)
    weights, biases = [], []
    for i, (w, b) in enumerate(zip(raw.weights, raw.biases, strict=True)):
        below, above = ends[i], ends[i + 1]
        w, b = (w, b) if above is None else (w * above[:, None, :, None], b * above[:, None, :])
        weights.append(w if below is None else w * below[:, None, None, :])
        biases.append(b)
    return WeightFeatures(tuple(weights), tuple(biases))


MOVES: Mapping[str, Mapping[str, Callable[[WeightFeatures], WeightFeatures]]] = {
    "relu": {
        "original": lambda raw: raw,
        "scales U[1, 10]": lambda raw: moved_by_scales(raw, 10.0),
        "scales U[1, 1e4]": lambda raw: moved_by_scales(raw, 1e4),
    },
    "tanh": {"original": lambda raw: raw, "random signs": moved_by_signs},
}


def report(zoo: str, activation: str) -> None:
    """Prints one Markdown table."""
    data = load_tensors(zoo, default_config(activation))
    test = data.test & data.final
    train, held = (data.raw[torch.from_numpy(np.nonzero(keep)[0])] for keep in (~data.test, test))
    actual = data.target[test]
    predictor = load_predictor(f"generalization-cifar10gs-{activation}")
    guesses: dict[str, Guess | None] = {
        predictor.card.name: lambda raw: np.array(
            [answer.predicted_test_accuracy for answer in predictor.predict_features(raw)]
        ),
        "gradient boosting on weight statistics": gradient_boosting(train, data.target[~data.test]),
        "MLP on weight statistics": mlp(train, data.target[~data.test]),
    }
    moves = {name: move(held) for name, move in MOVES[activation].items()}
    print(f"\n{activation}: {len(actual)} held-out runs, {int((~data.test).sum())} training checkpoints\n")
    print("| " + " | ".join(["predictor", *(f"{name}: τ, R²" for name in moves)]) + " |")
    print("| " + " | ".join(["---"] * (1 + len(moves))) + " |")
    for name, guess in guesses.items():
        if guess is None:
            print(f"{name}: left out, needs scikit-learn (pip install scikit-learn)", file=sys.stderr)
            continue
        cells = [scores(guess(moved), actual) for moved in moves.values()]
        print("| " + " | ".join([name, *(f"{s.kendall_tau:.3f}, {s.r2:.3f}" for s in cells)]) + " |")
    start = time.perf_counter()
    predictor.predict_features(data.raw)
    print(f"\n{len(data.target) / (time.perf_counter() - start):.0f} networks a second in one batch")


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of this benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", required=True, help="folder with weights.npy, metrics.csv.gz and layout.csv")
    options = parser.parse_args(arguments)
    for activation in GROUP_OF:
        report(options.zoo, activation)


if __name__ == "__main__":
    main()
