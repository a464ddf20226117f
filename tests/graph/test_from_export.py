"""Live programs of torch.export: every translated ATen op computes what torch computes, and nothing else is claimed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.graph.from_export import graph_from_export
from nfn_cli.graph.model import Graph, Network
from nfn_cli.graph.reference import evaluate
from nfn_cli.symmetry import symmetry_report


class Between(nn.Module):
    """A function of feature maps between two convolutions."""

    def __init__(self, function: Callable[[Tensor], Tensor], channels: int = 8) -> None:
        super().__init__()
        self.first, self.function = nn.Conv2d(3, channels, 3, padding=1), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.first(x))


def exported(module: nn.Module, *inputs: Tensor, decomposed: bool = False) -> Graph:
    program = torch.export.export(module, inputs, strict=False)
    return graph_from_export(program.run_decompositions() if decomposed else program)


def residual(module: nn.Module, x: Tensor, graph: Graph) -> float:
    """Largest difference between the module and its graph, over the largest output."""
    with torch.no_grad():
        made = module(x.clone())
    wanted = [made] if isinstance(made, Tensor) else list(made)
    state = {name: tensor.numpy() for name, tensor in module.state_dict().items()}
    answers = evaluate(graph, state, {graph.inputs[0].name: x.numpy()})
    assert [a.shape for a in answers] == [tuple(w.shape) for w in wanted]
    return max(float(np.abs(a - w.numpy()).max() / w.abs().max()) for a, w in zip(answers, wanted, strict=True))


def module_of(function: Callable[[Tensor], Tensor]) -> nn.Module:
    torch.manual_seed(0)
    return Between(function).double().eval()


def image() -> Tensor:
    return torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "pixel_shuffle": lambda x: F.pixel_shuffle(x, 2),
    "pixel_unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "channel_shuffle": lambda x: F.channel_shuffle(x, 4),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "bilinear": lambda x: F.interpolate(x, size=(13, 5), mode="bilinear", align_corners=False),
    "corners": lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
    "linear_1d": lambda x: F.interpolate(x.flatten(2), scale_factor=2, mode="linear"),
    "nearest_3d": lambda x: F.interpolate(x.unflatten(1, (4, 2)), scale_factor=2),
    "glu": lambda x: F.glu(x, 1),
    "log_softmax": lambda x: F.log_softmax(x, 1),
    "softmin": lambda x: F.softmin(x, 1),
    "hardtanh": lambda x: F.hardtanh(x),
    "hardtanh_wide": lambda x: F.hardtanh(x, -2.0, 0.5),
    "threshold": lambda x: F.threshold(x, 0.0, 0.0),
    "celu": lambda x: F.celu(x),
    "rrelu": lambda x: F.rrelu(x),
    "softsign": lambda x: F.softsign(x),
    "tanhshrink": lambda x: F.tanhshrink(x),
    "softplus": lambda x: F.softplus(x, threshold=20),
    "var": lambda x: x.var((2, 3)),
    "var_population": lambda x: x.var((2, 3), correction=0, keepdim=True),
    "var_all": lambda x: x.var(),
    "std": lambda x: x.std(1),
    "amin": lambda x: x.amin((1, 2)),
    "sum": lambda x: x.sum(1),
    "sum_all": lambda x: x.sum(),
    "normalize": lambda x: F.normalize(x, dim=1),
    "norm": lambda x: torch.linalg.vector_norm(x, dim=(2, 3)),
    "adaptive_max": lambda x: F.adaptive_max_pool2d(x, 3),
    "ceil_pool": lambda x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True),
    "dropout": lambda x: F.dropout(x, 0.5, False) + F.dropout2d(x, 0.5, False),
    "split": lambda x: torch.cat(x.split([1, 5, 2], 1)[::-1], 1),
    "unbind": lambda x: torch.stack([part.relu() for part in x.unbind(1)], 3),
    "in_place": lambda x: x.add_(1.0).mul_(2.0) + x,
    "copy_before_in_place": lambda x: x.clone().mul_(2.0) - x,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "mean": lambda x: x.mean(-1) - x.amax(-2),
    "unbatched_reduction": lambda x: x.mean(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_graph_computes_what_torch_computes(name: str) -> None:
    module = module_of(FUNCTIONS[name])
    assert residual(module, image(), exported(module, image())) < 1e-10


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "same_odd": lambda: nn.Conv2d(3, 4, 3, padding="same", dilation=2),
    "same_even": lambda: nn.Conv2d(3, 4, (4, 2), padding="same"),
    "transposed": lambda: nn.ConvTranspose2d(3, 4, 3, 2, 1, output_padding=1),
    "transposed_dilated": lambda: nn.ConvTranspose2d(3, 6, 3, 2, 2, groups=3, dilation=2, bias=False),
    "instance_norm": lambda: nn.InstanceNorm2d(3, affine=True),
    "group_norm": lambda: nn.GroupNorm(3, 3),
    "layer_norm": lambda: nn.LayerNorm([8, 8]),
    "prelu": lambda: nn.PReLU(3),
    "linear_on_rows": lambda: nn.Linear(8, 5),
    "average_pool": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False, ceil_mode=True),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_compute_what_torch_computes(name: str) -> None:
    torch.manual_seed(0)
    module = LAYERS[name]().double().eval()
    assert residual(module, image(), exported(module, image())) < 1e-10


@pytest.mark.parametrize("name", ["same_even", "transposed", "group_norm", "layer_norm", "linear_on_rows"])
def test_layers_in_core_aten_compute_what_torch_computes(name: str) -> None:
    torch.manual_seed(0)
    module = LAYERS[name]().double().eval()
    assert residual(module, image(), exported(module, image(), decomposed=True)) < 1e-10


class ConvNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(torch.relu(self.norm(self.conv(x))), 2)
        return F.softmax(self.head(F.adaptive_avg_pool2d(x, 1).flatten(1)), -1)


def group(module: nn.Module, graph: Graph) -> str:
    checkpoint = Checkpoint("m", "safetensors", {n: t.numpy() for n, t in module.state_dict().items()})
    report = symmetry_report(checkpoint, [Network("", "cnn", graph)])
    assert report.passed
    return report.as_json()["networks"][0]["group"]


def test_core_aten_gives_the_same_group_as_the_training_ir() -> None:
    torch.manual_seed(0)
    module = ConvNet().double().eval()
    graphs = [exported(module, image(), decomposed=decomposed) for decomposed in (False, True)]
    assert [residual(module, image(), graph) < 1e-10 for graph in graphs] == [True, True]
    assert group(module, graphs[0]) == group(module, graphs[1]) == "(R>0^2 × {±1})^6 ⋊ S_6"


FROZEN: dict[str, Callable[[Tensor], Tensor]] = {
    "floor_division": lambda x: torch.div(x, 2.0, rounding_mode="floor"),
    "whole_numbers": lambda x: x.to(torch.int64).to(torch.float64),
    "sharp_softplus": lambda x: F.softplus(x, beta=3),
    "random_dropout": lambda x: F.dropout(x, 0.5, True),
    "uneven_scale": lambda x: F.interpolate(x, scale_factor=1.3, recompute_scale_factor=False),
    "write_through_a_view": lambda x: (x[:, :2].mul_(0.0), x)[1],
    "keyword_tensor": lambda x: torch.where(x > 0, input=x, other=2 * x),
}


@pytest.mark.parametrize("name", FROZEN)
def test_what_is_not_translated_freezes_what_it_reads(name: str) -> None:
    module = module_of(FROZEN[name])
    graph = exported(module, image())
    assert any(op.kind.startswith("aten.") for op in graph.ops)
    checkpoint = Checkpoint("m", "safetensors", {n: t.numpy() for n, t in module.state_dict().items()})
    report = symmetry_report(checkpoint, [Network("", "cnn", graph)]).as_json()
    assert report["networks"][0]["unit_sets"] == []
    assert report["opaque"]
    assert report["check"]["passed"] is None


def test_the_comparison_can_fail() -> None:
    module = module_of(torch.relu)
    assert residual(module_of(torch.tanh), image(), exported(module, image())) > 1e-3
