"""What is drawn: reproducible, within its ranges, and as various as promised."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nfn_cli.zoo.population import (
    ACTIVATIONS_OF,
    LARGEST_COST,
    LEARNING_RATES,
    TRAIN_FRACTIONS,
    Architecture,
    ConvLayer,
    ImageShape,
    Settings,
    draw_group,
    draw_settings,
    initial_tensors,
)
from tests.zoo.making import BOTH, PLAIN, settings

CIFAR = ImageShape(1, 32, 32, 10)


def groups(kind: str, count: int) -> list[tuple[Architecture, Settings]]:
    return [draw_group(kind, CIFAR, ACTIVATIONS_OF[kind], 4, seed=3, index=index) for index in range(count)]


def test_a_group_is_drawn_from_its_seed_and_number_alone() -> None:
    first, again = (draw_group("heterogeneous", CIFAR, ("relu",), 4, 3, 17) for _ in range(2))
    assert first[0] == again[0]
    np.testing.assert_array_equal(first[1].learning_rate, again[1].learning_rate)
    for seed, index in ((4, 17), (3, 18)):
        other = draw_group("heterogeneous", CIFAR, ("relu",), 4, seed, index)
        assert not np.array_equal(other[1].learning_rate, first[1].learning_rate)


def test_the_small_cnn_is_that_of_the_shared_zoo() -> None:
    architecture, _ = groups("small-cnn", 1)[0]
    assert sum(int(np.prod(shape)) for shape in architecture.tensor_shapes().values()) == 4970
    assert architecture.layers == (ConvLayer(16, 2),) * 3
    assert {a.activation for a, _ in groups("small-cnn", 2)} == {"relu", "tanh"}


def test_a_heterogeneous_population_spans_what_it_promises() -> None:
    drawn = [architecture for architecture, _ in groups("heterogeneous", 300)]
    widths = {layer.width for architecture in drawn for layer in architecture.layers}
    assert {len(architecture.layers) for architecture in drawn} == {2, 3, 4, 5, 6}
    assert min(widths) == 8
    assert max(widths) == 64
    assert {a.activation for a in drawn} == set(ACTIVATIONS_OF["heterogeneous"])
    assert {(a.batch_norm, a.residual) for a in drawn} == {(n, r) for n in (False, True) for r in (False, True)}
    assert max(architecture.cost for architecture in drawn) <= LARGEST_COST
    projections = [a.has_projection(i) for a in drawn if a.residual for i in range(1, len(a.layers))]
    assert set(projections) == {False, True}


def test_hyper_parameters_keep_to_their_ranges() -> None:
    drawn = draw_settings(np.random.default_rng(0), 4000)
    for name, (low, high) in LEARNING_RATES.items():
        rates = drawn.learning_rate[drawn.optimizer == name]
        assert len(rates) > 1000
        assert low <= rates.min() < 1.05 * low
        assert high / 1.05 < rates.max() <= high
        assert np.log(rates).mean() == pytest.approx(np.log([low, high]).mean(), abs=0.15)
    assert (drawn.dropout == 0).mean() == pytest.approx(0.4, abs=0.03)
    assert 0.68 < drawn.dropout.max() < 0.7
    assert 1e-8 <= drawn.l2reg.min() < drawn.l2reg.max() <= 1e-2
    assert {settings_.train_fraction for _, settings_ in groups("small-cnn", 40)} == set(TRAIN_FRACTIONS)


@pytest.mark.parametrize(
    ("kind", "spread"), [("normal", 0.25), ("he_normal", np.sqrt(2 / 144)), ("glorot_normal", np.sqrt(2 / 288))]
)
def test_weights_start_with_the_spread_of_their_rule(kind: str, spread: float) -> None:
    architecture = replace(PLAIN, layers=(ConvLayer(16, 2), ConvLayer(16, 1)))
    chosen = settings(8, w_init=[kind] * 8, init_std=[0.25] * 8, b_init=["normal"] * 4 + ["zeros"] * 4)
    tensors = initial_tensors(architecture, chosen, np.random.default_rng(0))
    assert tensors["convs.1.weight"].std() == pytest.approx(spread, rel=0.03)
    assert tensors["convs.1.bias"][:4].std() == pytest.approx(0.05, rel=0.3)
    assert not tensors["convs.1.bias"][4:].any()


def test_orthogonal_weights_are_orthogonal_and_norms_start_as_the_identity() -> None:
    tensors = initial_tensors(BOTH, settings(1, w_init=["orthogonal"]), np.random.default_rng(0))
    wide = tensors["convs.1.weight"][0].reshape(8, -1)
    np.testing.assert_allclose(wide @ wide.T, np.eye(8), atol=1e-6)
    tall = tensors["convs.0.weight"][0].reshape(8, 9)
    np.testing.assert_allclose(tall @ tall.T, np.eye(8), atol=1e-6)
    assert (tensors["norms.0.weight"] == 1).all()
    assert not tensors["norms.0.bias"].any()
