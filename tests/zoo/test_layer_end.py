"""Batch norm, shortcut and activation in their compiled form agree with PyTorch in float64, forward and backward."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from nfn_cli.zoo import layer_end
from nfn_cli.zoo.layer_end import FUNCTIONS, Norm, end_layer
from nfn_cli.zoo.native_layer_end import native_layer_end

SHAPE = (3, 4, 5, 7, 16)  # 140 rows: more than two blocks of sums, and a rest


def residual(normed: bool, shortcut: bool, activation: str, wrong: float = 0.0) -> float:
    """Largest error of output, statistics and gradients, relative to each one's largest entry."""
    generator = torch.Generator().manual_seed(0)
    y = 3.0 * torch.randn(SHAPE, generator=generator) + 1.0
    around = torch.randn(SHAPE, generator=generator)
    gamma, beta = torch.randn(2, 3, 16, generator=generator)
    upstream = torch.randn(SHAPE, generator=generator)
    found = []
    for dtype in (torch.float32, torch.float64):  # the compiled form takes float32 only
        given = [value.to(dtype).requires_grad_() for value in (y, around, gamma, beta)]
        norm = Norm(given[2] + (wrong if dtype == torch.float64 else 0.0), given[3]) if normed else None
        out, used = end_layer(given[0], norm, given[1] if shortcut else None, activation)
        moved = [given[0], *given[1:2] * shortcut, *given[2:] * normed]
        found.append([out, *(used or ()), *torch.autograd.grad(out, moved, upstream.to(dtype))])
    return max(float(((a - b).abs().max() / b.abs().max()).detach()) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(("normed", "shortcut", "activation"), list(product((True, False), (True, False), FUNCTIONS)))
def test_compiled_layer_end(normed: bool, shortcut: bool, activation: str) -> None:
    if native_layer_end() is None:
        pytest.skip("no C compiler on this machine")
    assert residual(normed, shortcut, activation) < 1e-5


def test_the_comparison_notices_a_gamma_that_is_off() -> None:
    assert residual(True, True, "silu", wrong=1e-3) > 1e-4


@pytest.mark.parametrize("activation", FUNCTIONS)
def test_given_statistics_are_used_in_evaluation(activation: str) -> None:
    generator = torch.Generator().manual_seed(0)
    y, around = torch.randn(2, *SHAPE, generator=generator)
    gamma, beta, mean, variance = torch.rand(4, 3, 16, generator=generator)
    with torch.no_grad():
        out, used = end_layer(y, Norm(gamma, beta, (mean, variance)), around, activation)
        scale = gamma / torch.sqrt(variance + 1e-5)
        z = y * scale[:, None, None, None] + (beta - mean * scale)[:, None, None, None] + around
        torch.testing.assert_close(out, FUNCTIONS[activation](z), rtol=1e-5, atol=1e-5)
    assert used is not None
    assert torch.equal(used[0], mean)


def test_activations_far_out_and_near_zero() -> None:
    """Over the range that training meets, overflow of the exponential included; float64 is the judge."""
    near = torch.logspace(-30, 2.5, 400)
    values = torch.cat([near, -near, torch.zeros(8), torch.linspace(-12, 12, 4000)])
    for activation, function in FUNCTIONS.items():
        out, _ = end_layer(values.view(1, 1, 1, -1, 8), None, None, activation)
        torch.testing.assert_close(out.view(-1).double(), function(values.double()), rtol=2e-6, atol=4e-7)


def test_what_is_not_a_number_stays_in_its_network(monkeypatch: pytest.MonkeyPatch) -> None:
    y = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))
    clean, _ = end_layer(y, Norm(torch.ones(3, 16), torch.zeros(3, 16)), None, "tanh")
    y[1, 0, 0, 0, 0] = float("nan")
    for form in ("compiled", "torch"):
        if form == "torch":
            monkeypatch.setattr(layer_end, "native_layer_end", lambda: None)
        out, used = end_layer(y, Norm(torch.ones(3, 16), torch.zeros(3, 16)), None, "tanh")
        torch.testing.assert_close(out[[0, 2]], clean[[0, 2]])
        assert used is not None
        assert not torch.isfinite(used[0][1]).all()
