"""What is said of checkpoints that strangers published is what the reviewed table says; what they lack is made here."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

import nfn_cli
from nfn_cli import NameOptions
from nfn_cli.errors import NfnError

from ..benchmark_scripts import benchmark
from ..shared_data import shared_data

RELU = NameOptions(activation="relu")


def groups(path: Path, options: NameOptions = RELU) -> list[str]:
    report = nfn_cli.symmetry_report(path, options)
    assert report.passed
    return [network["group"] for network in report.as_json()["networks"]]


def test_the_table_holds() -> None:
    folder = shared_data("checkpoints")
    found = list(benchmark("strangers").rows(folder))
    assert [row for row in found if not row.agrees] == []
    readable = [row for row in found if row.network != "-" and row.expected == "analyse"]
    assert sum(row.said == "analyse" for row in readable) >= 0.95 * len(readable)


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 2)


def saved(folder: Path, module: nn.Module, **how: bool) -> Path:
    torch.save(module.state_dict(), folder / "m.pt", **how)
    return folder / "m.pt"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_of_other_widths(tmp_path: Path, dtype: torch.dtype, zipped: bool) -> None:
    path = saved(tmp_path, Mlp().to(dtype), _use_new_zipfile_serialization=zipped)
    assert groups(path) == ["R>0^5 ⋊ S_5 × R>0^5 ⋊ S_5"]
    form = nfn_cli.canonicalize(path, RELU)
    nfn_cli.save(form.checkpoint, tmp_path / "o.pt")
    assert {t.dtype for t in torch.load(tmp_path / "o.pt", weights_only=True).values()} == {dtype}


@pytest.mark.parametrize(("norm", "code"), [("weight_norm", "reparametrized"), ("spectral_norm", "masked")])
def test_reparametrized_weights_of_the_old_form_are_refused(tmp_path: Path, norm: str, code: str) -> None:
    """The weight is made from others: without it, its neighbours would look like one layer behind the other."""
    module = Mlp()
    module.fc2 = getattr(nn.utils, norm)(module.fc2)
    with pytest.raises(NfnError) as caught:
        groups(saved(tmp_path, module))
    assert caught.value.code == code
    getattr(nn.utils, f"remove_{norm}")(module.fc2)
    assert groups(saved(tmp_path, module)) == ["R>0^5 ⋊ S_5 × R>0^5 ⋊ S_5"]  # the control


@pytest.mark.parametrize("norm", ["weight_norm", "spectral_norm", "orthogonal"])
def test_parametrizations_are_refused(tmp_path: Path, norm: str) -> None:
    module = Mlp()
    module.fc2 = getattr(nn.utils.parametrizations, norm)(module.fc2)
    with pytest.raises(NfnError, match="before saving") as caught:
        groups(saved(tmp_path, module))
    assert caught.value.code == "reparametrized"
    nn.utils.parametrize.remove_parametrizations(module.fc2, "weight")
    assert groups(saved(tmp_path, module)) == ["R>0^5 ⋊ S_5 × R>0^5 ⋊ S_5"]  # the control


class NatureCnn(nn.Module):
    """The features extractor of Stable-Baselines3 for pictures, and the heads behind it, by their names there."""

    def __init__(self) -> None:
        super().__init__()
        cnn = nn.Sequential(
            *(nn.Conv2d(4, 8, 8, 4), nn.ReLU(), nn.Conv2d(8, 16, 4, 2), nn.ReLU()),
            *(nn.Conv2d(16, 16, 3, 1), nn.ReLU(), nn.Flatten()),
        )
        parts = OrderedDict(cnn=cnn, linear=nn.Sequential(nn.Linear(16 * 7 * 7, 32), nn.ReLU()))
        self.features_extractor = nn.Sequential(parts)
        self.action_net, self.value_net = nn.Linear(32, 4), nn.Linear(32, 1)


def test_a_policy_that_looks_at_pictures(tmp_path: Path) -> None:
    """Its heads may read the last convolution as well, by sizes alone: what they may read stays, or the trunk is named."""
    path = saved(tmp_path, NatureCnn())
    assert groups(path) == ["R>0^8 ⋊ S_8 × R>0^16 ⋊ S_16"]
    trunk = [*(f"features_extractor.cnn.{i}" for i in (0, 2, 4)), "features_extractor.linear.0", "action_net"]
    (group,) = groups(path, NameOptions(activation="relu", layers=",".join(f"{name}.weight" for name in trunk)))
    assert group == "R>0^8 ⋊ S_8 × R>0^16 ⋊ S_16 × R>0^16 ⋊ S_16 × R>0^32 ⋊ S_32"


def test_tied_weights_move_together(tmp_path: Path) -> None:
    module = Mlp()
    module.fc2.weight = nn.Parameter(torch.randn(5, 5))
    state = module.state_dict()
    state["copy.weight"] = state["fc2.weight"]
    torch.save(state, tmp_path / "m.pt")
    assert nfn_cli.load(tmp_path / "m.pt").aliases == {"copy.weight": "fc2.weight"}
    form = nfn_cli.canonicalize(tmp_path / "m.pt", RELU)
    nfn_cli.save(form.checkpoint, tmp_path / "o.pt")
    written = torch.load(tmp_path / "o.pt", weights_only=True)
    assert written["copy.weight"].data_ptr() == written["fc2.weight"].data_ptr()


def test_a_batch_norm_behind_its_activation_claims_no_sign_where_max_pooling_may_follow(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes = {
        "layers.0.weight": (4, 1, 3, 3),
        "layers.0.bias": (4,),
        "layers.4.weight": (6, 4, 3, 3),
        "layers.4.bias": (6,),
    }
    shapes |= {f"layers.2.{role}": (4,) for role in ("weight", "bias", "running_mean", "running_var")}
    shapes |= {"layers.7.weight": (2, 6), "layers.7.bias": (2,)}
    arrays = {name: rng.uniform(0.5, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    save_file(arrays, tmp_path / "m.safetensors")  # conv 0, relu 1, norm 2, perhaps a pool 3, conv 4
    (unknown,) = groups(tmp_path / "m.safetensors")
    (none,) = groups(tmp_path / "m.safetensors", NameOptions(activation="relu", pooling="none"))
    assert "±" not in unknown.split(" × ")[0]
    assert "±" in none.partition("S_4")[0]  # the control: without pooling the sign is free
