"""Networks that were never trained: shuffling keeps every tensor's entries, re-initialising keeps only shapes."""

from __future__ import annotations

import numpy as np

from nfn_cli.train.contrast import reinitialised, shuffled
from nfn_cli.zoo.cnn_graph import cnn_graph
from tests.zoo.making import BOTH, PLAIN
from tests.zoo.small_graphs import random_stack

GRAPH = cnn_graph(PLAIN)
ROWS = 40
STACK = random_stack(GRAPH, ROWS)


def test_shuffling_keeps_the_entries_of_each_tensor_of_each_network_and_moves_them() -> None:
    moved = shuffled(STACK, 1)
    assert moved.keys() == STACK.keys()
    for name, before in STACK.items():
        after = moved[name]
        assert after.shape == before.shape
        assert np.array_equal(np.sort(before.reshape(ROWS, -1), 1), np.sort(after.reshape(ROWS, -1), 1))
    weight = "convs.1.weight"
    assert not np.array_equal(moved[weight], STACK[weight])
    # every network by an order of its own
    numbered = {weight: np.broadcast_to(np.arange(1000.0).reshape(10, 10, 10), (2, 10, 10, 10))}
    one, two = shuffled(numbered, 1)[weight]
    assert not np.array_equal(one, two)


def test_reinitialising_takes_nothing_from_the_network() -> None:
    doubled = {name: 2 * array for name, array in STACK.items()}
    here, there = reinitialised(GRAPH, STACK, 3), reinitialised(GRAPH, doubled, 3)
    assert all(np.array_equal(here[name], there[name]) for name in STACK)
    assert not np.array_equal(here["convs.0.weight"], reinitialised(GRAPH, STACK, 4)["convs.0.weight"])
    assert all(array.dtype == STACK[name].dtype and array.shape == STACK[name].shape for name, array in here.items())


def test_weights_are_drawn_by_fan_in_and_fan_out() -> None:
    """Of four rules: √fan_in times the deviation is 1/√3, √2 (twice), or Glorot's, which looks at the fan-out too."""
    fresh = reinitialised(GRAPH, random_stack(GRAPH, 400), 0)["convs.1.weight"]
    fan_in, fan_out = 8 * 9, 16 * 9
    deviations = fresh.reshape(400, -1).std(1) * np.sqrt(fan_in)
    rules = np.array([1 / np.sqrt(3), np.sqrt(2), np.sqrt(2 * fan_in / (fan_in + fan_out))])
    nearest = np.abs(deviations[:, None] - rules).argmin(1)
    assert np.abs(deviations / rules[nearest] - 1).max() < 0.1
    shares = np.bincount(nearest, minlength=3) / 400
    assert np.abs(shares - [0.25, 0.5, 0.25]).max() < 0.08


def test_norms_are_those_of_a_network_before_training() -> None:
    graph = cnn_graph(BOTH)
    fresh = reinitialised(graph, random_stack(graph, 3), 0)
    for index in range(len(BOTH.layers)):
        assert (fresh[f"norms.{index}.weight"] == 1).all()
        assert (fresh[f"norms.{index}.running_var"] == 1).all()
        assert (fresh[f"norms.{index}.bias"] == 0).all()
        assert (fresh[f"norms.{index}.running_mean"] == 0).all()
    assert fresh["shortcuts.2.weight"].std() > 0.05  # the control: a layer without a bias is drawn too
