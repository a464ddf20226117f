"""Norms: invariant ones stand still on the orbit, raw ones do not; each against a slow, obvious computation."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from nfn_cli.canonical import CanonicalOptions
from nfn_cli.canonical.canonicalize import canonical_element
from nfn_cli.canonical.norms import NetworkNorms, weight_norms
from nfn_cli.canonical.norms.layers import batch_norm_gain, layers, spectral
from nfn_cli.canonical.norms.path_norm import _SLOPES, Unmeasured, path_norm
from nfn_cli.checkpoint import Checkpoint
from nfn_cli.errors import Refused
from nfn_cli.graph.activations import ACTIVATIONS
from nfn_cli.graph.model import GraphInput, Network
from nfn_cli.graph.reference import evaluate
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import random_flat, to_flat
from nfn_cli.symmetry.solve import find_symmetry

from ..symmetry.networks import ALL, Builder, Tensors, cnn, mlp

HOMOGENEOUS = [
    kind for kind in ALL if kind.endswith(("relu", "relu-max", "leaky_relu", "mlp-abs", "identity", "square"))
]


def norms_of(network: Network, tensors: Tensors) -> NetworkNorms:
    (found,) = weight_norms(Checkpoint("x", "safetensors", tensors), [network])
    return found


def moved(network: Network, tensors: Tensors, seed: int) -> Tensors:
    symmetry = find_symmetry([network])
    view = TransformedTensors(tensors, {}, symmetry, random_flat(symmetry, seed, scales=(1e-2, 1e2)))
    return {name: np.asarray(view[name]) for name in view}


def numbers(norms: NetworkNorms, form: str) -> list[float]:
    """Every number of one form, None as −1."""
    shown = norms.as_json()
    return [size for layer in shown["layers"] for size in layer[form].values()] + [
        -1.0 if value is None else value for value in shown[form].values()
    ]


def change(before: list[float], after: list[float]) -> float:
    return max(abs(a - b) / max(1e-3, abs(a)) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("kind", ALL)
def test_invariant_norms_do_not_move_on_the_orbit(kind: str) -> None:
    network, tensors = ALL[kind](4)
    before = numbers(norms_of(network, tensors), "invariant")
    assert min(before[:3]) > 0
    for seed in range(2):
        assert change(before, numbers(norms_of(network, moved(network, tensors, seed)), "invariant")) < 1e-9


@pytest.mark.parametrize("kind", [k for k in HOMOGENEOUS if k != "autoencoder-relu"])
def test_raw_norms_do(kind: str) -> None:
    network, tensors = ALL[kind](4)
    before = numbers(norms_of(network, tensors), "raw")
    assert change(before, numbers(norms_of(network, moved(network, tensors, 0)), "raw")) > 0.1


def test_weights_off_the_orbit_have_other_invariant_norms() -> None:
    network, tensors = mlp(0, "relu")
    before = numbers(norms_of(network, tensors), "invariant")
    tensors["layers.1.weight"][0, 0] += 0.1
    assert change(before, numbers(norms_of(network, tensors), "invariant")) > 1e-4


def paths(weights: list[np.ndarray], biases: list[np.ndarray], power: int) -> float:
    """Every path of a perceptron, one by one: it begins at an input, or at the bias of a unit, and ends at an output."""
    widths = [weights[0].shape[1], *(len(weight) for weight in weights)]

    def on(nodes: tuple[int, ...], first: int) -> float:
        steps = enumerate(itertools.pairwise(nodes), first)
        return float(np.prod([abs(weights[layer][i, j]) ** power for layer, (j, i) in steps]))

    total = sum(on(nodes, 0) for nodes in itertools.product(*map(range, widths)))
    for layer, bias in enumerate(biases):
        for nodes in itertools.product(*map(range, widths[layer + 1 :])):
            total += abs(bias[nodes[0]]) ** power * on(nodes, layer + 1)
    return total


@pytest.mark.parametrize("power", [1, 2])
def test_path_norms_are_those_of_all_paths_one_by_one(power: int) -> None:
    network, tensors = mlp(3, "relu", (3, 4, 3, 2))
    weights, biases = ([tensors[f"layers.{i}.{part}"] for i in range(3)] for part in ("weight", "bias"))
    expected = paths(weights, biases, power) ** (1 / power)
    assert path_norm(network.graph, tensors, power) == pytest.approx(expected, rel=1e-12)
    assert norms_of(network, tensors).path[power] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "kind", ["mlp-relu", "cnn-relu", "cnn-relu-max", "residual-relu", "depthwise-relu", "grouped-relu"]
)
@pytest.mark.parametrize("power", [1, 2])
def test_path_norms_of_rescaled_weights_are_equal_without_balancing_first(kind: str, power: int) -> None:
    network, tensors = ALL[kind](2)
    other = moved(network, tensors, 3)
    assert path_norm(network.graph, other, power) == pytest.approx(path_norm(network.graph, tensors, power), rel=1e-10)


@pytest.mark.parametrize(
    "kind", ["mlp-relu", "mlp-sigmoid", "mlp-gelu", "mlp-sin", "cnn-silu", "residual-tanh", "gated"]
)
def test_the_l1_path_norm_bounds_the_outputs_for_inputs_up_to_one(kind: str) -> None:
    network, tensors = gated() if kind == "gated" else ALL[kind](1)
    shape = [6 if size is None else size for size in network.graph.inputs[0].shape]
    generator = np.random.default_rng(0)
    x = generator.choice([-1.0, 1.0], (50, *shape[1:]))
    (out,) = evaluate(network.graph, tensors, {network.graph.inputs[0].name: x})
    largest = float(np.abs(out).reshape(50, -1).sum(axis=1).max())
    assert largest <= path_norm(network.graph, tensors, 1) * (1 + 1e-12)


def gated() -> tuple[Network, Tensors]:
    """Squeeze and excitation: a sigmoid of the mean multiplies the channels."""
    b = Builder(0, [GraphInput("x", (None, 3, 5, 5))])
    x = b.act(b.norm(b.conv("x", "conv", 4, 3), "norm", 4), "relu")
    gate = b.act(b.conv(b.reduce(x, "mean", 2, 3), "gate", 4, 4, 1), "sigmoid")
    return b.network(b.head(b.op("mul", [x, gate]), 4))


def test_a_gate_counts_as_one_and_its_weights_not_at_all() -> None:
    network, tensors = gated()
    before = path_norm(network.graph, tensors, 1)
    tensors["gate.weight"] *= 100
    assert path_norm(network.graph, tensors, 1) == before
    tensors["conv.weight"] *= 2
    assert path_norm(network.graph, tensors, 1) > before


@pytest.mark.parametrize("function", _SLOPES)
def test_slopes_bound_the_activations_and_are_reached(function: str) -> None:
    z = np.linspace(-8, 8, 160_001)
    activation = ACTIVATIONS[function]
    values = activation.formula(z, activation.parameter)
    slope, offset = _SLOPES[function]
    steepest = float(np.abs(np.diff(values) / np.diff(z)).max())
    assert slope * 0.997 <= steepest <= slope * (1 + 1e-6)
    assert offset == pytest.approx(abs(float(activation.formula(np.zeros(1), activation.parameter)[0])), abs=1e-12)


def test_what_is_no_sum_over_paths_says_so() -> None:
    network, tensors = ALL["normalized-relu"](0)
    norms = norms_of(network, tensors)
    assert norms.path == {1: None, 2: None}
    assert "layer_norm" in norms.path_note
    network, tensors = mlp(0, "squared_relu")
    with pytest.raises(Unmeasured, match="squared_relu"):
        path_norm(network.graph, tensors, 1)


def dense(shape: tuple[int, ...], groups: int, weight: np.ndarray) -> np.ndarray:
    """The block-diagonal matrix (outputs, inputs · kernel) of a grouped convolution, entry by entry."""
    rows, per, kernel = shape[0], shape[1], int(np.prod(shape[2:]))
    matrix = np.zeros((rows, groups * per * kernel))
    for row, column, position in np.ndindex(rows, per, kernel):
        group = row // (rows // groups)
        matrix[row, (group * per + column) * kernel + position] = weight.reshape(rows, per, kernel)[
            row, column, position
        ]
    return matrix


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_norms_of_grouped_convolutions_are_those_of_the_whole_matrix(groups: int) -> None:
    b = Builder(0, [GraphInput("x", (None, 6, 5, 5))])
    network, tensors = b.network(b.head(b.act(b.norm(b.conv("x", "c", 12, 6, 3, groups), "n", 12), "relu"), 12))
    layer = layers(network.graph)[0]
    matrix = dense(tensors["c.weight"].shape, groups, tensors["c.weight"])
    assert layer.norm is not None
    matrix *= batch_norm_gain(layer.norm, tensors)[:, None]
    found = norms_of(network, tensors).layers[0]
    assert found.raw == pytest.approx((np.linalg.norm(matrix), np.linalg.norm(matrix, 2)), rel=1e-12)
    assert (found.kernel, found.folded) == (9, "n.running_var")


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_the_bound_holds_for_the_operator_itself(transposed: bool, groups: int) -> None:
    b = Builder(1, [GraphInput("x", (None, 4, 6, 6))], bias=False)
    make = b.transposed_conv if transposed else b.conv
    network, tensors = b.network(make("x", "c", 6, 4, 3, groups))
    basis = np.eye(4 * 36).reshape(-1, 4, 6, 6)
    (images,) = evaluate(network.graph, tensors, {"x": basis})
    operator = float(np.linalg.norm(images.reshape(len(basis), -1), 2))
    bound = norms_of(network, tensors).layers[0].as_json()["raw"]["operator_bound"]
    assert operator <= bound * (1 + 1e-12)
    assert bound < 9 * operator


@pytest.mark.parametrize("shape", [(1, 5, 7), (1, 7, 5), (3, 4, 4), (1, 600, 700), (1, 0, 3), (4, 1, 9)])
def test_the_spectral_norm_is_the_largest_singular_value(shape: Any) -> None:
    blocks = np.random.default_rng(0).standard_normal(shape)
    expected = max((np.linalg.norm(block, 2) for block in blocks if block.size), default=0.0)
    assert spectral(blocks) == pytest.approx(expected, rel=1e-10)


def test_invariant_norms_are_those_of_the_canonical_form() -> None:
    network, tensors = cnn(5, "relu")
    symmetry = find_symmetry([network])
    element = to_flat(symmetry, canonical_element(symmetry, tensors, CanonicalOptions()))
    view = TransformedTensors(tensors, {}, symmetry, element)
    canonical = norms_of(network, {name: np.asarray(view[name]) for name in view})
    shown = norms_of(network, tensors)
    assert [layer.raw for layer in canonical.layers] == [
        pytest.approx(layer.invariant, rel=1e-10) for layer in shown.layers
    ]


def test_a_dead_layer_gives_no_infinities() -> None:
    network, tensors = mlp(0, "relu")
    tensors["layers.1.weight"][:] = 0
    shown = norms_of(network, tensors).as_json()
    assert shown["raw"]["log10_spectral_product"] is None
    assert shown["raw"]["stable_rank_sum"] > 0
    assert shown["invariant"]["path_norm_l1"] > 0  # through the biases


def test_a_negative_variance_is_refused_by_name() -> None:
    network, tensors = cnn(0, "relu")
    name = next(n for n in tensors if n.endswith("running_var"))
    tensors[name][0] = -1.0
    with pytest.raises(Refused, match=name.replace(".", r"\.")):
        norms_of(network, tensors)
