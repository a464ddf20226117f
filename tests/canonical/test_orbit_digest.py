"""The digest modulo symmetry: one for an orbit in spite of float32 noise, in no order of units; another for other weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nfn_cli.canonical.orbit_digest import cell_width, orbit_digest
from nfn_cli.checkpoint import Checkpoint, load
from nfn_cli.errors import Refused
from nfn_cli.graph import NameOptions, find_networks
from nfn_cli.graph.model import Network
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import random_flat
from nfn_cli.symmetry.solve import find_symmetry

from ..cli.running import RELU
from ..symmetry.networks import ALL, Tensors, mlp

AnyTensors = dict[str, np.ndarray[Any, np.dtype[Any]]]


def checkpoint(tensors: AnyTensors) -> Checkpoint:
    return Checkpoint("x", "safetensors", tensors)


def narrow(tensors: Tensors) -> AnyTensors:
    return {name: array.astype(np.float32) for name, array in tensors.items()}


def moved(network: Network, tensors: AnyTensors, seed: int, scales: tuple[float, float] = (0.1, 10.0)) -> AnyTensors:
    """A random member of the orbit, rounded to the dtype of the tensors."""
    symmetry = find_symmetry([network])
    view = TransformedTensors(tensors, {}, symmetry, random_flat(symmetry, seed, scales=scales))
    return {name: np.asarray(view[name]) for name in view}


def of(network: Network, tensors: AnyTensors, names: bool = True) -> str:
    return orbit_digest(checkpoint(tensors), [network], names=names).hexdigest


@pytest.mark.parametrize("kind", ALL)
def test_random_members_of_an_orbit_share_it_in_float32(kind: str) -> None:
    network, wide = ALL[kind](3)
    tensors = narrow(wide)
    expected = of(network, tensors)
    for seed in range(3):
        member = moved(network, tensors, seed)
        assert of(network, member) == expected
        assert of(network, {name: array.astype(np.float64) for name, array in member.items()}) == expected


@pytest.mark.parametrize("kind", ALL)
def test_weights_off_the_orbit_have_another(kind: str) -> None:
    network, wide = ALL[kind](3)
    tensors = narrow(wide)
    name = next(n for n, array in tensors.items() if array.ndim > 1)
    noise = np.random.default_rng(0).standard_normal(tensors[name].shape)
    other = tensors | {name: (tensors[name] * (1 + 0.01 * noise)).astype(np.float32)}
    assert of(network, other) != of(network, tensors)


def test_a_sign_flip_is_no_symmetry_of_relu() -> None:
    network, tensors = mlp(0, "relu")
    other = {name: array.copy() for name, array in tensors.items()}
    other["layers.0.weight"][2] *= -1
    other["layers.0.bias"][2] *= -1
    other["layers.1.weight"][:, 2] *= -1
    assert of(network, other) != of(network, tensors)


def test_exchanging_rows_without_their_columns_is_seen() -> None:
    network, tensors = mlp(0, "gelu")
    other = {name: array.copy() for name, array in tensors.items()}
    other["layers.0.weight"][[0, 1]] = other["layers.0.weight"][[1, 0]]
    other["layers.0.bias"][[0, 1]] = other["layers.0.bias"][[1, 0]]
    assert of(network, other) != of(network, tensors)
    other["layers.1.weight"][:, [0, 1]] = other["layers.1.weight"][:, [1, 0]]
    assert of(network, other) == of(network, tensors)


def test_units_whose_rounded_weights_agree_do_not_need_an_order() -> None:
    """Sorting would have to choose between these twins; they differ only in what they feed."""
    network, tensors = mlp(0, "gelu")
    for name in ("layers.0.weight", "layers.0.bias"):
        tensors[name][3] = tensors[name][1]
    assert of(network, moved(network, narrow(tensors), 1)) == of(network, narrow(tensors))


def test_names_count_unless_told_otherwise() -> None:
    _, tensors = mlp(1, "tanh", (4, 6, 5, 3))
    new = {name: name.replace("layers.", "net.") for name in tensors}
    source = {new[name]: array for name, array in tensors.items()}
    (renamed,) = find_networks(checkpoint(source), NameOptions(activation="tanh"))
    (plain,) = find_networks(checkpoint(tensors), NameOptions(activation="tanh"))
    assert of(renamed, source) != of(plain, tensors)
    assert of(renamed, source, names=False) == of(plain, tensors, names=False)


def test_the_order_of_the_file_does_not_count() -> None:
    network, tensors = ALL["residual-relu"](0)
    assert of(network, dict(reversed(list(tensors.items())))) == of(network, tensors)


@pytest.mark.parametrize("function", ["relu", "tanh"])
def test_a_hundred_thousand_entries_are_still_stable_and_sensitive(function: str) -> None:
    network, wide = mlp(0, function, (784, 100, 100, 10))
    tensors = narrow(wide)
    expected = of(network, tensors)
    assert [of(network, moved(network, tensors, seed)) for seed in range(8)].count(expected) >= 7
    noise = np.random.default_rng(0)
    other = {name: array * (1 + 1e-4 * noise.standard_normal(array.shape)) for name, array in wide.items()}
    assert of(network, narrow(other)) != expected


def test_a_trained_network_keeps_it_under_twenty_elements() -> None:
    file = load(RELU)
    (network,) = find_networks(file, NameOptions())
    tensors = {name: np.asarray(array) for name, array in file.tensors.items()}
    expected = of(network, tensors)
    assert [of(network, moved(network, tensors, seed)) for seed in range(20)].count(expected) >= 19


def test_cells_widen_with_the_number_of_entries_and_stay_useful() -> None:
    widths = [cell_width(n) for n in (1, 5_000, 100_000, 1_000_000, 25_000_000, 10**12)]
    assert widths == sorted(widths)
    assert widths[0] == 2**-7
    assert widths[-1] == 8
    assert widths[1] < widths[2] < widths[3] < widths[4]


def test_weights_that_are_not_finite_are_refused() -> None:
    network, tensors = mlp(0, "relu")
    tensors["layers.1.bias"][0] = np.inf
    with pytest.raises(Refused, match=r"layers\.1\.bias"):
        of(network, tensors)
