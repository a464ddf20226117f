"""TorchScript archives, scripted, traced and frozen: the graph computes what the module computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nfn_cli
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import NfnError
from nfn_cli.graph.from_export import graph_from_export
from nfn_cli.graph.model import Network
from tests.graph.torch_modules import MODULES, make, residual

KINDS: dict[str, Callable[[nn.Module, Tensor], torch.jit.ScriptModule]] = {
    "scripted": lambda module, _: torch.jit.script(module),
    "traced": lambda module, x: torch.jit.trace(module, x),
}


def saved(name: str, kind: str, path: Path) -> nn.Module:
    module, x = make(name)
    torch.jit.save(KINDS[kind](module, x), path)
    return module


def groups(source: object) -> list[tuple[int, str]]:
    report = nfn_cli.symmetry_report(source)
    assert report.passed
    assert report.networks[0].check.relative_change is not None
    return sorted((s.size, s.group) for s in report.networks[0].unit_sets)


def groups_of_live_export(name: str) -> list[tuple[int, str]]:
    module, x = make(name)
    graph = graph_from_export(torch.export.export(module, (x,), strict=False))
    checkpoint = Checkpoint("m", "safetensors", {n: t.numpy() for n, t in module.state_dict().items()})
    return groups(nfn_cli.api.Model(checkpoint, (Network("", "cnn", graph),)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MODULES)
def test_the_graph_computes_what_the_module_computes_and_has_its_group(tmp_path: Path, name: str, kind: str) -> None:
    module = saved(name, kind, tmp_path / "m.pt")
    model = nfn_cli.open_model(tmp_path / "m.pt")
    assert set(module.state_dict()) <= set(model.checkpoint.tensors)
    assert residual(module, model.networks[0].graph, model.checkpoint.tensors) < 1e-10
    assert groups(model) == groups_of_live_export(name)


def test_the_comparison_can_fail(tmp_path: Path) -> None:
    module = saved("mlp", "scripted", tmp_path / "m.pt")
    module.layers[0].weight.data[0, 0] += 1.0
    model = nfn_cli.open_model(tmp_path / "m.pt")
    assert residual(module, model.networks[0].graph, model.checkpoint.tensors) > 1e-3


def test_a_frozen_module_has_its_weights_among_the_constants(tmp_path: Path) -> None:
    module, _ = make("residual")
    torch.jit.save(torch.jit.freeze(torch.jit.script(module)), tmp_path / "m.pt")
    model = nfn_cli.open_model(tmp_path / "m.pt")
    assert all(name.startswith("CONSTANTS.") for name in model.checkpoint.tensors)
    assert residual(module, model.networks[0].graph, model.checkpoint.tensors) < 1e-10
    assert [size for size, _ in groups(model)] == [4, 6]


def test_the_shape_that_was_taken_is_said(tmp_path: Path) -> None:
    saved("residual", "scripted", tmp_path / "m.pt")
    (note,) = nfn_cli.open_model(tmp_path / "m.pt").networks[0].notes
    assert "2×3×8×8" in note


def test_a_module_saved_in_training_mode_is_read_in_evaluation_mode(tmp_path: Path) -> None:
    module, _ = make("residual")
    torch.jit.save(torch.jit.script(module.train()), tmp_path / "m.pt")
    model = nfn_cli.open_model(tmp_path / "m.pt")
    assert "read in evaluation mode" in model.networks[0].notes
    assert residual(module.eval(), model.networks[0].graph, model.checkpoint.tensors) < 1e-10


class Numbers(nn.Module):
    """Loops, lists, optional values and branches that are known without data."""

    def __init__(self) -> None:
        super().__init__()
        self.layers, self.last = nn.ModuleList([nn.Linear(6, 6) for _ in range(3)]), nn.Linear(18, 2)
        self.scale: float | None = None

    def forward(self, x: Tensor) -> Tensor:
        found: list[Tensor] = []
        for layer in self.layers:
            x = torch.relu(layer(x))
            found.append(x)
        for i in range(len(found)):
            if self.scale is not None and i % 2 == 1:
                found[i] = found[i] * 2.0
        joined = torch.cat(found, dim=1)
        if joined.dim() != 2:
            raise ValueError("rows only")
        return self.last(joined)


def test_loops_and_branches_without_data_are_followed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Numbers().double().eval()
    torch.jit.save(torch.jit.script(module), tmp_path / "m.pt")
    model = nfn_cli.open_model(tmp_path / "m.pt")
    assert residual(module, model.networks[0].graph, model.checkpoint.tensors) < 1e-10
    assert groups(model) == [(6, "R>0^6 ⋊ S_6")] * 3


class Remembers(nn.Module):
    """A list of the module's own that its program changes."""

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.a, self.b = [0], nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(1)
        x = self.a(x)
        return self.b(torch.relu(x) if len(self.seen) > 1 else x)


def test_what_the_program_puts_into_its_own_lists_is_there(tmp_path: Path) -> None:
    torch.manual_seed(0)
    module = Remembers().double().eval()
    torch.jit.save(torch.jit.script(module), tmp_path / "m.pt")
    model = nfn_cli.open_model(tmp_path / "m.pt")
    assert residual(module, model.networks[0].graph, model.checkpoint.tensors) < 1e-10


class OnData(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        return x if bool(x.sum() > 0) else -x


class Strange(nn.Module):
    """An operation that is known to be harmless and has no translation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(torch.cumsum(torch.relu(self.a(x)), 1))


class Writes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        torch.save(x, "stolen")
        return self.a(x)


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return self.a(x + y)


def test_what_depends_on_data_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(OnData().eval()), tmp_path / "m.pt")
    with pytest.raises(NfnError) as caught:
        nfn_cli.open_model(tmp_path / "m.pt")
    assert caught.value.code == "not-capturable"


def test_several_inputs_are_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(TwoInputs().eval()), tmp_path / "m.pt")
    with pytest.raises(NfnError, match="one tensor") as caught:
        nfn_cli.open_model(tmp_path / "m.pt")
    assert caught.value.code == "not-capturable"


def test_an_operation_without_translation_is_opaque_and_frozen(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(Strange().eval()), tmp_path / "m.pt")
    report = nfn_cli.symmetry_report(tmp_path / "m.pt").as_json()
    assert report["networks"][0]["unit_sets"] == []
    assert any("cumsum" in entry for entry in report["opaque"])
    assert report["check"]["passed"] is None


@pytest.mark.filterwarnings("ignore")
def test_quantized_modules_are_refused(tmp_path: Path) -> None:
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        pytest.skip("this torch has no quantized operators")
    torch.backends.quantized.engine = "fbgemm"
    module = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(4, 4)), {nn.Linear}, torch.qint8)
    torch.jit.save(torch.jit.script(module), tmp_path / "m.pt")
    with pytest.raises(NfnError) as caught:
        nfn_cli.open_model(tmp_path / "m.pt")
    assert caught.value.code == "quantized"


def test_a_write_through_a_view_is_not_forgotten(tmp_path: Path) -> None:
    class Through(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = torch.relu(self.a(x))
            x[:, :2].zero_()
            return self.b(x)

    torch.jit.save(torch.jit.trace(Through().eval(), torch.randn(2, 4)), tmp_path / "m.pt")
    report = nfn_cli.symmetry_report(tmp_path / "m.pt").as_json()
    assert report["networks"][0]["unit_sets"] == []
    assert np.isfinite(report["parameters"])
