"""The compiled convolution and the one by patches agree with PyTorch's, forward and backward."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from nfn_cli.zoo import batched_convolution
from nfn_cli.zoo.batched_convolution import convolve
from nfn_cli.zoo.layer_end import FUNCTIONS
from nfn_cli.zoo.native_convolution import native_convolution
from nfn_cli.zoo.native_library import native_library

SHAPES = [  # height, width, in, out, kernel, stride, all networks read the same
    (9, 7, 8, 24, 3, 2, False),
    (5, 6, 16, 8, 3, 1, False),
    (8, 8, 16, 40, 1, 2, False),
    (7, 7, 24, 16, 1, 1, False),
    (2, 1, 8, 8, 3, 2, False),
    (12, 12, 1, 16, 3, 2, True),
    (10, 11, 3, 8, 3, 1, True),
]


def residual(shape: tuple[int, int, int, int, int, int, bool], activation: str, wrong: float = 1.0) -> float:
    """Largest error of output and gradients, relative to each one's largest entry."""
    height, width, incoming, outgoing, size, stride, shared = shape
    models, images = 3, 2
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1 if shared else models, images, height, width, incoming, generator=generator)
    kernel = 0.3 * torch.randn(models, size, size, incoming, outgoing, generator=generator)
    bias = torch.randn(models, outgoing, generator=generator)
    inputs = [x.requires_grad_(not shared), kernel.requires_grad_(), bias.requires_grad_()]
    out = convolve(*inputs, stride, activation)
    upstream = torch.randn(out.shape, generator=generator)
    found = [out, *torch.autograd.grad(out, [v for v in inputs if v.requires_grad], upstream)]

    exact = [v.detach().double().requires_grad_(v.requires_grad) for v in inputs]
    parts = []
    for model in range(models):
        image = exact[0][0 if shared else model].permute(0, 3, 1, 2)
        weight = exact[1][model].permute(3, 2, 0, 1) * wrong
        y = functional.conv2d(image, weight, exact[2][model], stride, size // 2)
        parts.append(FUNCTIONS[activation](y).permute(0, 2, 3, 1))
    expected = [torch.stack(parts)]
    expected += torch.autograd.grad(expected[0], [v for v in exact if v.requires_grad], upstream.double())
    return max(float(((a - b).abs().max() / b.abs().max()).detach()) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", ["identity", "relu", "leaky_relu", "tanh", "gelu"])
def test_compiled_convolution(shape: tuple[int, int, int, int, int, int, bool], activation: str) -> None:
    if native_convolution() is None:
        pytest.skip("no C compiler on this machine")
    assert residual(shape, activation) < 1e-5


@pytest.mark.parametrize("shape", SHAPES)
def test_convolution_by_patches(
    shape: tuple[int, int, int, int, int, int, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batched_convolution, "native_convolution", lambda: None)
    assert residual(shape, "gelu") < 1e-5


def test_the_comparison_notices_a_kernel_that_is_a_thousandth_off() -> None:
    assert residual(SHAPES[0], "relu", wrong=1.001) > 1e-4


def test_without_a_compiler_the_work_is_done_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    caches = (native_library, native_convolution)
    for cache in caches:
        cache.cache_clear()
    monkeypatch.setenv("CC", "no-such-compiler")
    try:
        assert native_convolution() is None
        assert residual(SHAPES[0], "relu") < 1e-5
    finally:
        for cache in caches:
            cache.cache_clear()
