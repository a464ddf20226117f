"""Transposed convolutions are recognised by what they make and read, and run as torch runs them; in doubt, not at all."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import nfn_cli
from nfn_cli import NameOptions
from nfn_cli.checkpoint import Checkpoint
from nfn_cli.errors import NfnError
from nfn_cli.graph import Network, networks_from_names
from nfn_cli.graph.reference import evaluate
from nfn_cli.symmetry.solve import find_symmetry

RELU = NameOptions(activation="relu", pooling="none")
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
TURNED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def encoder(*channels: int, rank: int = 2) -> list[nn.Module]:
    pairs = itertools.pairwise(channels)
    return [part for a, b in pairs for part in (CONV[rank](a, b, 3, padding=1), nn.ReLU())]


def decoder(*channels: int, rank: int = 2, bias: bool = True, norm: bool = False) -> list[nn.Module]:
    """Of stride 1, as the stand-in of a graph from names has it."""
    layers: list[nn.Module] = []
    for a, b in itertools.pairwise(channels):
        layers += [TURNED[rank](a, b, 3, padding=1, bias=bias), *([nn.BatchNorm2d(b)] if norm else []), nn.ReLU()]
    return layers[: -2 if norm else -1]


def file_of(module: nn.Module) -> Checkpoint:
    tensors = {name: value.detach().numpy() for name, value in module.double().eval().state_dict().items()}
    return Checkpoint("x", "torch-zip", tensors)


def read(module: nn.Module) -> tuple[Network, ...]:
    return networks_from_names(file_of(module), RELU)


def difference(module: nn.Module, *shape: int) -> float:
    (network,) = read(module)
    x = torch.randn(2, *shape, dtype=torch.float64)
    with torch.no_grad():
        wanted = module(x).numpy()
    tensors = file_of(module).tensors
    return float(np.abs(evaluate(network.graph, tensors, {"x0": x.numpy()})[0] - wanted).max())


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_an_autoencoder_computes_what_torch_computes(rank: int) -> None:
    parts = {"encoder": encoder(1, 4, 7, rank=rank), "decoder": decoder(7, 5, 2, rank=rank)}
    module = nn.Sequential()
    for name, layers in parts.items():
        module.add_module(name, nn.Sequential(*layers))
    assert difference(module, 1, *(5,) * rank) < 1e-9


def test_a_generator_without_biases_is_known_by_its_norms_and_by_what_follows() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(*decoder(6, 9, 5, 1, bias=False, norm=True))
    assert difference(plain, 6, 4, 4) < 1e-9
    bare = nn.Sequential(*decoder(6, 9, 5, 1, bias=False))
    assert difference(bare, 6, 4, 4) < 1e-9


def test_a_plain_network_without_biases_stays_plain() -> None:
    module = nn.Sequential(*(nn.Conv2d(a, b, 3, padding=1, bias=False) for a, b in ((3, 5), (5, 5), (5, 2))))
    (network,) = read(module)
    assert not any(op.attributes.get("transposed") for op in network.graph.ops)


def test_a_square_one_is_settled_by_nothing() -> None:
    layers = [nn.ConvTranspose2d(6, 6, 3), nn.ReLU(), nn.ConvTranspose2d(6, 2, 3)]
    with pytest.raises(NfnError, match="as many channels in as out") as caught:
        read(nn.Sequential(*layers))
    assert caught.value.code == "needs-graph"


def test_a_square_one_called_like_others_is_one_of_them() -> None:
    sizes = {"deconv1": (5, 6), "deconv2": (6, 6), "deconv3": (6, 2)}
    module = nn.Sequential()
    for number, (name, size) in enumerate(sizes.items()):
        module.add_module(name, nn.ConvTranspose2d(*size, 3, padding=1))
        if number < 2:
            module.add_module(f"relu{number}", nn.ReLU())
    assert difference(module, 5, 4, 4) < 1e-9


def test_linear_units_made_into_channels_stay_in_place() -> None:
    layers = [nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 24), nn.Unflatten(1, (6, 2, 2)), *decoder(6, 4, 1)]
    (network,) = read(nn.Sequential(*layers))
    assert sorted(unit_set.size for unit_set in find_symmetry([network]).unit_sets) == [4, 8]
    assert any("may read 2.weight in an order of its own" in note for note in network.notes)


def test_a_depthwise_convolution_is_not_taken_for_a_transposed_one() -> None:
    """16 channels read by a weight of (16, 1, 3, 3): turned round it would read 16 and make 1."""
    layers = [nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3, groups=16, bias=False)]
    with pytest.raises(NfnError) as caught:
        read(nn.Sequential(*layers))
    assert caught.value.code == "shape-mismatch"
    grouped = [nn.Conv2d(8, 16, 3, groups=1, bias=False), nn.ReLU(), nn.Conv2d(16, 8, 3, groups=2, bias=False)]
    with pytest.raises(NfnError):
        read(nn.Sequential(*grouped))


def test_a_norm_of_channels_made_of_linear_units_stays_in_place() -> None:
    layers = [nn.Linear(3, 24), nn.Unflatten(1, (6, 2, 2)), nn.BatchNorm2d(6), *decoder(6, 4, 1)]
    (network,) = read(nn.Sequential(*layers))
    assert [unit_set.size for unit_set in find_symmetry([network]).unit_sets] == [4]


class Skipping(nn.Module):
    """Adds what it made on the way down, under names that do not tell."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.deconv1, self.deconv2 = nn.ConvTranspose2d(6, 4, 3, padding=1), nn.ConvTranspose2d(4, 1, 3, padding=1)


