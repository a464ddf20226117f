"""Statistics of batch norms measured on data are those that PyTorch keeps in training mode."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, GraphInput, Op
from nfn_cli.networks.batch_norm_statistics import has_batch_norm, measured
from nfn_cli.networks.graph_evaluator import evaluate

from ..symmetry.networks import Builder


class Residual(nn.Module):
    """Three norms in a row, one of them used twice, and one that is fed by the input itself."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.BatchNorm2d(2)
        self.stem, self.shared = nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.conv, self.last = nn.Conv2d(6, 6, 3, stride=2), nn.BatchNorm2d(6, affine=False)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.shared(self.stem(self.first(x))))
        x = x + torch.relu(self.shared(x))
        return self.head(torch.tanh(self.last(self.conv(x))).mean((2, 3)))


def module() -> Residual:
    torch.manual_seed(3)
    made = Residual().double().eval()
    with torch.no_grad():
        for norm in norms(made).values():
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
            if norm.affine:
                norm.weight.uniform_(0.5, 2.0)
    return made


def norms(made: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: child for name, child in made.named_modules() if isinstance(child, nn.BatchNorm2d)}


@pytest.fixture(scope="module")
def graph() -> Graph:
    """The same, op by op."""
    b = Builder(0, [GraphInput("x", (None, 2, None, None))])
    x = b.norm("x", "first", 2)
    x = b.conv(x, "stem", 6, 2)
    x = b.act(b.norm(x, "shared", 6), "relu")
    x = b.op("add", [x, b.act(b.norm(x, "shared", 6), "relu")])
    how = {"out_axis": 0, "in_axis": 1, "stride": 2, "padding": 0}
    roles = {"weight": b.tensor("conv.weight", 6, 6, 3, 3), "bias": b.tensor("conv.bias", 6)}
    x = b.act(b.norm(b.op("conv", [x], roles, **how), "last", 6, affine=False), "tanh")
    network, _ = b.network(b.head(x, 6, name="head"))
    made = module()
    with torch.no_grad():  # negative control of what follows: the graph computes what the module does
        x = torch.from_numpy(inputs(5))
        (answer,) = evaluate(network.graph, made.state_dict(), {"x": x})
        assert torch.allclose(answer, made(x), rtol=1e-12)
    return network.graph


def inputs(count: int) -> np.ndarray:
    return np.random.default_rng(0).gamma(2.0, 1.5, (count, 2, 8, 8))


def trained_statistics(batches: list[np.ndarray]) -> dict[str, np.ndarray]:
    made = module().train()
    for norm in norms(made).values():
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        for batch in batches:
            made(torch.from_numpy(batch))
    state = made.state_dict()
    return {name: state[name].numpy() for name in state if "running" in name}


def test_one_batch_of_all_the_data_is_one_step_of_training(graph: Graph) -> None:
    assert has_batch_norm(graph)
    data = inputs(23)
    found = measured(graph, module().state_dict(), data)
    wanted = trained_statistics([data])
    assert found.batches == 1
    assert found.tensors.keys() == wanted.keys()
    for name, array in wanted.items():
        assert np.allclose(found.tensors[name], array, rtol=1e-12, atol=1e-12), name
    # negative control: they are neither those of the file nor those of other data
    stored = module().state_dict()
    assert min(float(np.abs(found.tensors[n] - stored[n].numpy()).max()) for n in wanted) > 1e-2
    others = trained_statistics([inputs(40)[23:]])
    assert not np.allclose(found.tensors["last.running_var"], others["last.running_var"], rtol=1e-3)


def test_batches_that_fit_memory_are_a_pass_of_training_with_momentum_none(graph: Graph) -> None:
    data = inputs(23)
    found = measured(graph, module().state_dict(), data, limit=60_000)
    assert 1 < found.batches < 23
    wanted = trained_statistics(np.array_split(data, found.batches))
    for name, array in wanted.items():
        assert np.allclose(found.tensors[name], array, rtol=1e-12, atol=1e-12), name
    whole = trained_statistics([data])
    assert not np.allclose(found.tensors["last.running_var"], whole["last.running_var"], rtol=1e-6)


def test_every_norm_then_sees_what_its_new_statistics_say() -> None:
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(2, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.BatchNorm2d(4)
    ).double()
    b = Builder(0, [GraphInput("x", (None, 2, None, None))])
    x = "x"
    for number, (out, into) in {0: (5, 2), 3: (4, 5)}.items():
        roles = {"weight": b.tensor(f"{number}.weight", out, into, 3, 3), "bias": b.tensor(f"{number}.bias", out)}
        x = b.norm(b.op("conv", [x], roles, out_axis=0, in_axis=1, padding=0), str(number + 1), out)
        x = x if number else b.act(x, "relu")
    network, _ = b.network(x)
    data = inputs(300)
    found = measured(network.graph, made.state_dict(), data)
    made.load_state_dict(made.state_dict() | {n: torch.from_numpy(a) for n, a in found.tensors.items()})
    seen: list[Tensor] = []
    made[4].register_forward_hook(lambda _, fed, __: seen.append(fed[0]))
    with torch.no_grad():
        made.eval()(torch.from_numpy(data))
    # the norm before divides by the unbiased variance now, by the biased one while it was measured
    near = 1 / (300 * 36)
    assert np.allclose(seen[0].mean((0, 2, 3)), found.tensors["4.running_mean"], atol=near)
    assert np.allclose(seen[0].var((0, 2, 3)), found.tensors["4.running_var"], rtol=2 * near)
    assert not np.allclose(seen[0].var((0, 2, 3)), 1.0, rtol=0.05)  # negative control: those of the file


def test_nothing_is_measured_where_it_cannot_be() -> None:
    shapes = {"m": (3,), "v": (3,)}
    norm = Op("batch_norm", ("x",), "y", {"running_mean": "m", "running_var": "v"}, {"eps": 1e-5})
    tensors = {"m": torch.zeros(3), "v": torch.ones(3)}
    graph = Graph((GraphInput("x", (None, 3)),), (norm,), ("y",), shapes)
    assert np.allclose(measured(graph, tensors, np.eye(3)).tensors["v"], 1 / 3)
    with pytest.raises(Refused, match="one value per channel"):
        measured(graph, tensors, np.ones((1, 3)))
    whole = Op("softmax", ("y",), "z", {}, {"axis": 0})
    fixed = Graph((GraphInput("x", (4, 3)),), (norm, whole), ("z",), shapes)
    with pytest.raises(Refused, match="batches of 4"):
        measured(fixed, tensors, np.ones((8, 3)))
    assert not has_batch_norm(Graph((GraphInput("x", (None, 3)),), (), ("x",), {}))
