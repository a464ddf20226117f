"""The torch evaluator of graphs computes what the slow float64 reference computes, for every op and from any side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nfn_cli.errors import Refused
from nfn_cli.graph import reference
from nfn_cli.graph.activations import ACTIVATIONS
from nfn_cli.graph.architecture_index import library_graph
from nfn_cli.graph.from_export import graph_from_export
from nfn_cli.graph.model import Graph, GraphInput, Op
from nfn_cli.networks.graph_evaluator import evaluate, evaluate_stacked
from nfn_cli.networks.graph_evaluator.pointwise import FORMULAS
from nfn_cli.networks.graph_evaluator.registry import EVALUATORS
from nfn_cli.networks.graph_evaluator.stacked import side_by_side, value_bytes
from tests.graph.torch_modules import MODULES, as_tuple, make
from tests.networks.graph_cases import CASES
from tests.symmetry.networks import ALL, Tensors, cnn

Array = np.ndarray[Any, np.dtype[np.float64]]
TOLERANCE = 1e-12
UNKNOWN_POOLING = {"cnn-relu-max", "cnn-tanh-max"}


def as_torch(arrays: Mapping[str, Array]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def apart(wanted: tuple[Array, ...], found: tuple[Tensor, ...]) -> float:
    """Largest difference over the largest entry; shapes must agree."""
    assert [w.shape for w in wanted] == [tuple(f.shape) for f in found]
    return max(
        float(np.abs(w - f.numpy()).max() / max(1e-300, np.abs(w).max())) for w, f in zip(wanted, found, strict=True)
    )


def difference(graph: Graph, tensors: Mapping[str, Array], seed: int = 0) -> float:
    inputs = reference.random_inputs(graph, seed)
    return apart(reference.evaluate(graph, tensors, inputs), evaluate(graph, as_torch(tensors), as_torch(inputs)))


@pytest.mark.parametrize("name", sorted(set(ALL) - UNKNOWN_POOLING))
def test_networks_compute_what_the_reference_computes(name: str) -> None:
    network, tensors = ALL[name](0)
    assert difference(network.graph, tensors) < TOLERANCE


@pytest.mark.parametrize("case", CASES)
def test_ops_compute_what_the_reference_computes(case: str) -> None:
    assert difference(*CASES[case]()) < TOLERANCE


def test_every_kind_of_the_reference_is_known_and_tested() -> None:
    known = set(reference.EVALUATORS) - {"opaque"}
    assert set(EVALUATORS) == known
    assert {op.kind for make_case in CASES.values() for op in make_case()[0].ops} == known


def test_another_stride_is_noticed() -> None:
    graph, tensors = CASES["conv stride"]()
    (op,) = graph.ops
    other = replace(graph, ops=(replace(op, attributes={**op.attributes, "padding": [2, 1]}),))
    inputs = reference.random_inputs(graph, 0)
    found = evaluate(other, as_torch(tensors), as_torch(inputs))
    assert [tuple(f.shape) for f in found] != [w.shape for w in reference.evaluate(graph, tensors, inputs)]


def test_activations_are_those_of_the_table() -> None:
    assert set(FORMULAS) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_keep_full_precision_far_out(name: str) -> None:
    places = np.concatenate([np.linspace(-45.0, 45.0, 361), np.geomspace(1e-8, 1e2, 60), -np.geomspace(1e-8, 1e2, 60)])
    z = places[places > 0] if name in ("log", "sqrt", "rsqrt") else places[places != 0]
    parameter = ACTIVATIONS[name].parameter or 1.0
    wanted, found = ACTIVATIONS[name].formula(z, parameter), FORMULAS[name](torch.from_numpy(z), parameter).numpy()
    assert np.abs(wanted - found).max() <= 1e-14 * np.abs(wanted).max()
    assert np.all(np.abs(wanted - found) <= 1e-12 * np.abs(wanted) + 2e-16 * (1 + np.abs(z)))


@pytest.mark.parametrize("name", MODULES)
def test_captured_modules_answer_batches_of_any_size_as_they_did(name: str) -> None:
    module, example = make(name)
    with torch.no_grad():
        graph = graph_from_export(torch.export.export(module, (example,)).run_decompositions())
        tensors = dict(module.state_dict())
        (entry,) = graph.inputs
        for batch in (2, 5):
            x = torch.randn((batch, *example.shape[1:]), dtype=torch.float64)
            wanted = tuple(w.numpy() for w in as_tuple(module(x)))
            assert apart(wanted, evaluate(graph, tensors, {entry.name: x})) < TOLERANCE


def test_a_graph_of_a_fixed_batch_is_run_in_groups_of_it() -> None:
    """Inputs centred over groups of two: for five of them the last is a pair with itself."""
    ops = (Op("reduce", ("x",), "m", {}, {"axes": [0], "statistic": "mean"}), Op("add", ("x", "m"), "y"))
    graph = Graph((GraphInput("x", (2, 3)),), ops, ("y",), {})
    x = torch.randn(5, 3, dtype=torch.float64)
    (y,) = evaluate(graph, {}, {"x": x})
    assert torch.allclose(y, x + x[[0, 0, 2, 2, 4]] / 2 + x[[1, 1, 3, 3, 4]] / 2)
    free = replace(graph, inputs=(GraphInput("x", (None, 3)),))
    assert not torch.allclose(y, evaluate(free, {}, {"x": x})[0])


def random_tensors(graph: Graph) -> Tensors:
    random = np.random.default_rng(0)
    return {
        name: np.abs(values) + 0.5 if name.endswith("running_var") else values
        for name, shape in graph.parameter_shapes.items()
        for values in [random.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))]
    }


@pytest.mark.parametrize(
    "name",
    [
        "timm:test_nfnet",
        *(pytest.param(f"torchvision:{n}", marks=pytest.mark.slow) for n in ("resnet18", "mnasnet1_3")),
    ],
)
def test_architectures_compute_what_the_reference_computes(name: str) -> None:
    graph = library_graph(name)
    assert difference(graph, random_tensors(graph)) < TOLERANCE


def test_gradients_are_those_of_finite_differences() -> None:
    graph, tensors = cnn(0, "tanh")[0].graph, as_torch(cnn(0, "tanh")[1])
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    names = list(tensors)

    def answer(x: Tensor, *values: Tensor) -> Tensor:
        return evaluate(graph, dict(zip(names, values, strict=True)), {"x": x})[0]

    values = [each.requires_grad_() for each in (x, *tensors.values())]
    assert torch.autograd.gradcheck(answer, values, fast_mode=True)


def test_every_op_passes_a_gradient_on() -> None:
    for make_case in CASES.values():
        graph, tensors = make_case()
        inputs = {name: x.requires_grad_() for name, x in as_torch(reference.random_inputs(graph, 0)).items()}
        sum(answer.sum() for answer in evaluate(graph, as_torch(tensors), inputs)).backward()
        assert all(x.grad is not None and bool(x.grad.isfinite().all()) for x in inputs.values())


def stack(graph_of: Callable[[int], tuple[Any, Tensors]], count: int) -> dict[str, Tensor]:
    each = [as_torch(graph_of(seed)[1]) for seed in range(count)]
    return {name: torch.stack([tensors[name] for tensors in each]) for name in each[0]}


@pytest.mark.parametrize("name", ["mlp-gelu", "cnn-silu", "residual-relu", "grouped-tanh", "concatenation-relu"])
def test_many_networks_at_once_answer_as_each_alone(name: str) -> None:
    graph, stacked = ALL[name](0)[0].graph, stack(ALL[name], 5)
    inputs = as_torch(reference.random_inputs(graph, 0))
    alone = [evaluate(graph, {n: t[row] for n, t in stacked.items()}, inputs)[0] for row in range(5)]
    for found in (evaluate_stacked(graph, stacked, inputs), side_by_side(graph, stacked, inputs, 2)):
        assert torch.allclose(found[0], torch.stack(alone), rtol=1e-12, atol=1e-13)
    assert not torch.allclose(alone[0], alone[1])


@pytest.mark.parametrize("case", CASES)
def test_every_op_runs_side_by_side(case: str) -> None:
    graph, tensors = CASES[case]()
    inputs = as_torch(reference.random_inputs(graph, 0))
    stacked = {name: torch.stack([t, 2 * t, t / 3]) for name, t in as_torch(tensors).items()}
    stacked = stacked or {"unused": torch.zeros(3, 1)}
    graph = replace(graph, parameter_shapes={name: tuple(t.shape[1:]) for name, t in stacked.items()})
    for one, found in zip(
        evaluate_stacked(graph, stacked, inputs), side_by_side(graph, stacked, inputs, 2), strict=True
    ):
        assert one.shape[0] == 3
        assert torch.allclose(one, found, rtol=1e-12, atol=1e-13)


def test_answers_have_the_precision_of_the_inputs() -> None:
    graph, tensors = cnn(0, "relu")[0].graph, as_torch(cnn(0, "relu")[1])
    x = torch.randn(3, 2, 6, 6, dtype=torch.float64)
    exact = evaluate(graph, tensors, {"x": x})[0]
    single = evaluate(graph, tensors, {"x": x.float()})[0]
    assert single.dtype == torch.float32
    assert 1e-9 < float((single - exact).abs().max() / exact.abs().max()) < 1e-4


def test_memory_of_the_values_is_counted_without_running() -> None:
    graph = ALL["mlp-relu"](0)[0].graph  # 5, 7, 6, 3 units; two activations
    assert value_bytes(graph, {"x": torch.zeros(11, 5)}) == 11 * (7 + 7 + 6 + 6 + 3) * 4


def refusal(run: Callable[[], object]) -> str:
    with pytest.raises(Refused) as caught:
        run()
    assert caught.value.code == "cannot-evaluate"
    return str(caught.value)


def one_op(kind: str, tensors: Mapping[str, Tensor] | None = None, **attributes: Any) -> Callable[[], object]:
    tensors = tensors or {}
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    op = Op(kind, ("x",), "y", {name: name for name in tensors}, attributes)
    graph = Graph((GraphInput("x", (None, 3, 4, 4)),), (op,), ("y",), shapes)
    return lambda: evaluate(graph, tensors, {"x": torch.zeros(2, 3, 4, 4)})


def test_what_is_not_known_is_refused_by_name() -> None:
    assert refusal(one_op("opaque", shape=(0, 3), reason="an order")) == "y: not known: an order"
    assert refusal(one_op("aten.cumsum")) == "y: what 'aten.cumsum' computes is not known"
    assert "how positions are pooled" in refusal(one_op("pool", size=(1, 1)))
    assert "how positions are pooled" in refusal(one_op("pool", size=(1, 1), statistic="unknown"))
    assert "without running statistics" in refusal(one_op("batch_norm", {"weight": torch.ones(3)}))
    assert "'nosuch'" in refusal(one_op("pointwise", function="nosuch"))
    assert "'mode'" in refusal(one_op("reduce", axes=[1], statistic="mode"))


def test_values_that_do_not_fit_are_refused_by_name() -> None:
    too_large = one_op("conv", {"weight": torch.zeros(2, 3, 9, 9)}, out_axis=0, in_axis=1)
    assert refusal(too_large).startswith("weight: conv does not fit")
    assert "window" in refusal(one_op("max_pool", kernel=9))
    assert "conv does not fit" in refusal(one_op("conv", {"weight": torch.zeros(2, 3)}, out_axis=0, in_axis=1))
    graph = ALL["mlp-relu"](0)[0].graph
    assert "layers.0.weight" in refusal(lambda: evaluate(graph, {}, {"x": torch.zeros(2, 5)}))
    assert "no value for this input" in refusal(lambda: evaluate(graph, {}, {}))
    stacked = {
        name: torch.zeros((2 + (name == "layers.0.bias"), *shape)) for name, shape in graph.parameter_shapes.items()
    }
    assert "[2, 3] networks" in refusal(lambda: evaluate_stacked(graph, stacked, {"x": torch.zeros(2, 5)}))
