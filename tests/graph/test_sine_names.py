"""Sine networks under the names people give them: the group, where ω comes from, and what is said where nobody tells it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from nfn_cli.checkpoint import load
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.graph import NameOptions, find_networks
from nfn_cli.graph.from_names import networks_from_names
from nfn_cli.graph.model import Network
from nfn_cli.symmetry.notation import group_name
from nfn_cli.symmetry.solve import find_symmetry

# how the last layer and the others are called: Sitzmann et al. and Zhou et al., siren-pytorch, COIN, Navon et al., …
NAMES = {
    "net.{}.linear": "net.{}",
    "net.net.{}.0": "net.net.{}.0",
    "net.{}.linear ": "final_linear",
    "net.{}.linear  ": "last_layer.linear",
    "net.layers.{}": "net.last_layer",
    "layers.{}": "last_layer",
    "model.layers.{}.linear": "model.last_layer",
    "seq.{}": "seq.{}",
    "params.{}": "params.{}",
}


def siren(names: tuple[str, str], depth: int = 3, dtype: str = "float32") -> Checkpoint:
    widths = (2, *[8] * (depth - 1), 3)
    tensors = {}
    for layer, (into, out) in enumerate(itertools.pairwise(widths)):
        module = names[layer == depth - 1].strip().format(layer)
        random = np.random.default_rng(layer)
        tensors[f"{module}.weight"] = random.standard_normal((out, into)).astype(dtype)
        tensors[f"{module}.bias"] = random.standard_normal(out).astype(dtype)
    return Checkpoint("siren.pth", "torch-zip", tensors)


def read(checkpoint: Checkpoint, omega: str | None = "30", activation: str = "sin") -> Network:
    (network,) = networks_from_names(checkpoint, NameOptions(activation=activation, omega=omega))
    return network


def groups(network: Network) -> list[str]:
    return [group_name(unit_set) for unit_set in find_symmetry([network]).unit_sets]


def omegas(network: Network) -> list[object]:
    return [op.attributes.get("omega") for op in network.graph.ops if op.kind == "pointwise"]


PLAIN = ("seq.{}", "seq.{}")


@pytest.mark.parametrize("depth", [2, 3, 6])
@pytest.mark.parametrize("names", NAMES.items(), ids=str)
def test_every_hidden_layer_has_the_whole_group(names: tuple[str, str], depth: int) -> None:
    network = read(siren(names, depth))
    assert groups(network) == ["D∞ ≀ S_8"] * (depth - 1)
    assert omegas(network) == [30.0] * (depth - 1)


def test_a_decoder_is_no_last_layer() -> None:
    """Where a part of another name follows, an activation may or may not stand between: no phases are claimed there."""
    network = read(siren(("net.{}", "decoder")))
    assert groups(network) == ["D∞ ≀ S_8", "S_8"]


def test_half_precision_has_the_same_group() -> None:
    assert groups(read(siren(PLAIN, dtype="float16"))) == ["D∞ ≀ S_8"] * 2


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("30", [30, 30, 30]),
        ("30,20,10", [30, 20, 10]),
        ("30,1,...", [30, 1, 1]),
        ("30,1…", [30, 1, 1]),
        ("30,20,10,...", [30, 20, 10]),
    ],
)
def test_frequencies_are_one_or_one_a_layer_or_go_on(told: str, expected: list[float]) -> None:
    assert omegas(read(siren(PLAIN, 4), told)) == expected


@pytest.mark.parametrize("told", ["30,1", "30,20,10,5", "30,20,10,5,..."])
def test_a_list_of_another_length_is_refused(told: str) -> None:
    with pytest.raises(Refused, match="frequencies for 3 hidden layers"):
        read(siren(PLAIN, 4), told)


@pytest.mark.parametrize("told", ["0", "inf", "nan", "thirty", "30,,x"])
def test_what_is_no_frequency_is_wrong_usage(told: str) -> None:
    with pytest.raises(WrongUsage):
        read(siren(PLAIN), told)


def test_without_a_frequency_no_phase_is_claimed_and_it_is_said_what_would_add_them() -> None:
    network = read(siren(PLAIN), None)
    assert groups(network) == ["{±1}^8 ⋊ S_8"] * 2
    (note,) = (note for note in network.notes if "ω" in note)
    assert "not known" in note
    assert "--omega" in note


def test_the_frequency_used_and_its_source_are_said() -> None:
    assert "ω = 30 (from option --omega)" in read(siren(PLAIN)).notes
    assert "ω = 30, 1, 1 (from option --omega)" in read(siren(PLAIN, 4), "30,1,...").notes


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"activation": "sine", "omega": 30}, 30.0),
        ({"nonlinearity": "sine", "omega_0": 7.5}, 7.5),
        ({"activation": "sin", "w0": 1, "w0_initial": 30}, [30.0, 1.0]),
        ({"activation": "sin", "first_omega_0": 30, "hidden_omega_0": 25.0}, [30.0, 25.0]),
        ({"activation": "sin", "first_omega_0": 30, "hidden_omega_0": 30}, 30.0),
        ({"activation": "sin", "first_omega_0": 30}, None),
        ({"activation": "sin", "hidden_omega_0": 30}, None),
    ],
)
def test_frequencies_from_metadata_and_from_a_config(
    config: dict[str, object], expected: object, tmp_path: Path
) -> None:
    tensors = dict(siren(PLAIN).tensors)
    beside, inside = tmp_path / "beside", tmp_path / "inside"
    beside.mkdir()
    inside.mkdir()
    save_file(tensors, beside / "m.safetensors")
    (beside / "config.json").write_text(json.dumps(config))
    save_file(tensors, inside / "m.safetensors", metadata={key: str(value) for key, value in config.items()})
    for folder in (beside, inside):
        (network,) = find_networks(load(folder / "m.safetensors"))
        assert omegas(network) == (expected if isinstance(expected, list) else [expected] * 2)


@pytest.mark.parametrize("activation", ["finer", "sinc"])
def test_a_frequency_without_a_period_gives_no_phases(activation: str) -> None:
    network = read(siren(PLAIN), "30", activation)
    assert groups(network) == ["{±1}^8 ⋊ S_8"] * 2
    assert omegas(network) == [30.0, 30.0]
    assert "ω is not known; the group does not depend on it" in read(siren(PLAIN), None, activation).notes


def test_relu_on_encoded_coordinates_is_a_relu_network() -> None:
    assert groups(read(siren(PLAIN), None, "relu")) == ["R>0^8 ⋊ S_8"] * 2


def test_complex_weights_are_refused() -> None:
    checkpoint = siren(PLAIN)
    tensors = dict(checkpoint.tensors) | {"seq.1.weight": checkpoint.tensors["seq.1.weight"].astype(np.complex64)}
    with pytest.raises(Refused, match="complex weights"):
        read(Checkpoint("wire.pth", "torch-zip", tensors))
