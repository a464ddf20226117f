"""Fingerprints: the same along orbits and for half-precision copies, near under noise, far for other networks."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused
from nfn_cli.graph.model import Network
from nfn_cli.match.fingerprint import Fingerprinter, fingerprint
from nfn_cli.match.fingerprint_code import RADIUS, Fingerprint, fingerprint_from
from nfn_cli.match.fingerprint_statistics import statistics
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.axis import IntArray
from nfn_cli.symmetry.element import random_flat
from nfn_cli.symmetry.solve import find_symmetry
from tests.symmetry.networks import ALL, Tensors, mlp, residual


def of(network: Network, tensors: Tensors) -> Fingerprint:
    return fingerprint(Checkpoint("memory", "npz", tensors), [network])


def bits_apart(a: Fingerprint, b: Fingerprint) -> int:
    distance = a.distance(b)
    assert distance is not None
    return distance


def moved(network: Network, tensors: Tensors, seed: int) -> Tensors:
    symmetry = find_symmetry([network])
    element = random_flat(symmetry, seed, scales=(1e-3, 1e3))
    return dict(TransformedTensors(tensors, {}, symmetry, element))


@pytest.mark.parametrize("kind", ALL)
def test_the_whole_orbit_has_one_code(kind: str) -> None:
    network, tensors = ALL[kind](0)
    code = of(network, tensors)
    assert [bits_apart(code, of(network, moved(network, tensors, seed))) for seed in range(3)] == [0, 0, 0]


@pytest.mark.parametrize("kind", ALL)
def test_other_weights_in_the_same_graph_have_another_code(kind: str) -> None:
    codes = [of(*ALL[kind](seed)) for seed in range(4)]
    apart = [bits_apart(a, b) for i, a in enumerate(codes) for b in codes[:i]]
    assert min(apart) > 3 * RADIUS


def test_what_is_no_group_element_changes_the_code() -> None:
    """A scale of the incoming weights that the outgoing ones do not undo; a flip under relu; a swap on one side only."""
    network, tensors = mlp(0, "relu")
    code = of(network, tensors)
    names = list(network.graph.parameter_shapes)
    first, second = names[0], next(n for n in names[1:] if tensors[n].ndim == 2)
    scaled = tensors | {first: tensors[first] * np.where(np.arange(len(tensors[first])) < 3, 2.0, 1.0)[:, None]}
    flipped = tensors | {first: -tensors[first], second: -tensors[second]}
    swapped = tensors | {first: tensors[first][::-1]}
    for changed in (scaled, flipped, swapped):
        assert bits_apart(code, of(network, changed)) > RADIUS


def test_units_exchanged_on_one_side_show_where_no_scale_tells() -> None:
    """On both sides together they are the same."""
    network, tensors = mlp(0, "tanh")
    weight, bias, following = list(network.graph.parameter_shapes)[:3]
    code, size = of(network, tensors), len(tensors[weight])

    def exchanged(order: IntArray, *, both: bool) -> Tensors:
        one = tensors | {weight: tensors[weight][order], bias: tensors[bias][order]}
        return one | {following: tensors[following][:, order]} if both else one

    two, all_of_them = np.array([1, 0, *range(2, size)]), np.arange(size)[::-1]
    assert bits_apart(code, of(network, exchanged(two, both=False))) > RADIUS
    assert bits_apart(code, of(network, exchanged(all_of_them, both=False))) > RADIUS
    for order in (two, all_of_them):
        assert bits_apart(code, of(network, exchanged(order, both=True))) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("kind", ["mlp-relu", "mlp-sin", "cnn-relu", "residual-tanh", "grouped-relu"])
def test_copies_in_coarser_types_are_within_the_radius(kind: str, dtype: type) -> None:
    network, tensors = ALL[kind](1)
    small = {name: array.astype(dtype) for name, array in tensors.items()}
    code = of(network, tensors)
    assert code.same_network(of(network, small))
    assert not of(*ALL[kind](2)).same_network(of(network, small))


def test_distance_grows_with_noise() -> None:
    network, tensors = residual(3, "relu")
    code, random = of(network, tensors), np.random.default_rng(0)
    means = []
    for size in (1e-5, 1e-2, 1e-1, 1.0):
        noisy = [{n: a * (1 + size * random.standard_normal(a.shape)) for n, a in tensors.items()} for _ in range(5)]
        means.append(float(np.mean([bits_apart(code, of(network, one)) for one in noisy])))
    assert means[0] < 1 < means[1] < RADIUS < means[2] < means[3] + 20
    assert means[3] > 100


def test_names_do_not_count_and_shapes_do() -> None:
    network, tensors = mlp(0, "relu")
    new = {name: f"other.{number}" for number, name in enumerate(reversed(list(tensors)))}
    ops = tuple(replace(op, parameters={r: new[n] for r, n in op.parameters.items()}) for op in network.graph.ops)
    shapes = {new[n]: s for n, s in network.graph.parameter_shapes.items()}
    renamed = replace(network, graph=replace(network.graph, ops=ops, parameter_shapes=shapes))
    assert of(renamed, {new[n]: a for n, a in tensors.items()}) == of(network, tensors)
    wider = of(*mlp(0, "relu", (5, 8, 6, 3)))
    assert wider.distance(of(network, tensors)) is None
    assert of(*mlp(0, "tanh")).distance(of(network, tensors)) is None


def test_what_dead_units_hold_does_not_count() -> None:
    """A unit of relu that nothing reads may have any incoming weights; where something reads it they count."""
    network, tensors = mlp(0, "relu")
    names = [n for n in network.graph.parameter_shapes if tensors[n].ndim == 2]
    dead = tensors | {names[1]: tensors[names[1]] * (np.arange(tensors[names[1]].shape[1]) != 2)}
    other = dead | {names[0]: tensors[names[0]] * np.where(np.arange(len(tensors[names[0]])) == 2, 100.0, 1.0)[:, None]}
    assert bits_apart(of(network, dead), of(network, other)) == 0
    alive = tensors | {names[0]: other[names[0]]}
    assert bits_apart(of(network, tensors), of(network, alive)) > 0


def test_layers_of_zeros_are_fine_and_what_is_not_finite_is_refused() -> None:
    network, tensors = mlp(0, "relu")
    zero = {name: np.zeros_like(array) for name, array in tensors.items()}
    assert of(network, zero) == of(network, zero)
    name = next(iter(tensors))
    with pytest.raises(Refused, match="not finite"):
        of(network, tensors | {name: np.full_like(tensors[name], np.nan)})
    with pytest.raises(Refused, match="too large"):
        of(network, tensors | {name: np.full_like(tensors[name], 1e200)})


def test_many_at_once_are_those_one_by_one_and_bad_rows_stand_alone() -> None:
    made = [ALL["cnn-relu"](seed) for seed in range(3)]
    network = made[0][0]
    maker = Fingerprinter.of([network])
    stacked = {name: np.stack([tensors[name] for _, tensors in made]) for name in network.graph.parameter_shapes}
    stacked = {name: np.concatenate([array, array[:1]]) for name, array in stacked.items()}
    first = next(iter(network.graph.parameter_shapes))
    stacked[first][3] = np.inf
    found = maker.fingerprints(stacked)
    assert found == [*(of(*one) for one in made), None]
    with pytest.raises(Refused, match="needs"):
        maker.codes_and_usable({name: array for name, array in stacked.items() if name != first})
    assert statistics(maker.plan, stacked).shape[0] == 4


def test_a_code_is_text_and_back() -> None:
    code = of(*mlp(0, "relu"))
    assert fingerprint_from(str(code)) == code
    for bad in ("", str(code)[:-1], "1" + str(code)[1:], "model.safetensors"):
        with pytest.raises(Refused):
            fingerprint_from(bad)
