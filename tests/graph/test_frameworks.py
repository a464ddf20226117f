"""torchvision and timm themselves, where they are installed: what is captured now is what the library ships."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from nfn_cli import load, symmetry_report
from nfn_cli.errors import Refused
from nfn_cli.graph import NameOptions, find_networks
from nfn_cli.graph.architecture_index import candidates, library_graph
from nfn_cli.graph.graph_file import graph_from_json, graph_to_json
from nfn_cli.graph.model import Graph

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def frameworks():
    """benchmarks/framework_models.py, the one place that gets torchvision imported beside a torch of another build."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import framework_models

        framework_models.import_frameworks()
    except ImportError as error:
        pytest.skip(f"{error}: pip install 'nfn-cli[arch]'")
    finally:
        sys.path.remove(str(BENCHMARKS))
    return framework_models


def saved(module: torch.nn.Module, path: Path) -> Path:
    save_file({name: tensor.contiguous().clone() for name, tensor in module.state_dict().items()}, path)
    return path


def as_stored(graph: Graph) -> Graph:
    return graph_from_json(json.loads(json.dumps(graph_to_json(graph))))


@pytest.mark.parametrize("name", ["torchvision:resnet18", "torchvision:mobilenet_v3_small", "timm:resnetblur18"])
def test_the_shipped_graph_is_what_is_captured(frameworks, name: str) -> None:
    from nfn_cli.graph.from_module import captured

    assert as_stored(captured(name, trust_code=False)).ops == library_graph(name).ops


def test_every_torchvision_classifier_is_among_the_candidates_for_its_own_tensors(frameworks) -> None:
    wrong = []
    for name in (n for n in frameworks.names() if n.startswith("torchvision:")):
        if "regnet_y_128gf" in name:  # RegNets cannot be made without memory, and this one takes 2.6 GB
            continue
        state = frameworks.on_meta(name).state_dict()
        shapes = {key: tuple(t.shape) for key, t in state.items() if t.is_floating_point()}
        if name not in {each.name for each in candidates(shapes)}:
            wrong.append(name)
    assert wrong == []


def test_a_model_whose_graph_is_not_shipped_is_built(frameworks, tmp_path: Path, monkeypatch) -> None:
    from nfn_cli.graph import architectures

    monkeypatch.setattr(architectures, "candidates", lambda shapes: [replace(candidates(shapes)[0], group="")])
    path = saved(frameworks.make("torchvision:squeezenet1_1").float(), tmp_path / "model.safetensors")
    assert symmetry_report(path, elements=1).passed


def test_arguments_of_a_config_are_heard_and_checked_against_the_tensors(frameworks, tmp_path: Path) -> None:
    import timm

    arguments = {"act_layer": "leaky_relu", "drop_path_rate": 0.1}
    module = timm.create_model("resnet18", num_classes=3, in_chans=1, **arguments)
    path = saved(module, tmp_path / "model.safetensors")
    config = {"architecture": "resnet18", "num_classes": 3, "model_args": {"in_chans": 1, **arguments}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (network,) = find_networks(load(path))
    assert network.activation == ("leaky_relu",)
    assert network.activation_source == "architecture timm:resnet18"
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_classes": 10**12}))
    with pytest.raises(Refused):
        find_networks(load(path))


def test_arch_names_a_library_model(frameworks, tmp_path: Path) -> None:
    path = saved(frameworks.make("torchvision:squeezenet1_0").float(), tmp_path / "model.safetensors")
    report = symmetry_report(path, NameOptions(arch="torchvision:squeezenet1_0"), elements=1)
    assert report.passed
    assert np.isfinite(report.networks[0].log10_group_order)
