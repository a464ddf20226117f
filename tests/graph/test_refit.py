"""A graph serves another number of classes, and nothing else that differs."""

from __future__ import annotations

import numpy as np
import pytest

from nfn_cli.graph.model import Graph, GraphInput
from nfn_cli.graph.reference import evaluate
from nfn_cli.graph.refit import refitted

from ..symmetry.networks import Builder


def classifier(head: str) -> tuple[Graph, dict[str, np.ndarray]]:
    b = Builder(0, [GraphInput("x", (2, 3, 5, 5))])
    x = b.act(b.conv("x", "stem", 4, 3), "relu")
    if head == "linear":
        y = b.linear(b.op("spatial_mean", [x]), "head", 6, 4)
    elif head == "conv":  # as in SqueezeNet and BiT: a convolution, pooled, seen as a vector
        y = b.op("pool", [b.conv(x, "head", 6, 4, k=1)], size=(1, 1), statistic="average")
        y = b.op("reshape", [y], shape=[2, 6])
    else:  # the answer is read by something else too
        y = b.linear(b.op("spatial_mean", [x]), "head", 6, 4)
        z = b.linear(y, "after", 6, 6)
        y = b.op("add", [y, z])
    network, tensors = b.network(y)
    return network.graph, tensors


def with_classes(tensors: dict[str, np.ndarray], classes: int) -> dict[str, np.ndarray]:
    return {n: np.resize(a, (classes, *a.shape[1:])) if n.startswith("head") else a for n, a in tensors.items()}


def shapes(tensors: dict[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in tensors.items()}


@pytest.mark.parametrize("head", ["linear", "conv"])
@pytest.mark.parametrize("classes", [2, 6, 11])
def test_the_last_layer_may_have_another_number_of_classes(head: str, classes: int) -> None:
    graph, tensors = classifier(head)
    changed = with_classes(tensors, classes)
    fitted = refitted(graph, shapes(changed))
    assert fitted is not None
    x = {"x": np.random.default_rng(0).standard_normal((2, 3, 5, 5))}
    (answer,) = evaluate(fitted, changed, x)
    assert answer.shape == (2, classes)
    (before,) = evaluate(graph, tensors, x)
    assert np.array_equal(answer[:, : min(6, classes)], before[:, : min(6, classes)])


def test_a_layer_whose_answer_is_read_inside_may_not() -> None:
    graph, tensors = classifier("inside")
    assert refitted(graph, shapes(tensors)) is graph
    assert refitted(graph, shapes(with_classes(tensors, 7))) is None


@pytest.mark.parametrize("change", ["width", "missing", "bias", "rank"])
def test_other_differences_do_not_fit(change: str) -> None:
    graph, tensors = classifier("linear")
    wanted = shapes(tensors)
    if change == "width":
        wanted["stem.weight"] = (5, 3, 3, 3)
    elif change == "missing":
        del wanted["stem.bias"]
    elif change == "bias":
        wanted["head.bias"] = (7,)
    else:
        wanted["head.weight"] = (6, 4, 1)
    assert refitted(graph, wanted) is None
