"""The equalized form: equal ranges on both sides, one form an orbit, batch norms counted in and folded on request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from nfn_cli.canonical import Canonicalized, CanonicalOptions, canonicalize
from nfn_cli.canonical.batch_norm_folding import fold_batch_norms
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.graph.model import GraphInput, Network, Op
from nfn_cli.symmetry.check import outputs, relative_change
from nfn_cli.symmetry.element import identity
from nfn_cli.symmetry.solve import find_symmetry

from ..symmetry.networks import ALL, Builder, Tensors, cnn, mlp, residual
from .test_laws import acted, distance

FOLDED = CanonicalOptions("equalize", fold_batch_norm=True)


def separable(seed: int, function: str = "relu") -> tuple[Network, Tensors]:
    """Pointwise, depthwise, pointwise, with batch norms and without biases."""
    b = Builder(seed, [GraphInput("x", (None, 2, None, None))], bias=False)
    x = b.act(b.norm(b.conv("x", "a", 6, 2, k=1), "na", 6), function)
    x = b.act(b.norm(b.conv(x, "dw", 6, 6, groups=6), "ndw", 6), function)
    x = b.act(b.norm(b.conv(x, "c", 5, 6, k=1), "nc", 5), function)
    return b.network(b.head(x, 5))


NETWORKS = {"separable": lambda seed: separable(seed), **ALL}


def form(network: Network, tensors: Tensors, options: CanonicalOptions = FOLDED) -> tuple[Tensors, Canonicalized]:
    made = canonicalize(Checkpoint("network", "npz", tensors), [network], options)
    return {name: np.asarray(made.checkpoint.tensors[name]) for name in tensors}, made


def rescaled(network: Network, tensors: Tensors, seed: int) -> Tensors:
    symmetry = find_symmetry([network])
    element, classes = identity(symmetry), symmetry.classes["scale"]
    element.scale[:] = np.random.default_rng(seed).uniform(1, 1e4, int(classes.max(initial=-1)) + 1)[classes]
    return acted(tensors, symmetry, element)


def rows(weight: np.ndarray) -> np.ndarray:
    return np.abs(weight).reshape(len(weight), -1).max(axis=1)


def columns(weight: np.ndarray) -> np.ndarray:
    return rows(np.swapaxes(weight, 0, 1))


@pytest.mark.parametrize("fold", [True, False])
@pytest.mark.parametrize("kind", NETWORKS)
def test_one_form_per_orbit_and_the_function_stays(kind: str, fold: bool) -> None:
    network, tensors = NETWORKS[kind](3)
    options = CanonicalOptions("equalize", fold_batch_norm=fold)
    once, made = form(network, tensors, options)
    assert made.relative_change < 1e-11
    assert distance(once, form(network, once, options)[0]) < 1e-8
    assert distance(once, form(network, rescaled(network, tensors, 7), options)[0]) < 1e-6


def test_another_function_has_another_form() -> None:
    network, tensors = separable(3)
    other = {name: array.copy() for name, array in tensors.items()}
    other["ndw.weight"][2] *= 1.01
    assert distance(form(network, tensors)[0], form(network, other)[0]) > 1e-4


@pytest.mark.parametrize("widths", [(4, 9, 8, 3), (30, 300, 200, 10)])
def test_ranges_are_equal_along_a_chain(widths: tuple[int, ...]) -> None:
    """Wide ones are solved on few of their entries: the ranges are those of all."""
    found, _ = form(*mlp(1, "relu", widths))
    for before, after in (("layers.0", "layers.1"), ("layers.1", "layers.2")):
        assert np.allclose(rows(found[f"{before}.weight"]), columns(found[f"{after}.weight"]), rtol=1e-8)


def test_ranges_are_equal_around_a_depthwise_convolution() -> None:
    found, _ = form(*separable(1))
    assert np.allclose(rows(found["a.weight"]), rows(found["dw.weight"]), rtol=1e-8)
    assert np.allclose(rows(found["dw.weight"]), columns(found["c.weight"]), rtol=1e-8)


def test_behind_a_batch_norm_the_range_is_that_of_the_folded_weight() -> None:
    network, tensors = separable(1)
    found, _ = form(network, tensors, CanonicalOptions("equalize", order=False))

    def folded(layer: str, norm: str) -> np.ndarray:
        gain = found[f"{norm}.weight"] / np.sqrt(found[f"{norm}.running_var"] + 1e-5)
        return found[f"{layer}.weight"] * gain[:, None, None, None]

    first, depthwise, last = folded("a", "na"), folded("dw", "ndw"), folded("c", "nc")
    assert np.allclose(rows(first), rows(depthwise), rtol=1e-8)
    assert np.allclose(rows(depthwise), columns(last), rtol=1e-8)
    assert not np.allclose(found["na.weight"], rows(depthwise), rtol=1e-2)  # γ alone is another range


def test_a_residual_trunk_has_one_range_on_either_side() -> None:
    network, tensors = residual(2, "relu")
    found, _ = form(network, tensors)
    into = np.max([rows(found[name]) for name in ("stem.weight", "b0.c2.weight", "b1.c2.weight")], axis=0)
    out = np.max([columns(found[name]) for name in ("b0.c1.weight", "b1.c1.weight", "fc.weight")], axis=0)
    assert np.allclose(into, out, rtol=1e-8)


def test_folded_norms_are_the_identity_and_the_shift_goes_where_there_is_room() -> None:
    for maker, shift in ((separable, "na.bias"), (lambda seed: cnn(seed, "relu"), "conv0.bias")):
        network, tensors = maker(4)
        found, _ = form(network, tensors)
        norm = "na" if shift == "na.bias" else "bn0"
        assert np.array_equal(found[f"{norm}.running_mean"], np.zeros_like(found[f"{norm}.running_mean"]))
        assert np.array_equal(found[f"{norm}.running_var"], np.ones_like(found[f"{norm}.running_var"]))
        assert np.allclose(found[f"{norm}.weight"], np.sqrt(1 + 1e-5), rtol=1e-15)
        assert found[shift].any()
        assert shift == f"{norm}.bias" or not found[f"{norm}.bias"].any()


def test_folding_is_the_graph_without_the_norm() -> None:
    network, tensors = separable(5)
    folded = fold_batch_norms([network], tensors, {})
    assert not any(op.kind == "batch_norm" for op in folded.networks[0].graph.ops)
    new = {**tensors, **folded.tensors}
    before = outputs(network, tensors, 0)
    assert relative_change(before, outputs(folded.networks[0], new, 0)) < 1e-12
    assert relative_change(before, outputs(network, new, 0)) < 1e-5  # √(1 + ε) is written into the file
    assert relative_change(before, outputs(folded.networks[0], tensors, 0)) > 1e-3


def test_folding_again_changes_no_bit() -> None:
    network, tensors = cnn(6, "relu")
    single = {name: array.astype(np.float32) for name, array in tensors.items()}
    once = {**single, **fold_batch_norms([network], single, {}).tensors}
    twice = fold_batch_norms([network], once, {}).tensors
    assert any(not np.array_equal(once[name], single[name]) for name in single)
    assert all(np.array_equal(array, once[name]) for name, array in twice.items())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_element_types_keep_their_type_and_function(dtype: str) -> None:
    import ml_dtypes  # noqa: F401 — tells numpy of bfloat16

    network, tensors = separable(1)
    narrow = {name: array.astype(np.dtype(dtype)) for name, array in tensors.items()}
    found, made = form(network, narrow)
    assert made.relative_change <= made.tolerance
    assert all(array.dtype == np.dtype(dtype) for array in found.values())


@pytest.mark.parametrize("value", [0.0, -1e-30])
def test_channels_that_a_norm_turns_off_do_not_break_the_laws(value: float) -> None:
    network, tensors = separable(4)
    tensors["na.weight"][1], tensors["ndw.weight"][3] = value, value
    for options in (FOLDED, CanonicalOptions("equalize")):
        once, made = form(network, tensors, options)
        assert made.relative_change < 1e-9
        assert distance(once, form(network, once, options)[0]) < 1e-8


def transposed(seed: int) -> tuple[Network, Tensors]:
    b = Builder(seed, [GraphInput("x", (None, 4, None, None))])
    x = b.act(b.norm(b.transposed_conv("x", "up", 6, 4, groups=2), "n", 6), "relu")
    return b.network(b.head(x, 6))


def test_transposed_convolutions_with_groups_are_folded() -> None:
    network, tensors = transposed(0)
    folded = fold_batch_norms([network], tensors, {})
    assert folded.layers == ("up.weight",)
    new = {**tensors, **folded.tensors}
    assert relative_change(outputs(network, tensors, 0), outputs(folded.networks[0], new, 0)) < 1e-12


def _edited(edit: Callable[[Op], Op]) -> tuple[Network, Tensors]:
    network, tensors = separable(0)
    return replace(network, graph=replace(network.graph, ops=tuple(edit(op) for op in network.graph.ops))), tensors


def _without_eps(op: Op) -> Op:
    return replace(op, attributes={}) if op.kind == "batch_norm" else op


def _read_twice() -> tuple[Network, Tensors]:
    b = Builder(0, [GraphInput("x", (None, 2, None, None))])
    x = b.conv("x", "a", 4, 2)
    x = b.act(b.op("add", [x, b.norm(x, "n", 4)]), "relu")
    return b.network(b.head(x, 4))


def _behind_an_activation() -> tuple[Network, Tensors]:
    b = Builder(0, [GraphInput("x", (None, 2, None, None))])
    return b.network(b.head(b.norm(b.act(b.conv("x", "a", 4, 2), "relu"), "n", 4), 4))


def _shared() -> tuple[Network, Tensors]:
    b = Builder(0, [GraphInput("x", (None, 4, None, None))])
    x = b.act(b.norm(b.conv("x", "a", 4, 4), "n", 4), "relu")
    x = b.op("conv", [x], {"weight": "a.weight"}, out_axis=0, in_axis=1, padding=1)
    return b.network(b.head(x, 4))


def _positions() -> tuple[Network, Tensors]:
    """(N, 4, 4): the norm's channels are axis 1, the layer's units axis 2."""
    b = Builder(0, [GraphInput("x", (None, 4, 3))])
    x = b.act(b.norm(b.linear("x", "a", 4, 3), "n", 4), "relu")
    return b.network(b.linear(x, "b", 2, 4))


@pytest.mark.parametrize(
    ("maker", "why"),
    [
        (lambda: _edited(_without_eps), "ε is not in the file"),
        (_read_twice, "something else reads"),
        (_behind_an_activation, "not stand directly behind"),
        (_shared, "shared"),
        (_positions, "may not be the units"),
    ],
)
def test_norms_that_cannot_be_folded_stay_and_are_named(maker: Callable[[], tuple[Network, Tensors]], why: str) -> None:
    network, tensors = maker()
    folded = fold_batch_norms([network], tensors, {})
    assert folded.tensors == {}
    assert folded.networks[0].graph == network.graph
    assert any(why in note for note in folded.notes)


def test_relu6_keeps_its_ranges_and_says_so() -> None:
    network, tensors = separable(2, "relu6")
    found, made = form(network, tensors, replace(FOLDED, order=False, sign=False))
    expected = fold_batch_norms([network], tensors, {}).tensors
    assert all(np.allclose(np.abs(found[name]), np.abs(array)) for name, array in expected.items())
    assert made.notes == ("relu6 has no scale freedom: the units of a, dw, c keep their ranges",)
    assert form(*separable(2))[1].notes == ()
