"""graph/aten/layers.py: linear layers, convolutions, pooling, resizing, attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nfn_cli.graph.aten.arithmetic import add, matmul
from nfn_cli.graph.aten.capture import Capture, Shape
from nfn_cli.graph.aten.reductions import softmax
from nfn_cli.graph.aten.registry import Untranslated, ints, leaves, translates


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
    steps = ints(dilation, spatial, 1)
    if padding == "same":
        x, padding = _padded(c, x, [d * (k - 1) for k, d in zip(weight.shape[2:], steps, strict=True)])
    where = {
        "out_axis": 0,
        "in_axis": 1,
        "stride": ints(stride, spatial, 1),
        "padding": ints(0 if padding == "valid" else padding, spatial),
    }
    return _convolved(c, out, x, weight, bias, where | _unless_one(dilation=steps), groups)


@translates("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def _conv_transpose(
    c: Capture, out: Shape, x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Any:  # fmt: skip
    spatial = len(weight.shape) - 2
    where = {"out_axis": 1, "in_axis": 0, "stride": ints(stride, spatial, 1), "padding": ints(padding, spatial)}
    extra: dict[str, Any] = {"transposed": True} | _unless_one(dilation=ints(dilation, spatial, 1))
    if any(ints(output_padding, spatial)):
        extra["output_padding"] = ints(output_padding, spatial)
    return _convolved(c, out, x, weight, bias, where | extra, groups)


@translates("convolution", "_convolution")
def _convolution(
    c: Capture, out: Shape, x: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int, *_: Any,
) -> Any:  # fmt: skip
    if transposed:
        return _conv_transpose(c, out, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return _conv(c, out, x, weight, bias, stride, padding, dilation, groups)


def _convolved(c: Capture, out: Shape, x: Any, weight: Any, bias: Any, where: dict[str, Any], groups: int) -> Any:
    """A weight or a bias that is computed cannot be named: the weight is another input, the bias is added behind."""
    if len(x.shape) != len(weight.shape):
        raise Untranslated  # without a batch axis
    if x.shape[1] != (weight.shape[0] if "transposed" in where else weight.shape[1] * groups):
        raise Untranslated
    channels = weight.shape[1] * groups if "transposed" in where else weight.shape[0]
    out = (x.shape[0], channels, *_convolved_size(x.shape[2:], weight.shape[2:], where))
    kernel = c.repeated(weight)
    if kernel is not None and bias is None and "transposed" not in where and channels == groups == x.shape[1]:
        steps = {key: value for key, value in where.items() if key in ("stride", "padding", "dilation")}
        return c.op("filter", (x,), out, **steps, kernel=kernel[0], size=list(out[2:]))
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


def _convolved_size(size: Sequence[int], kernel: Sequence[int], where: dict[str, Any]) -> list[int]:
    ones, zeros = [1] * len(size), [0] * len(size)
    dilation, behind = where.get("dilation", ones), where.get("output_padding", zeros)
    steps = zip(size, kernel, where["stride"], where["padding"], dilation, behind, strict=True)
    if "transposed" in where:
        return [(n - 1) * s - 2 * p + d * (k - 1) + 1 + b for n, k, s, p, d, b in steps]
    return [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d, b in steps]


def _padded(c: Capture, x: Any, total: Sequence[int]) -> tuple[Any, list[int]]:
    """(input, padding that is left to the convolution): what is uneven goes behind the input, as torch has it."""
    uneven = [n % 2 for n in total]
    if any(uneven):
        shape = [*x.shape[:2], *(n + u for n, u in zip(x.shape[2:], uneven, strict=True))]
        x = c.op("pad", (x,), shape, before=[0] * len(shape), after=[0, 0, *uneven], value=0.0)
    return x, [n // 2 for n in total]


def _unless_one(**steps: list[int]) -> dict[str, Any]:
    return {name: values for name, values in steps.items() if any(n != 1 for n in values)}


def _window(x: Any, spatial: int, kernel: Any, stride: Any, padding: Any) -> dict[str, Any]:
    if len(x.shape) != spatial + 2:
        raise Untranslated  # without a batch axis
    kernel = ints(kernel, spatial, 1)
    return {
        "kernel": kernel,
        "stride": ints(stride, spatial, 1) if stride else kernel,
        "padding": ints(padding, spatial),
    }


def _max_pool(d: int) -> None:
    @translates(f"max_pool{d}d")
    def translation(
        c: Capture, out: Shape, x: Any, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1,
        ceil: bool = False,
    ) -> Any:  # fmt: skip
        extra = _unless_one(dilation=ints(dilation, d, 1)) | ({"ceil": True} if ceil else {})
        window = _window(x, d, kernel, stride, padding)
        size = _pooled(x.shape[2:], window, ints(dilation, d, 1), ceil)
        return c.op("max_pool", (x,), (*x.shape[:2], *size), **window, size=size, **extra)

    @translates(f"max_pool{d}d_with_indices")
    def with_indices(c: Capture, out: Shape, *args: Any, **kwargs: Any) -> Any:
        return [translation(c, out, *args, **kwargs), None]


def _average_pool(d: int) -> None:
    @translates(f"avg_pool{d}d")
    def translation(
        c: Capture, out: Shape, x: Any, kernel: Any, stride: Any = (), padding: Any = 0, ceil: bool = False,
        count: bool = True, divisor: Any = None,
    ) -> Any:  # fmt: skip
        if divisor is not None:
            raise Untranslated
        extra = ({"ceil": True} if ceil else {}) | ({} if count else {"count_padding": False})
        window = _window(x, d, kernel, stride, padding)
        size = _pooled(x.shape[2:], window, [1] * d, ceil)
        return c.op("average_pool", (x,), (*x.shape[:2], *size), **window, size=size, **extra)


def _pooled(size: Sequence[int], window: dict[str, Any], dilation: Sequence[int], ceil: bool) -> list[int]:
    """Spatial shape after pooling; a last window must start inside the input or the padding before it."""
    found = []
    for n, k, s, p, d in zip(size, window["kernel"], window["stride"], window["padding"], dilation, strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        count = (-(-room // s) if ceil else room // s) + 1
        found.append(count - 1 if ceil and (count - 1) * s >= n + p else count)
    return found


def _adaptive_pool(d: int) -> None:
    @translates(f"adaptive_avg_pool{d}d", f"_adaptive_avg_pool{d}d")
    def average(c: Capture, out: Shape, x: Any, size: Any) -> Any:
        return adapted(c, x, size, "average")

    @translates(f"adaptive_max_pool{d}d")
    def largest(c: Capture, out: Shape, x: Any, size: Any) -> Any:
        return [adapted(c, x, size, "max"), None]

    def adapted(c: Capture, x: Any, size: Any, statistic: str) -> Any:
        if len(x.shape) != d + 2:
            raise Untranslated
        listed = [n if wanted is None else int(wanted) for wanted, n in zip(_listed(size, d), x.shape[2:], strict=True)]
        return c.op("pool", (x,), (*x.shape[:2], *listed), size=listed, statistic=statistic)


def _listed(size: Any, count: int) -> list[Any]:
    return list(size) if isinstance(size, (list, tuple)) and len(size) == count else ints(size, count, 1)


for _spatial in (1, 2, 3):
    _max_pool(_spatial)
    _average_pool(_spatial)
    _adaptive_pool(_spatial)


@translates("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d")
def _nearest(c: Capture, out: Shape, x: Any, size: Any, *scales: Any) -> Any:
    return _resized(c, out, x, scales, {"mode": "nearest"})


@translates("upsample_linear1d", "upsample_bilinear2d", "upsample_trilinear3d")
def _linear_resize(c: Capture, out: Shape, x: Any, size: Any, corners: bool, *scales: Any) -> Any:
    return _resized(c, out, x, scales, {"mode": "linear"} | ({"align_corners": True} if corners else {}))


def _resized(c: Capture, out: Shape, x: Any, scales: Sequence[Any], how: dict[str, Any]) -> Any:
    """A scale that the sizes do not have exactly would move the places that are looked at."""
    named = [scale for scale in leaves(list(scales)) if scale is not None]
    if named and [n * scale for n, scale in zip(x.shape[2:], named, strict=True)] != list(out[2:]):
        raise Untranslated
    return c.op("resize", (x,), out, size=list(out[2:]), **how)


@translates("scaled_dot_product_attention")
def _attention(
    c: Capture, out: Shape, q: Any, k: Any, v: Any, mask: Any = None, dropout: float = 0.0, causal: bool = False,
    scale: float | None = None, enable_gqa: bool = False,
) -> Any:  # fmt: skip
    if mask is not None or causal or enable_gqa or dropout:
        raise Untranslated
    rank = len(k.shape)
    turned = c.permute(k, [*range(rank - 2), rank - 1, rank - 2])
    factor = scale if scale is not None else q.shape[-1] ** -0.5
    scores = matmul(c, c.scalar(q, factor), turned)
    return matmul(c, softmax(c, scores.shape, scores, -1), v)
