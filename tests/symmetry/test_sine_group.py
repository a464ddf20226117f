"""D∞ ≀ S_n of sin(ωz): windings of ±40, biases at the ends of their interval, both float types, ω of each layer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nfn_cli.canonical import CanonicalOptions
from nfn_cli.canonical.canonicalize import canonical_element
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.graph.model import Network
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.check import outputs, relative_change
from nfn_cli.symmetry.degenerate import find_degenerate
from nfn_cli.symmetry.element import FlatElement, random_flat, to_flat
from nfn_cli.symmetry.report import symmetry_report
from nfn_cli.symmetry.solve import Symmetry, find_symmetry

from .networks import Tensors, mlp

OMEGA = 30.0
WIDTHS = (2, 9, 7, 3)
# a bias of 40 turns (40π/30) is stored to 2e-7 in float32, which is 5e-6 of the interval's half width
TOLERANCE = {"float32": 1e-4, "float64": 1e-11}


def siren(seed: int, function: str = "sin", dtype: str = "float64", omega: float = OMEGA) -> tuple[Network, Tensors]:
    network, tensors = mlp(seed, function, WIDTHS, omega=omega)
    return network, {name: (array / np.sqrt(omega)).astype(dtype) for name, array in tensors.items()}


def with_biases_at_the_ends(tensors: Tensors, omega: float, seed: int) -> Tensors:
    """Biases on odd multiples of π/2ω, where sin is at a peak, some of them off it by what rounding does."""
    random = np.random.default_rng(seed)
    out = dict(tensors)
    for layer in range(len(WIDTHS) - 2):
        name = f"layers.{layer}.bias"
        turns = random.integers(-3, 3, size=tensors[name].shape) + 0.5
        exact = (turns * np.pi / omega).astype(tensors[name].dtype)
        out[name] = exact + (np.spacing(exact) * random.integers(-1, 2, size=exact.shape)).astype(exact.dtype)
    return out


def moved(tensors: Tensors, symmetry: Symmetry, flat: FlatElement) -> Tensors:
    view = TransformedTensors(tensors, {}, symmetry, flat)
    return {name: np.asarray(view[name]) for name in view}


def canon(network: Network, tensors: Tensors) -> Tensors:
    symmetry = find_symmetry([network])
    return moved(tensors, symmetry, to_flat(symmetry, canonical_element(symmetry, tensors, CanonicalOptions())))


def distance(left: Tensors, right: Tensors) -> float:
    return max(float(np.max(np.abs(left[n].astype(np.float64) - right[n])) / np.max(np.abs(left[n]))) for n in left)


CASES = {
    "seed": st.integers(0, 10_000),
    "function": st.sampled_from(["sin", "cos"]),
    "dtype": st.sampled_from(["float32", "float64"]),
    "at_the_ends": st.booleans(),
    "omega": st.sampled_from([30.0, 1.0, -2.0, 7.5]),
}


@given(**CASES)
@settings(deadline=None, max_examples=60, derandomize=True)
def test_windings_of_forty_turns_leave_the_canonical_form_alone(
    seed: int, function: str, dtype: str, at_the_ends: bool, omega: float
) -> None:
    network, tensors = siren(seed, function, dtype, abs(omega))
    network, _ = mlp(seed, function, WIDTHS, omega=omega)
    if at_the_ends:
        tensors = with_biases_at_the_ends(tensors, omega, seed)
    symmetry = find_symmetry([network])
    far = moved(tensors, symmetry, random_flat(symmetry, seed, shifts=40))
    once, again = canon(network, tensors), canon(network, far)
    assert distance(once, again) < TOLERANCE[dtype]
    assert distance(once, canon(network, once)) == 0
    half = np.pi / abs(omega) / 2
    for layer in range(2):
        assert (np.abs(once[f"layers.{layer}.bias"]) <= half * (1 + 3e-5)).all()
    assert relative_change(outputs(network, tensors, 0), outputs(network, once, 0)) < 10 * TOLERANCE[dtype]


@given(seed=st.integers(0, 10_000), turns=st.integers(-40, 40).filter(lambda k: k % 2 != 0))
@settings(deadline=None, max_examples=20, derandomize=True)
def test_half_a_phase_shift_is_not_of_the_group(seed: int, turns: int) -> None:
    network, tensors = siren(seed)
    other = dict(tensors) | {"layers.0.bias": tensors["layers.0.bias"].copy()}
    other["layers.0.bias"][3] += turns * np.pi / OMEGA / 2
    assert distance(canon(network, tensors), canon(network, other)) > 1e-3


def test_a_peak_is_one_class_whichever_way_it_is_written() -> None:
    """v sin(ωwx − π/2) = −v sin(ωwx + π/2) = v sin(−ωwx − π/2): four ways to write one unit, one form."""
    network, tensors = mlp(1, "sin", (2, 1, 1), omega=OMEGA)
    w, v, end = np.array([[0.3, -0.2]]), np.array([[1.5]]), np.array([np.pi / 2 / OMEGA])
    forms = [
        canon(network, tensors | {"layers.0.weight": s * w, "layers.0.bias": t * end, "layers.1.weight": -t * v})
        for s in (1, -1)
        for t in (1, -1)
    ]
    for form in forms[1:]:
        assert distance(forms[0], form) < 1e-12
    opposite = canon(network, tensors | {"layers.0.weight": w, "layers.0.bias": end, "layers.1.weight": v})
    assert distance(forms[0], opposite) > 1e-3


def test_the_report_tells_frequencies_and_windings() -> None:
    network, tensors = siren(2)
    tensors = canon(network, tensors) | {"layers.1.weight": tensors["layers.1.weight"]}
    tensors["layers.0.bias"] = tensors["layers.0.bias"] + 40 * np.pi / OMEGA * np.eye(9)[4]
    (told,) = symmetry_report(Checkpoint("siren", "safetensors", tensors), [network]).as_json()["networks"]
    assert told["omega"] == [30.0, 30.0]
    assert [unit_set["windings"] for unit_set in told["unit_sets"]] == [40, 0]
    assert told["check"]["passed"]
    network, tensors = mlp(0, "tanh")
    (told,) = symmetry_report(Checkpoint("tanh", "safetensors", tensors), [network]).as_json()["networks"]
    assert (told["omega"], told["unit_sets"][0]["windings"]) == ([], None)


@pytest.mark.parametrize(("shift", "repeated"), [(7 * np.pi / OMEGA, True), (np.pi / OMEGA / 3, False)])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_unit_repeated_some_phase_shifts_away_is_a_duplicate(shift: float, repeated: bool, sign: int) -> None:
    network, tensors = siren(4)
    for name in ("layers.0.weight", "layers.0.bias"):
        tensors[name][5] = sign * tensors[name][2]
    tensors["layers.0.bias"][5] += shift
    found, _ = find_degenerate(find_symmetry([network]), [network], tensors, {})
    assert found.duplicate == (((2, 5),) if repeated else ())


@pytest.mark.parametrize("function", ["finer", "sinc", "gaussian"])
def test_what_is_not_periodic_has_signs_alone(function: str) -> None:
    network, tensors = mlp(0, function, WIDTHS, omega=OMEGA)
    symmetry = find_symmetry([network])
    assert [dict(s.families) for s in symmetry.unit_sets] == [{"scale": 0, "sign": 1, "shift": 0}] * 2
    shifted = dict(tensors) | {"layers.0.bias": tensors["layers.0.bias"] + np.pi / OMEGA}
    shifted["layers.1.weight"] = -tensors["layers.1.weight"]
    assert relative_change(outputs(network, tensors, 0), outputs(network, shifted, 0)) > 1e-3
    for seed in range(3):
        far = moved(tensors, symmetry, random_flat(symmetry, seed))
        assert relative_change(outputs(network, tensors, 0), outputs(network, far, 0)) < 1e-11
        assert distance(canon(network, tensors), canon(network, far)) < 1e-11