class Joining(nn.Module):
    """A U-Net of one level: the convolution behind the transposed one reads both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.inc, self.down = nn.Sequential(nn.Conv2d(1, 4, 3)), nn.Sequential(nn.Conv2d(4, 8, 3))
        self.up, self.conv = nn.ConvTranspose2d(8, 4, 2, stride=2), nn.Sequential(nn.Conv2d(8, 4, 3))
        self.outc = nn.Conv2d(4, 2, 1)


class Deeper(nn.Module):
    """A U-Net of two levels, in the names of a well-known one."""

    def __init__(self) -> None:
        super().__init__()
        self.inc, self.outc = nn.Sequential(nn.Conv2d(1, 4, 3)), nn.Conv2d(4, 2, 1)
        self.down1, self.down2 = nn.Sequential(nn.Conv2d(4, 8, 3)), nn.Sequential(nn.Conv2d(8, 16, 3))
        for number, width in ((1, 16), (2, 8)):
            parts = {
                "up": nn.ConvTranspose2d(width, width // 2, 2),
                "conv": nn.Sequential(nn.Conv2d(width, width // 2, 3)),
            }
            self.add_module(f"up{number}", nn.ModuleDict(parts))


@pytest.mark.parametrize("made", [Skipping, Joining, Deeper])
def test_where_a_sum_or_a_joint_is_not_excluded_nothing_is_said(made: type[nn.Module]) -> None:
    with pytest.raises(NfnError, match=r"ONNX or \.pt2") as caught:
        read(made())
    assert caught.value.code in ("needs-graph", "ambiguous-order")


def test_a_sum_can_be_excluded_by_who_knows_but_no_joint() -> None:
    without_sums = NameOptions(activation="relu", residual="no")
    (network,) = networks_from_names(file_of(Skipping()), without_sums)
    assert sorted(unit_set.size for unit_set in find_symmetry([network]).unit_sets) == [4, 4, 6]
    with pytest.raises(NfnError, match="may read"):
        networks_from_names(file_of(Joining()), without_sums)


def test_the_weight_is_written_as_it_lay(tmp_path: Path) -> None:
    module = nn.Sequential(*decoder(6, 9, 5, 1, bias=True, norm=True)).eval()
    torch.save(module.state_dict(), tmp_path / "g.pt")
    form = nfn_cli.canonicalize(tmp_path / "g.pt", RELU)
    nfn_cli.save(form.checkpoint, tmp_path / "c.pt")
    x = torch.randn(2, 6, 4, 4)
    with torch.no_grad():
        before = module(x)
        state = torch.load(tmp_path / "c.pt", weights_only=True)
        assert any(not torch.equal(value, module.state_dict()[name]) for name, value in state.items())
        module.load_state_dict(state)
        assert torch.allclose(module(x), before, atol=1e-5)
