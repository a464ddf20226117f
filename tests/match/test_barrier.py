"""The barrier between two networks: what stands on the line between them, before and after alignment."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest
import torch

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.graph.model import Network, Op
from nfn_cli.graph.reference import evaluate
from nfn_cli.match.align import align
from nfn_cli.match.barrier import Barrier, Curve, Curves, NotRun, Performance, shares_of
from nfn_cli.networks.line_of_networks import Data, network_curves
from nfn_cli.networks.task_loss import CROSS_ENTROPY, SQUARED_ERROR, TO_THE_ENDS, performance, task_of

from ..symmetry.networks import ALL, Tensors, cnn, mlp
from .test_equivalent import moved


def curve(losses: list[float], accuracies: list[float | None] | None = None) -> Curve:
    given = accuracies or [None] * len(losses)
    return Curve(shares_of(len(losses)), tuple(map(Performance, losses, given)))


def test_a_barrier_is_the_largest_loss_above_the_line_between_the_ends() -> None:
    assert curve([1.0, 4.0, 3.0]).barrier == pytest.approx(2.0)
    assert curve([1.0, 1.0, 3.0, 2.5, 2.0]).barrier == pytest.approx(1.5)
    assert curve([3.0, 0.5, 1.0]).barrier == 0.0
    assert curve([1.0, inf, 1.0]).barrier == inf
    assert curve([1.0, float("nan"), 1.0]).barrier == inf
    assert curve([1.0, 2.0, 1.0]).accuracy_lost is None
    assert curve([0, 0, 0], [0.9, 0.3, 0.5]).accuracy_lost == pytest.approx(0.4)
    with pytest.raises(WrongUsage):
        shares_of(2)


def whole(network: Network) -> Network:
    """The network with all that running it needs."""
    ops = [
        replace(op, attributes={"stride": 1, **op.attributes}) if op.kind == "conv" else op for op in network.graph.ops
    ]
    return replace(network, graph=replace(network.graph, ops=tuple(ops)))


def setting(kind: str, classes: bool = True) -> tuple[Network, Tensors, Data]:
    """A network that tells inputs apart with confidence, and inputs whose labels are what it answers."""
    network, tensors = ALL[kind](1)
    network = whole(network)
    (entry,) = network.graph.inputs
    inputs = np.random.default_rng(0).standard_normal((60, *(n or 6 for n in entry.shape[1:])))
    answered = outputs_on(network, tensors, inputs)
    head = network.graph.ops[-1].parameters
    sure = 5 / answered.std(0)
    tensors[head["weight"]] *= sure[:, None]
    tensors[head["bias"]] = (tensors[head["bias"]] - answered.mean(0)) * sure
    return network, tensors, Data(inputs, told(network, tensors, inputs) if classes else None, inputs)


def told(network: Network, tensors: Tensors, inputs: np.ndarray) -> np.ndarray:
    return outputs_on(network, tensors, inputs).argmax(1)


def outputs_on(network: Network, tensors: Tensors, inputs: np.ndarray) -> np.ndarray:
    (entry,) = network.graph.inputs
    return evaluate(network.graph, tensors, {entry.name: inputs})[0]


def between(network: Network, one: Tensors, other: Tensors, data: Data, points: int = 5) -> Curves:
    left, right = (Checkpoint(name, "safetensors", tensors) for name, tensors in (("a", one), ("b", other)))
    aligned = align(right, [network], left, [network]).checkpoint.tensors
    found = network_curves(network, one, other, aligned, shares_of(points), data)
    assert isinstance(found, Curves)
    return found


@pytest.mark.parametrize("kind", ["mlp-tanh", "mlp-sin", "residual-tanh", "grouped-relu"])
@pytest.mark.parametrize("classes", [True, False], ids=["labels", "no-labels"])
def test_there_is_no_barrier_within_an_orbit_once_aligned(kind: str, classes: bool) -> None:
    network, tensors, data = setting(kind, classes)
    data = replace(data, statistics=None)
    found = between(network, tensors, moved(network, tensors, 5), data)
    assert found.aligned.barrier < 1e-9
    assert found.naive.barrier > 1e-3  # negative control
    assert found.loss == (CROSS_ENTROPY if classes else TO_THE_ENDS)
    if classes:
        assert {point.accuracy for point in found.aligned.points} == {1.0}
        assert found.naive.accuracy_lost is not None
        assert found.naive.accuracy_lost > 0
    else:
        assert found.naive.points[0].loss == found.naive.points[-1].loss == 0.0


def test_both_lines_have_the_same_ends() -> None:
    network, one, data = setting("residual-relu")
    _, other = ALL["residual-relu"](2)
    found = between(network, one, other, replace(data, statistics=None))
    for at in (0, -1):
        assert found.naive.points[at].loss == pytest.approx(found.aligned.points[at].loss, rel=1e-9)
    assert found.naive.points[2].loss != pytest.approx(found.aligned.points[2].loss, rel=1e-3)
    # measured statistics are those of another frame up to ε, which scales do not leave alone
    measured = between(network, one, other, data)
    assert measured.batches == 1
    assert measured.naive.points[-1].loss == pytest.approx(measured.aligned.points[-1].loss, rel=1e-4)


def test_statistics_are_measured_at_every_point_and_averaged_only_if_asked() -> None:
    network, one = cnn(1, "relu")
    network, (_, other) = whole(network), cnn(2, "relu")
    inputs = np.random.default_rng(0).standard_normal((60, 2, 6, 6)) * 3 + 1
    data = Data(inputs, told(network, one, inputs), inputs)
    measured = between(network, one, other, data)
    averaged = between(network, one, other, replace(data, statistics=None))
    elsewhere = between(network, one, other, replace(data, statistics=inputs[:30] * 0.3))
    for at in range(5):
        losses = [found.aligned.points[at].loss for found in (measured, averaged, elsewhere)]
        assert min(abs(a - b) for a, b in ((losses[0], losses[1]), (losses[0], losses[2]))) > 1e-6
    assert (measured.batches, averaged.batches) == (1, None)
    # the end as it is in the file: averaged statistics of one network are its own
    own = np.asarray(outputs_on(network, one, inputs))
    wanted = torch.nn.functional.cross_entropy(torch.from_numpy(own), torch.from_numpy(data.labels))
    assert averaged.aligned.points[0].loss == pytest.approx(float(wanted), rel=1e-9)


def test_the_loss_of_a_network_that_ends_in_a_softmax_is_the_same() -> None:
    network, tensors, data = setting("mlp-tanh")
    graph = network.graph
    ended = replace(graph, ops=(*graph.ops, Op("softmax", graph.outputs, "p", {}, {"axis": 1})), outputs=("p",))
    _, other = ALL["mlp-tanh"](2)
    plain = between(network, tensors, other, data)
    found = between(replace(network, graph=ended), tensors, other, data)
    for one, same in zip(plain.naive.points, found.naive.points, strict=True):
        assert same.loss == pytest.approx(one.loss, rel=1e-9)
        assert same.accuracy == one.accuracy


def test_one_number_a_network_is_compared_with_its_label() -> None:
    network, tensors = mlp(1, "tanh", (4, 6, 1))
    inputs, labels = np.random.default_rng(0).standard_normal((9, 4)), np.arange(9)
    task = task_of(network.graph, inputs, labels)
    assert task.loss == SQUARED_ERROR
    answered = outputs_on(network, tensors, inputs)
    assert performance(task, answered).loss == pytest.approx(float(((answered[:, 0] - labels) ** 2).mean()))


def test_labels_must_be_classes_and_inputs_must_fit() -> None:
    network, tensors, data = setting("mlp-tanh")
    for bad in (3, -1):
        with pytest.raises(Refused, match=f"label {bad} for a network of 3 classes"):
            task_of(network.graph, data.inputs, np.full(60, bad))
    wide = Data(np.zeros((2, 7)), None, None)
    found = network_curves(network, tensors, tensors, tensors, shares_of(3), wide)
    assert isinstance(found, NotRun)
    assert "shape 5, not 7" in found.reason
    assert (
        network_curves(network, tensors, tensors, tensors, shares_of(3), replace(data, statistics=wide.inputs)) == found
    )


def test_json_has_the_same_keys_whether_a_network_was_run_or_not() -> None:
    found = Curves("a", CROSS_ENTROPY, 3, None, curve([1, 2, 1]), curve([1, 1, 1], [0.5, 0.5, 0.5]))
    report = Barrier(shares_of(3), (found, NotRun("b", "why")), 1.0, 2.0, 0.5).as_json()
    run, not_run = report["networks"]
    assert run.keys() == not_run.keys()
    assert run["naive"] == {"loss": [1, 2, 1], "accuracy": None, "barrier": 1.0, "accuracy_lost": None}
    assert run["aligned"]["accuracy"] == [0.5, 0.5, 0.5]
    assert not_run["not_run"] == "why"


def test_the_curves_are_those_of_the_reference_evaluator() -> None:
    """A slow, obvious way to the same numbers."""
    network, one, data = setting("mlp-relu")
    _, other = ALL["mlp-relu"](2)
    found = between(network, one, other, data)
    for share, point in zip(found.naive.shares, found.naive.points, strict=True):
        mixed = {name: (1 - share) * one[name] + share * other[name] for name in one}
        logits = torch.from_numpy(outputs_on(network, mixed, data.inputs))
        wanted = torch.nn.functional.cross_entropy(logits, torch.from_numpy(data.labels))
        assert point.loss == pytest.approx(float(wanted), rel=1e-9)
