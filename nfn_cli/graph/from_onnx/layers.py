"""graph/from_onnx/layers.py: ONNX nodes with weights: matrix products and convolutions."""

from __future__ import annotations

from math import prod
from typing import Any

from nfn_cli.graph.from_onnx.capture import Capture, DoesNotFit, Entry, Untranslated, Value, View, broadcast
from nfn_cli.graph.from_onnx.registry import Call, ints, translates
from nfn_cli.graph.from_onnx.windows import dilated, transposed_sides, window_sides


@translates("MatMul")
def _matmul(call: Call) -> Value:
    return _product(call.c, call[0], call[1])


def _product(c: Capture, x: Entry, y: Entry) -> Value:
    if not x.shape or len(y.shape) < 2:
        raise Untranslated
    if x.shape[-1] != y.shape[-2]:
        raise DoesNotFit
    if isinstance(x, Value) and _is_matrix(c, y):
        return _linear(c, x, y, 1)  # one observation without a batch axis too
    if len(x.shape) < 2:
        raise Untranslated
    if isinstance(y, Value) and _is_matrix(c, x):
        turned = [*range(len(y.shape) - 2), len(y.shape) - 1, len(y.shape) - 2]
        out: Value = c.permute(_linear(c, c.permute(y, turned), x, 0), turned)
        return out
    shape = [*broadcast(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1]]
    return c.op("matmul", (x, y), shape, shape=shape)


def _is_matrix(c: Capture, entry: Entry) -> bool:
    """Whether it is a tensor of two axes, one way round or the other."""
    return (
        isinstance(entry, View)
        and len(c.tensors[entry.tensor].shape) == 2
        and sorted(map(str, entry.axes))
        == [
            "0",
            "1",
        ]
    )


def _linear(c: Capture, x: Value, weight: Entry, out: int, bias: str | None = None) -> Value:
    """x along its last axis times a matrix whose axis `out`, as seen, counts the units made."""
    assert isinstance(weight, View)
    if x.shape[-1] != weight.shape[1 - out]:
        raise DoesNotFit
    roles = {"weight": weight.tensor} | ({"bias": bias} if bias else {})
    made, read = weight.axes[out], weight.axes[1 - out]
    return c.op("linear", (x,), (*x.shape[:-1], weight.shape[out]), roles, out_axis=made, in_axis=read)


@translates("Gemm")
def _gemm(call: Call) -> Value:
    """alpha · A · B + beta · C."""
    c, bias = call.c, call.get(2)
    alpha, beta = float(call.attribute("alpha", 1.0)), float(call.attribute("beta", 1.0))
    a = c.permute(call[0], [1, 0]) if call.attribute("transA", 0) else call[0]
    b = c.permute(call[1], [1, 0]) if call.attribute("transB", 0) else call[1]
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise DoesNotFit
    if bias is None or beta == 0.0:
        return c.scalar(_product(c, a, b), alpha)
    if isinstance(a, Value) and _is_matrix(c, b) and alpha == beta and _is_bias(c, bias, b.shape[1]):
        assert isinstance(bias, View)
        return c.scalar(_linear(c, a, b, 1, bias.tensor), alpha)
    return c.add(c.scalar(_product(c, a, b), alpha), c.scalar(bias, beta) if beta != 1.0 else bias)


def _is_bias(c: Capture, entry: Entry | None, units: int) -> bool:
    """A tensor of one entry for each unit, along its last axis as seen."""
    return (
        isinstance(entry, View)
        and entry.shape[-1:] == (units,)
        and prod(entry.shape) == units
        and len(c.tensors[entry.tensor].shape) > 0
    )


