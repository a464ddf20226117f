"""graph/from_onnx/windows.py: windows that slide: how they are padded on both sides, and the pools made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nfn_cli.graph.from_onnx.capture import DoesNotFit, Untranslated, Value
from nfn_cli.graph.from_onnx.registry import Call, ints, translates


def dilated(kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """Positions that a window spans."""
    return [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]


def window_sides(
    call: Call, size: Sequence[int], span: Sequence[int], stride: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Padding before and after each spatial axis, from `pads` or `auto_pad`."""
    count, auto = len(size), call.attribute("auto_pad", "NOTSET")
    if min((*span, *stride)) < 1:
        raise DoesNotFit
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        total = [max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in zip(size, span, stride, strict=True)]
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        return (less, more) if auto == "SAME_UPPER" else (more, less)
    pads = ints(call.attribute("pads", 0), 2 * count) if auto == "NOTSET" else [0] * (2 * count)
    if min(pads) < 0:
        raise Untranslated
    return pads[:count], pads[count:]


def transposed_sides(
    call: Call, size: Sequence[int], kernel: Sequence[int], stride: Sequence[int]
) -> tuple[list[int], list[int]]:
    """What is cut off before and after each spatial axis of the full result; negative where entries are put on."""
    count, auto = len(size), call.attribute("auto_pad", "NOTSET")
    extra = ints(call.attribute("output_padding", 0), count)
    wanted = call.attribute("output_shape", None)
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = [n * s for n, s in zip(size, stride, strict=True)]
    if wanted is not None:
        wanted = ints(list(wanted)[-count:], count)
        total = [
            max(0, (n - 1) * s + e + k - w) for n, s, e, k, w in zip(size, stride, extra, kernel, wanted, strict=True)
        ]
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        before, after = (less, more) if auto == "SAME_UPPER" else (more, less)
    else:
        pads = ints(call.attribute("pads", 0), 2 * count) if auto == "NOTSET" else [0] * (2 * count)
        before, after = pads[:count], pads[count:]
    return before, [a - e for a, e in zip(after, extra, strict=True)]


def _pool_windows(call: Call) -> tuple[list[int], list[int], list[int], list[int], list[int], list[int]]:
    """kernel, stride, dilation, before, after, size of the result."""
    spatial = len(call.shape) - 2
    if spatial < 1:
        raise Untranslated
    kernel = ints(call.attribute("kernel_shape", None) or [], spatial)
    stride = ints(call.attribute("strides", 1), spatial)
    dilation = ints(call.attribute("dilations", 1), spatial)
    span = dilated(kernel, dilation)
    before, after = window_sides(call, call.shape[2:], span, stride)
    size = []
    for n, b, a, k, s in zip(call.shape[2:], before, after, span, stride, strict=True):
        room = n + b + a - k
        count = (-(-room // s) if call.attribute("ceil_mode", 0) else room // s) + 1
        if call.attribute("ceil_mode", 0) and (count - 1) * s >= n + b:
            count -= 1  # the last window must start inside the input or its first padding
        if room < 0 or count < 1:
            raise DoesNotFit
        if max(a, b) >= k:
            raise Untranslated  # some windows would see nothing
        size.append(count)
    return kernel, stride, dilation, before, after, size


@translates("MaxPool")
def _max_pool(call: Call) -> Value:
    """Windows that leave the input on one side only: pad evenly, so that they still fall on the grid, and cut."""
    c, x = call.c, call.c.value(call[0])
    if len(call.node.outputs) > 1 and call.node.outputs[1]:
        raise Untranslated
    kernel, stride, dilation, before, _, size = _pool_windows(call)
    span = dilated(kernel, dilation)
    padding, skipped, full = [], [], []
    for n, b, k, s, count in zip(x.shape[2:], before, span, stride, size, strict=True):
        even = b
        while (n + 2 * even - k) // s + 1 < count + (even - b) // s:
            even += s
        padding.append(even)
        skipped.append((even - b) // s)
        full.append((n + 2 * even - k) // s + 1)
    extra: dict[str, Any] = {"dilation": dilation} if any(d != 1 for d in dilation) else {}
    out = c.op(
        "max_pool",
        (x,),
        [*x.shape[:2], *full],
        kernel=kernel,
        stride=stride,
        padding=padding,
        size=full,
        **extra,
    )
    for axis, (start, count) in enumerate(zip(skipped, size, strict=True), start=2):
        out = c.slice(out, axis, start, start + count)
    return out


@translates("AveragePool")
def _average_pool(call: Call) -> Value:
    """Where the divisor changes at the border in a way of its own: plain averages of zeros and entries, corrected."""
    c, x = call.c, call.c.value(call[0])
    kernel, stride, dilation, before, after, size = _pool_windows(call)
    if any(d != 1 for d in dilation):
        raise Untranslated
    counted = bool(call.attribute("count_include_pad", 0))
    spans = [(count - 1) * s + k for count, s, k in zip(size, stride, kernel, strict=True)]
    inside = all(n + b + a >= span for n, b, a, span in zip(x.shape[2:], before, after, spans, strict=True))
    if before == after and inside:
        extra: dict[str, Any] = {} if counted or not any(before) else {"count_padding": False}
        return c.op(
            "average_pool",
            (x,),
            [*x.shape[:2], *size],
            kernel=kernel,
            stride=stride,
            padding=before,
            size=size,
            **extra,
        )
    beyond = [max(a, span - n - b) for n, b, a, span in zip(x.shape[2:], before, after, spans, strict=True)]
    factors = []
    for n, b, a, k, s, count in zip(x.shape[2:], before, after, kernel, stride, size, strict=True):
        starts = np.arange(count) * s - b
        low, high = (-b, n + a) if counted else (0, n)
        covered = np.minimum(starts + k, high) - np.maximum(starts, low)
        if covered.min() < 1:
            raise Untranslated
        factors.append(k / covered)
    out = c.pad(x, [0, 0, *before], [0, 0, *beyond])
    zero = [0] * len(kernel)
    out = c.op("average_pool", (out,), [*x.shape[:2], *size], kernel=kernel, stride=stride, padding=zero, size=size)
    for axis, factor in enumerate(factors, start=2):
        if (factor != 1).any():
            out = c.mul(out, factor.reshape([-1 if axis == p else 1 for p in range(len(out.shape))]))
    return out


@translates("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(call: Call) -> Value:
    x = call.c.value(call[0])
    size = [1] * (len(x.shape) - 2)
    if not size:
        raise Untranslated
    statistic = "average" if call.node.kind == "GlobalAveragePool" else "max"
    return call.c.op("pool", (x,), [*x.shape[:2], *size], size=size, statistic=statistic)
