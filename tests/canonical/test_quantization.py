"""Rounding weights to integers: its formulas, and what the equalized form does for it."""

from __future__ import annotations

import numpy as np
import pytest

from nfn_cli.canonical.quantization import channels_first, quality, quantized
from nfn_cli.canonical.quantization_report import forms_of, qualities
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.graph.model import Network

from ..symmetry.networks import Tensors, cnn, mlp, residual
from .test_equalize import rescaled, separable

MAKERS = {"mlp": lambda s: mlp(s, "relu", (8, 40, 40, 5)), "cnn": lambda s: cnn(s, "relu")}
MAKERS |= {"residual": lambda s: residual(s, "relu"), "separable": separable}


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_rounded_weights_take_few_values_and_lie_half_a_step_away(bits: int) -> None:
    weight = np.random.default_rng(0).standard_normal((50, 60))
    found = quantized(weight, bits)
    step = np.abs(weight).max() / (2 ** (bits - 1) - 1)
    assert len(np.unique(found)) <= 2**bits - 1
    assert np.abs(found - weight).max() <= step / 2 * (1 + 1e-9)
    assert np.abs(found).max() == pytest.approx(np.abs(weight).max())
    assert np.array_equal(quantized(-weight, bits), -found)


def test_quality_is_the_plain_formula() -> None:
    weight = np.random.default_rng(1).standard_normal((7, 300)) * np.logspace(-2, 0, 7)[:, None]
    found, noise = quality(weight, 8), quantized(weight, 8) - weight
    assert found.snr_db == pytest.approx(10 * np.log10((weight**2).sum() / (noise**2).sum()))
    assert found.channel_snr_db == pytest.approx(10 * np.log10((weight**2).sum(1) / (noise**2).sum(1)))
    each = np.stack([quantized(row, 8) for row in weight])
    assert found.snr_db_per_channel == pytest.approx(10 * np.log10((weight**2).sum() / ((each - weight) ** 2).sum()))
    assert found.range_use == pytest.approx(np.abs(weight).max(1) / np.abs(weight).max())


def test_small_weights_zeros_and_exact_ones() -> None:
    weight = np.random.default_rng(2).standard_normal((3, 50)).astype(np.float32)
    assert quality(weight * np.float32(1e-25), 8).snr_db == pytest.approx(quality(weight, 8).snr_db, abs=0.1)
    assert np.isnan(quality(np.zeros((2, 3)), 8).snr_db)
    assert quality(np.array([[127.0, -3.0]]), 8).snr_db == np.inf
    assert np.array_equal(quantized(np.zeros((2, 3)), 8), np.zeros((2, 3)))


def test_channels_of_a_transposed_convolution_with_groups() -> None:
    weight = np.arange(4 * 3 * 2).reshape(4, 3, 2)  # 2 groups of 2 inputs, 3 outputs each
    found = channels_first(weight, 1, groups=2)
    assert found.shape == (6, 4)
    assert np.array_equal(found[4], weight[2:, 1].reshape(-1))


def mean_decibels(network: Network, tensors: Tensors) -> dict[str, float]:
    checkpoint = Checkpoint("network", "npz", tensors)
    (found,) = qualities(forms_of(checkpoint, [network]), [network], {}, 8)
    forms = found.weights[0][1]
    return {form: float(np.mean([by_form[form].snr_db for _, by_form in found.weights])) for form in forms}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_rescaling_ruins_the_file_and_not_the_equalized_form(kind: str) -> None:
    for seed in range(3):
        network, tensors = MAKERS[kind](seed)
        plain, moved = mean_decibels(network, tensors), mean_decibels(network, rescaled(network, tensors, seed))
        for form in ("balanced", "equalize", "equalize-folded"):
            assert moved[form] == pytest.approx(plain[form], abs=1e-3)
        assert moved["as-is"] < moved["equalize"] - 1
        assert moved["as-is"] < moved["equalize-folded"] - 1


def test_the_report_keeps_the_order_of_channels() -> None:
    network, tensors = mlp(0, "relu", (8, 40, 40, 5))
    forms = forms_of(Checkpoint("network", "npz", tensors), [network])
    ratio = np.asarray(forms[2].tensors["layers.0.weight"]) / tensors["layers.0.weight"]
    assert np.allclose(ratio, ratio[:, :1])
    assert (ratio > 0).all()