@translates("Conv")
def _conv(call: Call) -> Value:
    c, x, weight = call.c, call.c.value(call[0]), call[1]
    spatial, groups = len(weight.shape) - 2, int(call.attribute("group", 1))
    if spatial < 1 or len(x.shape) != spatial + 2:
        raise DoesNotFit
    if groups < 1 or x.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups:
        raise DoesNotFit
    kernel, stride = list(weight.shape[2:]), ints(call.attribute("strides", 1), spatial)
    dilation = ints(call.attribute("dilations", 1), spatial)
    before, after = window_sides(call, x.shape[2:], dilated(kernel, dilation), stride)
    padding = before
    if before != after:
        x, padding = c.pad(x, [0, 0, *before], [0, 0, *after]), [0] * spatial
        before = after = padding
    size = [
        (n + b + a - k) // s + 1
        for n, b, a, k, s in zip(x.shape[2:], before, after, dilated(kernel, dilation), stride, strict=True)
    ]
    attributes: dict[str, Any] = {"stride": stride, "padding": padding, "size": size}
    if any(d != 1 for d in dilation):
        attributes["dilation"] = dilation
    return _emit(call, x, weight, 0, groups, [x.shape[0], weight.shape[0], *size], attributes)


@translates("ConvTranspose")
def _conv_transpose(call: Call) -> Value:
    c, x, weight = call.c, call.c.value(call[0]), call[1]
    spatial, groups = len(weight.shape) - 2, int(call.attribute("group", 1))
    if spatial < 1 or len(x.shape) != spatial + 2 or groups < 1 or x.shape[1] != weight.shape[0]:
        raise DoesNotFit
    if any(d != 1 for d in ints(call.attribute("dilations", 1), spatial)):
        raise Untranslated
    kernel, stride = list(weight.shape[2:]), ints(call.attribute("strides", 1), spatial)
    before, after = transposed_sides(call, x.shape[2:], kernel, stride)
    even = before == after and min(before) >= 0
    padding = before if even else [0] * spatial
    size = [(n - 1) * s + k - 2 * p for n, s, k, p in zip(x.shape[2:], stride, kernel, padding, strict=True)]
    shape = [x.shape[0], weight.shape[1] * groups, *size]
    attributes: dict[str, Any] = {"stride": stride, "padding": padding, "size": size, "transposed": True}
    if even:
        return _emit(call, x, weight, 1, groups, shape, attributes)
    # uneven sides are cut off (or put on) afterwards, and the bias is added to what was put on, too
    out = _emit(call, x, weight, 1, groups, shape, attributes, with_bias=False)
    out = c.pad(out, [0, 0, *(-n for n in before)], [0, 0, *(-n for n in after)])
    bias = call.get(2)
    return out if bias is None else c.add(out, c.reshape(bias, [1, shape[1], *([1] * spatial)]))


def _emit(
    call: Call,
    x: Value,
    weight: Entry,
    out: int,
    groups: int,
    shape: list[int],
    attributes: dict[str, Any],
    with_bias: bool = True,
) -> Value:
    """The convolution; a weight that is no tensor of the file is a second input."""
    c, bias = call.c, call.get(2) if with_bias else None
    if groups != 1:
        attributes["groups"] = groups
    inputs, roles = [x], {}
    axes = _kernel_axes(c, weight, out)
    if axes is not None and isinstance(weight, View):
        roles["weight"] = weight.tensor
        attributes["out_axis"], attributes["in_axis"] = axes
    else:
        inputs.append(c.value(weight))
        attributes["out_axis"], attributes["in_axis"] = out, 1 - out
    name = c.plain(bias)
    late = bias
    if name is not None and bias is not None and tuple(bias.shape) == (shape[1],):
        roles["bias"], late = name, None
    made = c.op("conv", inputs, shape, roles, **attributes)
    if late is None:
        return made
    return c.add(made, c.reshape(late, [1, shape[1], *([1] * (len(shape) - 2))]))


def _kernel_axes(c: Capture, weight: Entry, out: int) -> tuple[int, int] | None:
    """Axes of the tensor that count outputs and inputs; None unless the others are the kernel's in order."""
    if not isinstance(weight, View) or None in weight.axes or len(weight.axes) != c.tensors[weight.tensor].ndim:
        return None
    axes = [axis for axis in weight.axes if axis is not None]
    return (axes[out], axes[1 - out]) if axes[2:] == sorted(axes[2:]) else None
