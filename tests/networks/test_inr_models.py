"""Models of INRs do not see which member of the orbit they are given; the permutation baseline does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from nfn_cli.networks.inr import Coordinates, render
from nfn_cli.networks.inr_pixels import smoother, standardized
from nfn_cli.predictors.kinds.inr import INR_KINDS, InrEncoder, ProbeReader
from nfn_cli.zoo.sine_network import SineNetwork

Array = np.ndarray[Any, np.dtype[Any]]
NETWORK = SineNetwork((2, 7, 7, 1), (30.0, 12.0))
OUTPUTS = 21
USUAL = Coordinates()


def weights(count: int = 5, seed: int = 0) -> dict[str, Array]:
    generator = np.random.default_rng(seed)
    flat = NETWORK.initial(np.array(["wide"] * count), generator).astype(np.float64)
    return {name: np.array(tensor) for name, tensor in NETWORK.tensors(flat * 1.5).items()}


def moved(tensors: dict[str, Array], seed: int, *, windings: int = 40, odd: bool = True) -> dict[str, Array]:
    """Another member of each orbit; with `odd` false the outgoing weights forget the half turns, which is another function."""
    generator = np.random.default_rng(seed)
    new = {name: tensor.copy() for name, tensor in tensors.items()}
    for layer, omega in enumerate(NETWORK.omegas):
        weight, bias, above = f"layers.{layer}.weight", f"layers.{layer}.bias", f"layers.{layer + 1}.weight"
        rows, units = new[bias].shape
        sign = generator.choice([-1.0, 1.0], (rows, units))
        turns = generator.integers(-windings, windings + 1, (rows, units))
        order = generator.permutation(units)
        parity = np.where(turns % 2 == 0, 1.0, -1.0) if odd else 1.0
        new[weight] = (new[weight] * sign[:, :, None])[:, order]
        new[bias] = (new[bias] * sign + turns * np.pi / omega)[:, order]
        new[above] = (new[above] * (sign * parity)[:, None, :])[:, :, order]
    return new


def encoder_of(kind: str) -> InrEncoder:
    if kind == "probe":
        return ProbeReader(1, 12, 12)
    widths = list(NETWORK.widths) if kind in ("monomial-nfn", "hnp") else None
    return INR_KINDS[kind]({"channels": 1, "layers": 2, "widths": widths}, {})


ARCHITECTURES: dict[str, dict[str, Any]] = {
    "probe": {"blocks": [[4], [6]]},
    "phasor": {"side": 6, "rank": 4, "head_width": 16},
    "monomial-nfn": {"channels": [4, 4], "head_width": 16},
    "hnp": {"channels": [4, 4], "head_width": 16},
}


def logits(kind: str, tensors: dict[str, Array], coordinates: Coordinates = USUAL) -> Tensor:
    torch.manual_seed(0)
    encoder = encoder_of(kind)
    encoder.accept(NETWORK.graph())
    member: Any = encoder.network(OUTPUTS, ARCHITECTURES[kind])
    with torch.no_grad():
        for parameter in member.parameters():  # what begins at zero hides nothing
            parameter.add_(0.05 * torch.randn_like(parameter))
        member = member.double().eval()
        return torch.as_tensor(member.forward_prepared(encoder.encode(NETWORK.graph(), tensors, coordinates)))


@pytest.mark.parametrize("kind", ["probe", "phasor", "monomial-nfn"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_logits_are_the_same_all_over_the_orbit(kind: str, seed: int) -> None:
    plain = logits(kind, weights())
    assert float((logits(kind, moved(weights(), seed)) - plain).abs().max()) < 1e-9
    assert float(plain.std(0).max()) > 1e-3  # they do tell networks apart


@pytest.mark.parametrize("kind", ["probe", "phasor", "monomial-nfn"])
def test_what_is_not_in_the_orbit_shows(kind: str) -> None:
    plain = logits(kind, weights())
    assert float((logits(kind, moved(weights(), 1, odd=False)) - plain).abs().max()) > 1e-4


def test_the_permutation_baseline_sees_phases_and_signs() -> None:
    plain = logits("hnp", weights())
    assert float((logits("hnp", moved(weights(), 1)) - plain).abs().max()) > 1e-2


@pytest.mark.parametrize("kind", ["probe", "phasor", "monomial-nfn"])
def test_files_in_single_precision_with_many_windings_give_the_same_within_1e_4(kind: str) -> None:
    single = {name: tensor.astype(np.float32) for name, tensor in moved(weights(), 4).items()}
    assert float((logits(kind, single) - logits(kind, weights())).abs().max()) < 1e-4


@pytest.mark.parametrize("kind", ["probe", "phasor"])
def test_a_network_fitted_in_other_coordinates_reads_the_same_when_they_are_named(kind: str) -> None:
    tensors = weights()
    other = dict(tensors)
    first, bias = "layers.0.weight", "layers.0.bias"
    # the same images with the column first and coordinates in [0, 1]
    other[first] = tensors[first][:, :, ::-1] * 2
    other[bias] = tensors[bias] - tensors[first].sum(2)
    coordinates = Coordinates(0.0, 1.0, "column-row")
    assert float((logits(kind, other, coordinates) - logits(kind, tensors)).abs().max()) < 1e-9
    assert float((logits(kind, other) - logits(kind, tensors)).abs().max()) > 1e-3


def test_scale_and_offset_of_values_do_not_show() -> None:
    tensors = weights()
    other = {
        **tensors,
        "layers.2.weight": tensors["layers.2.weight"] * 2,
        "layers.2.bias": tensors["layers.2.bias"] - 1,
    }
    for kind in ("probe", "phasor", "monomial-nfn"):
        assert float((logits(kind, other) - logits(kind, tensors)).abs().max()) < 1e-3
        negative = {**tensors, "layers.2.weight": -tensors["layers.2.weight"]}
        assert float((logits(kind, negative) - logits(kind, tensors)).abs().max()) > 1e-3


@pytest.mark.parametrize("centred", [False, True])
def test_probes_begin_on_the_grid_on_which_the_image_is_smoother(centred: bool) -> None:
    smooth, rough = torch.linspace(0, 1, 12).expand(3, 1, 12, 12).double(), torch.rand(3, 1, 12, 12).double()
    pair = (rough, smooth) if centred else (smooth, rough)
    assert torch.allclose(smoother(*pair), smooth, atol=1e-6)
    assert torch.allclose(smoother(smooth, smooth.mT), (smooth + smooth.mT) / 2)  # between equals nothing jumps


def test_an_answer_is_between_those_on_the_two_grids() -> None:
    tensors = weights()
    stacked = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
    one, other = (render(NETWORK.graph(), stacked, 12, 12, Coordinates(centred=each))[..., 0] for each in (False, True))
    read = ProbeReader(1, 12, 12).encode(NETWORK.graph(), tensors, USUAL).values[:, 0]
    assert bool(((read - one) * (read - other) <= 1e-12).all())


def test_an_unperturbed_phasor_channel_is_the_value_at_a_point() -> None:
    encoder = encoder_of("phasor")
    member: Any = encoder.network(OUTPUTS, {"side": 6, "rank": 4, "head_width": 16}).double()
    with torch.no_grad():
        member.blur.zero_()
    features = member.features(encoder.encode(NETWORK.graph(), weights(), USUAL))
    stacked = {name: torch.from_numpy(tensor) for name, tensor in weights().items()}
    values = render(NETWORK.graph(), stacked, 6, 6).permute(0, 3, 1, 2).flatten(2)
    assert torch.allclose(standardized(features), standardized(values), atol=1e-4)


@pytest.mark.parametrize("bent", [True, False])
def test_bent_paths_from_waves_are_the_values_at_points_and_straight_ones_are_not(bent: bool) -> None:
    member: Any = encoder_of("monomial-nfn").network(OUTPUTS, {"channels": [4], "side": 6, "bent": bent}).double()
    paths = member.invariants(encoder_of("monomial-nfn").encode(NETWORK.graph(), weights(), USUAL))
    stacked = {name: torch.from_numpy(tensor) for name, tensor in weights().items()}
    values = render(NETWORK.graph(), stacked, 6, 6, Coordinates(centred=True)).flatten(1)
    waves = paths[:, 2 : 2 + 36].detach()  # behind those from the two frequencies
    agree = [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in zip(waves, values, strict=True)]
    assert (min(agree) > 1 - 1e-9) is bent
