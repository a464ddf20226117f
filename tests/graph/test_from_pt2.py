"""Archives of torch.export.save: the graph of the file is the graph of the live program."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

import nfn_cli
from nfn_cli.errors import NfnError
from nfn_cli.graph.from_export import graph_from_export
from tests.graph.torch_modules import MODULES, make, residual


def exported(name: str, path: Path, **options: object) -> tuple[nn.Module, torch.export.ExportedProgram]:
    module, x = make(name)
    program = torch.export.export(module, (x,), strict=False, **options)
    torch.export.save(program, path)
    return module, program


@pytest.mark.parametrize("name", MODULES)
def test_the_archive_gives_the_graph_of_the_live_program(tmp_path: Path, name: str) -> None:
    module, program = exported(name, tmp_path / "m.pt2")
    model = nfn_cli.open_model(tmp_path / "m.pt2")
    assert model.networks[0].graph == graph_from_export(program)
    assert set(model.checkpoint.tensors) == set(module.state_dict())
    assert residual(module, model.networks[0].graph, model.checkpoint.tensors) < 1e-10
    report = nfn_cli.symmetry_report(model)
    assert report.passed
    assert report.networks[0].unit_sets


def test_the_comparison_can_fail(tmp_path: Path) -> None:
    exported("mlp", tmp_path / "m.pt2")
    model = nfn_cli.open_model(tmp_path / "m.pt2")
    other, _ = make("mlp")
    other.layers[0].weight.data[0, 0] += 1.0
    assert residual(other, model.networks[0].graph, model.checkpoint.tensors) > 1e-3


def test_symbolic_sizes_are_their_hints(tmp_path: Path) -> None:
    sizes = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height", min=4), 3: torch.export.Dim("width", min=4)}
    module, _ = exported("squeeze_excite", tmp_path / "m.pt2", dynamic_shapes=(sizes,))
    model = nfn_cli.open_model(tmp_path / "m.pt2")
    assert model.networks[0].graph.inputs[0].shape == (2, 3, 9, 9)
    assert residual(module, model.networks[0].graph, model.checkpoint.tensors) < 1e-10


def old_layout(program: torch.export.ExportedProgram, path: Path) -> None:
    """As torch.export.save wrote up to torch 2.7 and torch.export.load still reads."""
    from torch._export.serde.schema import SCHEMA_VERSION
    from torch._export.serde.serialize import serialize

    artifact = serialize(program)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("version", ".".join(map(str, SCHEMA_VERSION)))
        archive.writestr("serialized_exported_program.json", artifact.exported_program)
        archive.writestr("serialized_state_dict.pt", artifact.state_dict)
        archive.writestr("serialized_constants.pt", artifact.constants)
        archive.writestr("serialized_example_inputs.pt", artifact.example_inputs)


def test_the_layout_of_older_torch_is_read_and_written(tmp_path: Path) -> None:
    module, x = make("residual")
    program = torch.export.export(module, (x,), strict=False)
    old_layout(program, tmp_path / "m.pt2")
    model = nfn_cli.open_model(tmp_path / "m.pt2")
    assert model.networks[0].graph == graph_from_export(program)
    nfn_cli.save(nfn_cli.canonicalize(model).checkpoint, tmp_path / "o.pt2")
    made = torch.export.load(io.BytesIO((tmp_path / "o.pt2").read_bytes())).module()
    assert not torch.equal(made.state_dict()["stem.weight"], module.state_dict()["stem.weight"])
    with torch.no_grad():
        assert torch.allclose(made(x), module(x), rtol=1e-10, atol=1e-12)


class Bounded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.clamp(self.a(x), -0.5, float("inf")))


def test_infinity_is_read(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Bounded().double().eval()
    torch.export.save(torch.export.export(module, (torch.randn(2, 4, dtype=torch.float64),)), tmp_path / "m.pt2")
    model = nfn_cli.open_model(tmp_path / "m.pt2")
    assert residual(module, model.networks[0].graph, model.checkpoint.tensors) < 1e-10


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.a(x))
        return torch.cond(x.sum() > 0, lambda y: self.b(y), lambda y: self.b(-y), (x,))


def test_a_branch_on_data_is_refused_by_name(tmp_path: Path) -> None:
    torch.export.save(torch.export.export(Branch().eval(), (torch.randn(2, 4),)), tmp_path / "m.pt2")
    with pytest.raises(NfnError, match="graph") as caught:
        nfn_cli.open_model(tmp_path / "m.pt2")
    assert caught.value.code == "not-capturable"
