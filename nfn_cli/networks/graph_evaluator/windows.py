"""networks/graph_evaluator/windows.py: ops that look at windows or bins of positions: pooling, filters, resizing. Torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Op
from nfn_cli.networks.graph_evaluator.layers import convolution
from nfn_cli.networks.graph_evaluator.registry import CODE, Parameters, along, each_axis, evaluates, mean

_MAX = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_AVERAGE = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}
_TO_SIZE: dict[tuple[str, int], Any] = {
    ("average", 1): functional.adaptive_avg_pool1d,
    ("average", 2): functional.adaptive_avg_pool2d,
    ("average", 3): functional.adaptive_avg_pool3d,
    ("max", 1): functional.adaptive_max_pool1d,
    ("max", 2): functional.adaptive_max_pool2d,
    ("max", 3): functional.adaptive_max_pool3d,
}


@dataclass(frozen=True)
class _Windows:
    """Windows over the positions of a value: one number an axis each; `count` windows, which need `extra` behind."""

    kernel: list[int]
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    count: list[int]
    extra: list[int]

    def slots(self, x: Tensor) -> list[Tensor]:
        """For each place in the kernel the values there, (N, C, *count); x is padded already."""
        places = product(*(range(k) for k in self.kernel))
        slots = [tuple(map(self._slot, place, self.dilation, self.count, self.stride)) for place in places]
        return [x[(slice(None), slice(None), *slot)] for slot in slots]

    @staticmethod
    def _slot(place: int, dilation: int, count: int, stride: int) -> slice:
        first = place * dilation
        return slice(first, first + (count - 1) * stride + 1, stride)

    def padded(self, x: Tensor, value: float) -> Tensor:
        widths = [(p, p + e) for p, e in zip(self.padding, self.extra, strict=True)]
        return functional.pad(x, [n for pair in reversed(widths) for n in pair], value=value)


def _windows(op: Op, x: Tensor) -> _Windows:
    at, rank = op.attributes, x.ndim - 2
    kernel = each_axis(at["kernel"], rank)
    stride, padding = each_axis(at.get("stride", kernel), rank), each_axis(at.get("padding", 0), rank)
    dilation = each_axis(at.get("dilation", 1), rank)
    count, extra = [], []
    for n, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        windows = (-(-room // s) if at.get("ceil") else room // s) + 1
        if at.get("ceil") and (windows - 1) * s >= n + p:
            windows -= 1  # the last window must start inside the input or its left padding
        if windows < 1:
            raise Refused("the value is smaller than the window", code=CODE)
        count.append(windows)
        extra.append(max(0, (windows - 1) * s + d * (k - 1) + 1 - n - 2 * p))
    return _Windows(kernel, stride, padding, dilation, count, extra)


@evaluates("max_pool", "average_pool")
def _pool(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    """By torch where it allows the padding and the dilation, else slot by slot of the window."""
    (x,) = inputs
    w, ceil = _windows(op, x), bool(op.attributes.get("ceil", False))
    usual = x.ndim in (3, 4, 5) and all(2 * p <= k for p, k in zip(w.padding, w.kernel, strict=True))
    if op.kind == "max_pool":
        if usual:
            return _MAX[x.ndim - 2](x, w.kernel, w.stride, w.padding, w.dilation, ceil)
        return reduce(torch.maximum, w.slots(w.padded(x, -torch.inf)))
    inside = bool(op.attributes.get("count_padding", True))
    if usual and set(w.dilation) == {1}:
        return _AVERAGE[x.ndim - 2](x, w.kernel, w.stride, w.padding, ceil, inside)
    counted = functional.pad(
        x.new_ones((1, 1, *x.shape[2:])), [p for p in reversed(w.padding) for _ in range(2)], value=float(inside)
    )
    counted = functional.pad(counted, [n for e in reversed(w.extra) for n in (0, e)])
    return reduce(torch.add, w.slots(w.padded(x, 0.0))) / reduce(torch.add, w.slots(counted))


@evaluates("pool")
def _pool_to_size(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    (x,) = inputs
    pool = _TO_SIZE.get((op.attributes.get("statistic", "unknown"), x.ndim - 2))
    if pool is None:
        raise Refused("how positions are pooled is not known", code=CODE)
    return pool(x, tuple(op.attributes["size"]))  # type: ignore[no-any-return]


@evaluates("spatial_mean")
def _spatial_mean(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    (x,) = inputs
    return mean(x, range(2, x.ndim)).reshape(x.shape[:2])


@evaluates("filter")
def _filter(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    (x,) = inputs
    kernel = torch.tensor(op.attributes["kernel"], dtype=x.dtype, device=x.device)
    weight = kernel.expand(x.shape[1], 1, *kernel.shape)
    stride, padding, dilation = (
        each_axis(op.attributes.get(name, default), kernel.ndim)
        for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))
    )
    return convolution(x, weight, None, stride, padding, dilation, x.shape[1])


@evaluates("resize")
def _resize(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    """PyTorch's `interpolate`, axis by axis, with places that are exact for every length."""
    (x,) = inputs
    for axis, target in enumerate(op.attributes["size"], start=2):
        n, places = x.shape[axis], np.arange(target)
        if op.attributes["mode"] == "nearest":
            x = _taken(x, axis, places * n // target)
            continue
        if op.attributes.get("align_corners"):
            place = places * ((n - 1) / max(1, target - 1))
        else:
            place = np.maximum((places + 0.5) * n / target - 0.5, 0.0)
        low = np.minimum(place.astype(np.int64), n - 1)
        part = along(torch.as_tensor(place - low, dtype=x.dtype, device=x.device), axis, x.ndim)
        x = torch.lerp(_taken(x, axis, low), _taken(x, axis, np.minimum(low + 1, n - 1)), part)
    return x


@evaluates("pad")
def _pad(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    """Negative amounts crop, before anything is added."""
    (x,) = inputs
    widths = list(zip(op.attributes["before"], op.attributes["after"], strict=True))
    mode = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}.get(op.attributes.get("mode", "constant"))
    if mode is None:
        flat = [int(n) for pair in reversed(widths) for n in pair]
        return functional.pad(x, flat, value=float(op.attributes.get("value", 0.0)))
    for axis, (before, after) in enumerate(widths):
        if before or after:
            kept = np.arange(max(0, -before), x.shape[axis] - max(0, -after))
            x = _taken(x, axis, np.pad(kept, (max(0, before), max(0, after)), mode=mode))  # type: ignore[call-overload]
    return x


def _taken(x: Tensor, axis: int, places: np.ndarray[Any, np.dtype[Any]]) -> Tensor:
    return x.index_select(axis, torch.as_tensor(places, device=x.device))
