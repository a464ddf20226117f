"""Networks exported from torch: the group is the one that the live module has, and the file stays the same network."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

import nfn_cli
from nfn_cli.graph.model import Network
from nfn_cli.graph.reference import evaluate
from nfn_cli.symmetry.solve import find_symmetry
from nfn_cli.symmetry.unit_set import UnitSet
from tests.graph.onnx_maker import residual, run
from tests.graph.onnx_modules import KINDS, Classic, ConvNeXt, ResNet, Siren, examples, made

FLOAT32 = 1e-5


def exported(kind: type[nn.Module], path: Path, *, opset: int = 17, axes: bool = False, fuse: bool = False) -> Path:
    """The module written by the exporter that needs nothing but torch; `fuse` lets it fold batch norms away."""
    names = [f"x{i}" for i, _ in enumerate(examples(kind))]
    mode = torch.onnx.TrainingMode.EVAL if fuse else torch.onnx.TrainingMode.PRESERVE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                made(kind),
                examples(kind),
                str(path),
                dynamo=False,
                opset_version=opset,
                input_names=names,
                training=mode,
                dynamic_axes={name: {0: "batch"} for name in names} if axes else None,
            )
        except (ImportError, TypeError) as error:  # a torch without this exporter
            pytest.skip(f"torch cannot export: {error}")
    return path


def feeds(kind: type[nn.Module]) -> dict[str, np.ndarray]:
    return {f"x{i}": x.numpy() for i, x in enumerate(examples(kind))}


def in_float64(path: Path, kind: type[nn.Module]) -> list[np.ndarray]:
    """Our graph's outputs."""
    model = nfn_cli.open_model(path)
    inputs = {name: x.astype(np.float64) for name, x in feeds(kind).items()}
    return list(evaluate(model.networks[0].graph, model.checkpoint.tensors, inputs))


@pytest.fixture(params=KINDS, ids=lambda k: k.__name__)
def kind(request: pytest.FixtureRequest) -> type[nn.Module]:
    return request.param


def described(sets: tuple[UnitSet, ...]) -> list[tuple[object, ...]]:
    return sorted((s.size, s.permutable, tuple(sorted(s.families.items()))) for s in sets)


def live(kind: type[nn.Module]) -> list[tuple[object, ...]]:
    from nfn_cli.graph.from_export import graph_from_export

    with torch.no_grad():
        graph = graph_from_export(torch.export.export(made(kind), examples(kind), strict=False))
    return described(find_symmetry([Network("", "cnn", graph)]).unit_sets)


def test_the_group_is_that_of_the_live_module(kind: type[nn.Module], tmp_path: Path) -> None:
    model = nfn_cli.open_model(exported(kind, tmp_path / "m.onnx"))
    symmetry = find_symmetry(model.networks)
    assert not any(symmetry.opaque)
    if kind is not Siren:  # see test_a_siren_has_phases
        assert described(symmetry.unit_sets) == live(kind)


def test_our_graph_computes_what_torch_computes(kind: type[nn.Module], tmp_path: Path) -> None:
    path = exported(kind, tmp_path / "m.onnx", axes=True)
    with torch.no_grad():
        theirs = made(kind).double()(*(x.double() for x in examples(kind)))
    theirs = [y.numpy() for y in (theirs if isinstance(theirs, tuple) else (theirs,))]
    assert residual(theirs, in_float64(path, kind)) < 1e-6
    assert residual(run(path, feeds(kind)), theirs) < FLOAT32


def test_canonicalizing_keeps_what_onnx_computes(kind: type[nn.Module], tmp_path: Path) -> None:
    path = exported(kind, tmp_path / "m.onnx", fuse=True)
    nfn_cli.save(nfn_cli.canonicalize(path).checkpoint, tmp_path / "c.onnx")
    before, after = onnx.load(str(path)), onnx.load(str(tmp_path / "c.onnx"))
    onnx.checker.check_model(after)
    assert [node.op_type for node in before.graph.node] == [node.op_type for node in after.graph.node]
    assert before.SerializeToString() != after.SerializeToString()
    assert residual(run(path, feeds(kind)), run(tmp_path / "c.onnx", feeds(kind))) < FLOAT32


def test_the_canonical_form_is_constant_on_the_orbit(kind: type[nn.Module], tmp_path: Path) -> None:
    path = exported(kind, tmp_path / "m.onnx")
    element = nfn_cli.random_element(path, seed=5)
    nfn_cli.save(nfn_cli.act(element, path), tmp_path / "g.onnx")
    assert residual(run(path, feeds(kind)), run(tmp_path / "g.onnx", feeds(kind))) < 10 * FLOAT32
    here, there = (nfn_cli.canonicalize(tmp_path / name).checkpoint.tensors for name in ("m.onnx", "g.onnx"))
    for name in here:
        if here[name].dtype.kind == "f":
            assert np.allclose(here[name], there[name], rtol=1e-3, atol=1e-4), name


@pytest.mark.parametrize("kind", [ResNet, ConvNeXt, Classic])
def test_a_change_that_is_no_symmetry_is_noticed(kind: type[nn.Module], tmp_path: Path) -> None:
    path = exported(kind, tmp_path / "m.onnx")
    checkpoint = nfn_cli.load(path)
    name = next(name for name, array in checkpoint.tensors.items() if array.ndim == 4)
    nfn_cli.save(checkpoint.with_tensors({name: np.roll(checkpoint.tensors[name], 1, 0)}), tmp_path / "g.onnx")
    assert residual(run(path, feeds(kind)), run(tmp_path / "g.onnx", feeds(kind))) > 1e-3
    here, there = (nfn_cli.canonicalize(tmp_path / file).checkpoint.tensors for file in ("m.onnx", "g.onnx"))
    assert any(not np.allclose(here[n], there[n], rtol=1e-3, atol=1e-4) for n in here if here[n].dtype.kind == "f")


def test_a_siren_has_phases(tmp_path: Path) -> None:
    report = nfn_cli.symmetry_report(exported(Siren, tmp_path / "m.onnx")).as_json()
    assert report["networks"][0]["group"] == "D∞ ≀ S_6 × D∞ ≀ S_5"
    assert report["check"]["passed"]


@pytest.mark.parametrize("opset", [11, 13, 20])
def test_older_and_newer_versions_of_the_operations(tmp_path: Path, opset: int) -> None:
    for each in (ConvNeXt, ResNet):
        model = nfn_cli.open_model(exported(each, tmp_path / f"{each.__name__}.onnx", opset=opset))
        assert described(find_symmetry(model.networks).unit_sets) == live(each)
