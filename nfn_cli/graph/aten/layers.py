"""graph/aten/layers.py: linear layers, convolutions, pooling, resizing, attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nfn_cli.graph.aten.arithmetic import add, matmul, softmax
from nfn_cli.graph.aten.capture import Capture, Shape
from nfn_cli.graph.aten.registry import Untranslated, ints, translates


@translates("linear")
def _linear(c: Capture, out: Shape, x: Any, weight: Any, bias: Any = None) -> Any:
    if not c.is_plain(weight) or (bias is not None and not c.is_plain(bias)):
        raise Untranslated
    roles = {"weight": weight.tensor} | ({"bias": bias.tensor} if bias is not None else {})
    return c.op("linear", (x,), (*x.shape[:-1], weight.shape[0]), roles, out_axis=0, in_axis=1)


@translates("conv1d", "conv2d", "conv3d")
def _conv(
    c: Capture, out: Shape, x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Any:  # fmt: skip
    spatial = len(weight.shape) - 2
    steps = ints(dilation, spatial)
    if isinstance(padding, str):
        padding = _named_padding(padding, weight.shape[2:], steps)
    where = {"out_axis": 0, "in_axis": 1, "stride": ints(stride, spatial), "padding": ints(padding, spatial)}
    return _convolution(c, out, x, weight, bias, where | _unless_one(dilation=steps), groups)


@translates("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _conv_transpose(
    c: Capture, out: Shape, x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Any:  # fmt: skip
    spatial = len(weight.shape) - 2
    if any(n != 0 for n in ints(output_padding, spatial)) or any(n != 1 for n in ints(dilation, spatial)):
        raise Untranslated
    where = {"out_axis": 1, "in_axis": 0, "stride": ints(stride, spatial), "padding": ints(padding, spatial)}
    return _convolution(c, out, x, weight, bias, where | {"transposed": True}, groups)


def _convolution(c: Capture, out: Shape, x: Any, weight: Any, bias: Any, where: dict[str, Any], groups: int) -> Any:
    """A weight or a bias that is computed cannot be named: the weight is another input, the bias is added behind."""
    attributes = where | ({"groups": groups} if groups != 1 else {})
    inputs, roles = [x], {}
    if c.is_plain(weight):
        roles["weight"] = weight.tensor
        if not weight.trained:
            attributes["trained"] = False
    else:
        inputs.append(weight)
    named = bias is not None and c.is_plain(bias)
    if named:
        roles["bias"] = bias.tensor
    made = c.op("conv", inputs, out, roles, **attributes, size=list(out[2:]))
    if bias is None or named:
        return made
    return add(c, made, c.reshape(bias, [1, made.shape[1], *([1] * (len(out) - 2))]))


def _named_padding(name: str, kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """An even kernel would need more on one side than on the other."""
    if name != "valid" and any(k % 2 == 0 for k in kernel):
        raise Untranslated
    return [0 if name == "valid" else d * (k - 1) // 2 for k, d in zip(kernel, dilation, strict=True)]


def _unless_one(**steps: list[int]) -> dict[str, Any]:
    return {name: values for name, values in steps.items() if any(n != 1 for n in values)}


def _window(x: Any, kernel: Any, stride: Any, padding: Any) -> dict[str, Any]:
    spatial = len(x.shape) - 2
    kernel = ints(kernel, spatial)
    return {
        "kernel": kernel,
        "stride": ints(stride, spatial) if stride else kernel,
        "padding": ints(padding, spatial),
    }


@translates("max_pool1d", "max_pool2d", "max_pool3d")
def _max_pool(
    c: Capture, out: Shape, x: Any, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, ceil: bool = False
) -> Any:  # fmt: skip
    extra = _unless_one(dilation=ints(dilation, len(x.shape) - 2)) | ({"ceil": True} if ceil else {})
    return c.op("max_pool", (x,), out, **_window(x, kernel, stride, padding), size=list(out[2:]), **extra)


@translates("avg_pool1d", "avg_pool2d", "avg_pool3d")
def _average_pool(
    c: Capture, out: Shape, x: Any, kernel: Any, stride: Any = (), padding: Any = 0, ceil: bool = False,
    count: bool = True, divisor: Any = None,
) -> Any:  # fmt: skip
    if divisor is not None:
        raise Untranslated
    extra = ({"ceil": True} if ceil else {}) | ({} if count else {"count_padding": False})
    return c.op("average_pool", (x,), out, **_window(x, kernel, stride, padding), size=list(out[2:]), **extra)


def _adaptive_pool(aten: str, statistic: str) -> None:
    @translates(*(f"adaptive_{aten}_pool{d}d" for d in (1, 2, 3)))
    def translation(c: Capture, out: Shape, x: Any, size: Any) -> Any:
        return c.op("pool", (x,), out, size=list(out[2:]), statistic=statistic)


_adaptive_pool("avg", "average")
_adaptive_pool("max", "max")


@translates("upsample_nearest2d")
def _nearest(c: Capture, out: Shape, x: Any, *_: Any) -> Any:
    return c.op("resize", (x,), out, size=list(out[2:]), mode="nearest")


@translates("upsample_bilinear2d")
def _linear_resize(c: Capture, out: Shape, x: Any, size: Any, corners: bool, *_: Any) -> Any:
    extra = {"align_corners": True} if corners else {}
    return c.op("resize", (x,), out, size=list(out[2:]), mode="linear", **extra)


@translates("scaled_dot_product_attention")
def _attention(
    c: Capture, out: Shape, q: Any, k: Any, v: Any, mask: Any = None, dropout: float = 0.0, causal: bool = False,
    scale: float | None = None, **_: Any,
) -> Any:  # fmt: skip
    if mask is not None or causal:
        raise Untranslated
    rank = len(k.shape)
    turned = c.permute(k, [*range(rank - 2), rank - 1, rank - 2])
    factor = scale if scale is not None else q.shape[-1] ** -0.5
    scores = matmul(c, c.scalar(q, factor), turned)
    return matmul(c, softmax(c, scores.shape, scores, -1), v)
