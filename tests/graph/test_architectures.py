"""A file of a known architecture is recognised by its tensors alone; the graph behaves as the module that it comes from."""

from __future__ import annotations

import numpy as np
import pytest

from nfn_cli.canonical import CanonicalOptions, canonicalize
from nfn_cli.checkpoint import Checkpoint
from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.graph import NameOptions, find_networks
from nfn_cli.graph.architectures import _graph, known_architectures
from nfn_cli.symmetry import symmetry_report

SMALL = [n for n in known_architectures() if n in ("torchvision:resnet18", "torchvision:mobilenet_v3_small")]


def checkpoint_of(name: str, classes: int | None = None) -> Checkpoint:
    random = np.random.default_rng(0)
    graph = _graph(name)
    heads = {t for op in graph.ops if op.output in graph.outputs for t in op.parameters.values()}
    tensors = {}
    for tensor, shape in graph.parameter_shapes.items():
        if classes is not None and tensor in heads:
            shape = (classes, *shape[1:])
        values = random.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))
        tensors[tensor] = np.abs(values) + 0.5 if tensor.endswith("running_var") else values
    return Checkpoint("file", "safetensors", tensors)


def test_the_library_is_shipped() -> None:
    assert "torchvision:resnet18" in known_architectures()


@pytest.mark.parametrize("name", SMALL)
def test_recognised_and_analysed_without_opaque_parts(name: str) -> None:
    checkpoint = checkpoint_of(name)
    networks = find_networks(checkpoint)
    assert networks[0].activation_source == f"architecture {name}"
    report = symmetry_report(checkpoint, networks, elements=1)
    assert report.passed
    assert report.networks[0].check.relative_change < 1e-10
    assert report.networks[0].opaque == ()
    assert sum(s.size for s in report.networks[0].unit_sets) > 2000


def test_another_number_of_classes_fits_too() -> None:
    checkpoint = checkpoint_of("torchvision:resnet18", classes=7)
    assert canonicalize(checkpoint, find_networks(checkpoint), CanonicalOptions()).relative_change < 1e-10


def test_another_width_inside_does_not_fit() -> None:
    checkpoint = checkpoint_of("torchvision:resnet18")
    tensors = dict(checkpoint.tensors) | {"conv1.weight": np.zeros((64, 1, 7, 7))}
    changed = Checkpoint("file", "safetensors", tensors)
    with pytest.raises(Refused):
        find_networks(changed, NameOptions(arch="torchvision:resnet18"))


def test_code_is_not_run_without_permission(tmp_path) -> None:
    ran = tmp_path / "ran"
    (tmp_path / "net.py").write_text(f"open({str(ran)!r}, 'w')\n")
    with pytest.raises(WrongUsage, match="run as a program"):
        find_networks(checkpoint_of("torchvision:resnet18"), NameOptions(arch=f"{tmp_path / 'net.py'}:make"))
    assert not ran.exists()


def test_a_trusted_factory_is_captured(tmp_path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Gate(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.a, self.b = nn.Conv2d(3, 12, 3), nn.Conv2d(6, 4, 1)\n"
        "    def forward(self, x):\n"
        "        left, right = self.a(x).chunk(2, 1)\n"
        "        return self.b(left * torch.sigmoid(right)).mean((2, 3))\n"
        "def make():\n"
        "    return Gate()\n"
    )
    random = np.random.default_rng(0)
    shapes = {"a.weight": (12, 3, 3, 3), "a.bias": (12,), "b.weight": (4, 6, 1, 1), "b.bias": (4,)}
    checkpoint = Checkpoint("file", "safetensors", {n: random.standard_normal(s) for n, s in shapes.items()})
    networks = find_networks(checkpoint, NameOptions(arch=f"{tmp_path / 'net.py'}:make", trust_code=True))
    report = symmetry_report(checkpoint, networks)
    assert report.passed
    assert [(s.size, s.group) for s in report.networks[0].unit_sets] == [(6, "(R>0 × {±1})^6 ⋊ S_6")]
