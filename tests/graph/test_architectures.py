"""A file of a known architecture is recognised by its tensors alone; the graph behaves as the module that it comes from."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save_file

from nfn_cli import load
from nfn_cli.canonical import CanonicalOptions, canonicalize
from nfn_cli.checkpoint import Checkpoint
from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.graph import NameOptions, architectures, find_networks
from nfn_cli.graph.architecture_index import (
    KnownArchitecture,
    candidates,
    known_architectures,
    library_graph,
    names_key,
    shapes_key,
)
from nfn_cli.graph.model import Graph
from nfn_cli.symmetry import find_symmetry, symmetry_report

SMALL = ["torchvision:resnet18", "torchvision:mobilenet_v3_small", "torchvision:squeezenet1_1"]


def heads(graph: Graph) -> set[str]:
    """Tensors of the layer that counts the classes: the last with weights."""
    last = next(op for op in reversed(graph.ops) if "weight" in op.parameters)
    return set(last.parameters.values())


def checkpoint_of(name: str, classes: int | None = None) -> Checkpoint:
    random = np.random.default_rng(0)
    graph = library_graph(name)
    tensors = {}
    for tensor, shape in graph.parameter_shapes.items():
        if classes is not None and tensor in heads(graph):
            shape = (classes, *shape[1:])
        values = random.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))
        tensors[tensor] = np.abs(values) + 0.5 if tensor.endswith("running_var") else values
    return Checkpoint("file", "safetensors", tensors)


def test_the_library_lists_what_the_frameworks_have() -> None:
    names = known_architectures()
    assert sum(name.startswith("torchvision:") for name in names) >= 80
    assert sum(name.startswith("timm:") for name in names) >= 1000


@pytest.mark.parametrize("classes", [None, 7])
@pytest.mark.parametrize("name", SMALL)
def test_recognised_and_analysed_without_opaque_parts_whatever_the_classes(name: str, classes: int | None) -> None:
    checkpoint = checkpoint_of(name, classes)
    networks = find_networks(checkpoint)
    assert networks[0].activation_source == f"architecture {name}"
    report = symmetry_report(checkpoint, networks, elements=1)
    assert report.passed
    assert report.networks[0].check.relative_change < 1e-10
    assert report.networks[0].opaque == ()
    assert sum(s.size for s in report.networks[0].unit_sets) > 1000
    assert canonicalize(checkpoint, networks, CanonicalOptions()).relative_change < 1e-10


def test_another_width_inside_does_not_fit() -> None:
    checkpoint = checkpoint_of("torchvision:resnet18")
    changed = replace(checkpoint, tensors=dict(checkpoint.tensors) | {"conv1.weight": np.zeros((64, 1, 7, 7))})
    with pytest.raises(Refused, match="conv1"):
        find_networks(changed, NameOptions(arch="torchvision:resnet18"))


def test_candidates_with_one_group_are_all_named() -> None:
    checkpoint = checkpoint_of("torchvision:densenet121")
    (network,) = find_networks(checkpoint)
    assert any("timm:densenet121" in note and "same group" in note for note in network.notes)


@pytest.fixture
def two_candidates(monkeypatch: pytest.MonkeyPatch):
    """Index entries for the tensors of ResNet-18, as given."""

    def given(*known: KnownArchitecture, graphs: dict[str, Graph]) -> None:
        monkeypatch.setattr(architectures, "candidates", lambda shapes: known)
        monkeypatch.setattr(architectures, "library_graph", graphs.__getitem__)

    return given


def test_candidates_that_differ_in_eps_leave_alone_what_depends_on_it(two_candidates) -> None:
    graph = library_graph("torchvision:resnet18")
    first = next(op for op in graph.ops if op.kind == "batch_norm")
    other = replace(
        graph,
        ops=tuple(replace(op, attributes={**op.attributes, "eps": 0.1}) if op is first else op for op in graph.ops),
    )
    two_candidates(
        KnownArchitecture("timm:a", "", "", {}, "group", "eps"),
        KnownArchitecture("timm:b", "", "", {}, "group", "other eps"),
        graphs={"timm:a": graph, "timm:b": other},
    )
    checkpoint = checkpoint_of("torchvision:resnet18")
    (network,) = find_networks(checkpoint)
    assert any("ε" in note for note in network.notes)
    whole, careful = (
        len(np.unique(find_symmetry([n]).classes["scale"])) for n in (replace(network, graph=graph), network)
    )
    assert whole - careful == 64  # the magnitudes in front of that norm
    for each in (graph, other):  # right whichever of the two it is
        report = symmetry_report(checkpoint, [replace(network, graph=_eps_marked(each, network.graph))], elements=1)
        assert report.passed


def _eps_marked(graph: Graph, like: Graph) -> Graph:
    marks = {op.output: op.attributes.get("eps_known", True) for op in like.ops}
    return replace(
        graph,
        ops=tuple(replace(op, attributes={**op.attributes, "eps_known": marks[op.output]}) for op in graph.ops),
    )


def test_candidates_with_different_groups_are_asked_about(two_candidates) -> None:
    graph = library_graph("torchvision:resnet18")
    two_candidates(
        KnownArchitecture("timm:a", "", "", {}, "group", "eps"),
        KnownArchitecture("timm:b", "", "", {}, "other group", "eps"),
        graphs={"timm:a": graph, "timm:b": graph},
    )
    checkpoint = checkpoint_of("torchvision:resnet18")
    with pytest.raises(Refused, match=r"timm:a, timm:b") as refusal:
        find_networks(checkpoint)
    assert "--arch" in refusal.value.fix
    named = replace(checkpoint, hints=replace(checkpoint.hints, architecture="b.in1k", source="config.json"))
    assert find_networks(named)[0].activation_source == "architecture timm:b"


def test_digests_do_not_depend_on_order_and_tell_shapes_apart() -> None:
    shapes = {"a": (3, 4), "b": (4,)}
    assert shapes_key(shapes) == shapes_key(dict(reversed(shapes.items())))
    assert shapes_key(shapes) != shapes_key({"a": (4, 3), "b": (4,)})
    assert shapes_key(shapes, {"b": 0}) == shapes_key({"a": (3, 4), "b": (9,)}, {"b": 0})
    assert names_key(shapes) == names_key(["b", "a"])
    assert candidates({"no.such.tensor": (1,)}) == ()


def test_a_config_that_names_the_architecture_is_heard(tmp_path) -> None:
    checkpoint = checkpoint_of("torchvision:densenet121")
    save_file({n: a.astype(np.float32) for n, a in checkpoint.tensors.items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "densenet121.ra_in1k", "num_classes": 1000}))
    (network,) = find_networks(load(tmp_path / "model.safetensors"))
    assert network.activation_source in ("architecture timm:densenet121", "architecture torchvision:densenet121")
    assert any("config.json" in note for note in network.notes)


@pytest.mark.parametrize(
    "config",
    [
        {"architecture": "../../etc/passwd", "model_args": {"pretrained": True}},
        {"architecture": "resnet18", "model_args": {"checkpoint_path": "/tmp/evil.pth"}},
        {"architecture": "resnet18", "model_args": {"__class__": 1, "x": {"a": [1]}}},
        {"architecture": "resnet18", "model_args": "rm -rf", "num_classes": 10**12},
        {"architecture": "hf-hub:evil/evil"},
        {"architecture": ["resnet18"], "model_args": [1]},
    ],
)
def test_a_hostile_config_changes_nothing(tmp_path, config: dict) -> None:
    checkpoint = checkpoint_of("torchvision:resnet18")
    save_file({n: a.astype(np.float32) for n, a in checkpoint.tensors.items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(config))
    (network,) = find_networks(load(tmp_path / "model.safetensors"))
    assert "resnet18" in network.activation_source


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
