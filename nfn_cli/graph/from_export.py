"""graph/from_export.py: graphs captured by torch.export, read into the vocabulary. The one place that knows ATen.

An ATen op that no translation knows becomes an op of its own name: rules freeze it, the evaluator refuses it.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, GraphInput, Op

_LARGEST_CONSTANT = 4096  # entries of a tensor that stands in the graph itself


@dataclass(frozen=True)
class _Value:
    """A tensor of the graph: its name among the values and its shape."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _Parameter:
    """A tensor of the checkpoint, perhaps seen with axes of length 1 put in or left out."""

    tensor: str
    shape: tuple[int, ...]
    trained: bool


@dataclass
class _Capture:
    """Mutable state of one translation."""

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    materialized: dict[tuple[str, tuple[int, ...]], _Value] = field(default_factory=dict)
    values: int = 0

    def op(
        self,
        kind: str,
        inputs: Sequence[Any],
        shape: Sequence[int],
        parameters: dict[str, str] | None = None,
        /,
        **attributes: Any,
    ) -> _Value:
        self.values += 1
        name = f"v{self.values}"
        names = tuple(self.value(entry).name for entry in inputs)
        self.ops.append(Op(kind, names, name, parameters or {}, attributes))
        return _Value(name, tuple(int(n) for n in shape))

    def value(self, entry: Any) -> _Value:
        """The entry as a value; a tensor of the checkpoint is brought into the graph once for each view of it."""
        if isinstance(entry, _Value):
            return entry
        if not isinstance(entry, _Parameter):
            raise Refused(f"an operation takes {type(entry).__name__} where a tensor is needed", code="not-capturable")
        key = (entry.tensor, entry.shape)
        if key not in self.materialized:
            own = self.shapes[entry.tensor]
            made = self.op(
                "parameter", (), own, {"value": entry.tensor}, **({} if entry.trained else {"trained": False})
            )
            self.materialized[key] = made
            if entry.shape != own:
                self.materialized[key] = self.op("reshape", (made,), entry.shape, shape=list(entry.shape))
        return self.materialized[key]

    def pointwise(self, x: Any, function: str, **attributes: Any) -> _Value:
        x = self.value(x)
        return self.op("pointwise", (x,), x.shape, function=function, **attributes)

    def scalar(self, x: Any, multiply: float = 1.0, add: float = 0.0) -> _Value:
        x = self.value(x)
        return self.op("scalar", (x,), x.shape, multiply=float(multiply), add=float(add))

    def reshape(self, x: Any, shape: Sequence[int]) -> Any:
        x_shape, shape = tuple(x.shape), tuple(int(n) for n in shape)
        if isinstance(x, _Parameter) and [n for n in x_shape if n != 1] == [n for n in shape if n != 1]:
            return replace(x, shape=shape)
        if x_shape == shape:
            return x
        return self.op("reshape", (x,), shape, shape=list(shape))

    def permute(self, x: Any, order: Sequence[int]) -> _Value:
        shape = x.shape
        order = [axis % len(shape) for axis in order]
        return self.op("permute", (x,), [shape[axis] for axis in order], order=order)

    def slice(self, x: Any, axis: int, start: int, stop: int, step: int = 1) -> _Value:
        shape = list(x.shape)
        axis %= len(shape)
        n = shape[axis]
        start = min(max(start + n if start < 0 else start, 0), n)
        stop = min(max(stop + n if stop < 0 else stop, 0), n)
        shape[axis] = max(0, -(-(stop - start) // step))
        return self.op("slice", (x,), shape, axis=axis, start=start, stop=stop, step=step)


def _reduced(c: _Capture, x: Any, axes: Sequence[int] | None, keep: bool, statistic: str) -> Any:
    shape = x.shape
    wanted = sorted({axis % len(shape) for axis in axes}) if axes else list(range(len(shape)))
    kept = [1 if axis in wanted else n for axis, n in enumerate(shape)]
    out = c.op("reduce", (x,), kept, axes=wanted, statistic=statistic)
    return out if keep else c.reshape(out, [n for axis, n in enumerate(shape) if axis not in wanted])


def _norm(c: _Capture, x: Any, order: float, axes: Sequence[int] | None, keep: bool) -> Any:
    if order != 2:
        raise _Untranslated
    return _reduced(c, x, axes, keep, "norm")


def _broadcast(left: Sequence[int], right: Sequence[int]) -> tuple[int, ...]:
    rank = max(len(left), len(right))
    a, b = ((1,) * (rank - len(s)) + tuple(s) for s in (left, right))
    return tuple(n if m == 1 else m for n, m in zip(a, b, strict=True))


def _is_number(entry: Any) -> bool:
    return isinstance(entry, (int, float)) and not isinstance(entry, bool)


def _vector_axis(p: Any, rank: int) -> int | None:
    """The axis of a value of `rank` axes that a parameter is spread along; None unless it is a vector."""
    if not isinstance(p, _Parameter) or not p.trained or len(p.shape) > rank:
        return None
    long = [axis - len(p.shape) for axis, n in enumerate(p.shape) if n != 1]
    return long[0] % rank if len(long) == 1 else None


def _add(c: _Capture, x: Any, y: Any, alpha: float = 1) -> Any:
    if _is_number(x):
        x, y = y, x
        return c.scalar(x, alpha, y)
    if _is_number(y):
        return c.scalar(x, 1.0, alpha * y)
    if alpha != 1:
        y = c.scalar(y, alpha)
    return c.op("add", (x, y), _broadcast(x.shape, y.shape))


def _sub(c: _Capture, x: Any, y: Any, alpha: float = 1) -> Any:
    return _add(c, c.scalar(y, -1.0), x) if _is_number(x) else _add(c, x, y, -alpha)


def _mul(c: _Capture, x: Any, y: Any) -> Any:
    if _is_number(x):
        x, y = y, x
    if _is_number(y):
        return c.scalar(x, y)
    if isinstance(x, _Parameter) and not isinstance(y, _Parameter):
        x, y = y, x
    shape = _broadcast(x.shape, y.shape)
    axis = _vector_axis(y, len(x.shape))
    if axis is not None and shape == tuple(x.shape):
        return c.op("scale", (x,), shape, {"weight": y.tensor}, axis=axis)
    return c.op("mul", (x, y), shape)


def _div(c: _Capture, x: Any, y: Any, **_: Any) -> Any:
    if _is_number(y):
        return c.scalar(x, 1.0 / y)
    inverse = c.pointwise(y, "reciprocal")
    return _mul(c, x, inverse)


def _pow(c: _Capture, x: Any, y: Any) -> Any:
    powers = {2: "square", 0.5: "sqrt", -0.5: "rsqrt", -1: "reciprocal", 1: "identity"}
    if not _is_number(y) or y not in powers:
        raise _Untranslated
    return c.pointwise(x, powers[y])


class _Untranslated(Exception):
    """The translation knows the op, but not this use of it."""


def _conv(
    c: _Capture,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
    shape: Sequence[int],
) -> Any:
    spatial = len(weight.shape) - 2
    if isinstance(padding, str):
        if padding != "valid" and any(k % 2 == 0 for k in weight.shape[2:]):
            raise _Untranslated
        steps = _ints(dilation, spatial)
        padding = [0 if padding == "valid" else d * (k - 1) // 2 for k, d in zip(weight.shape[2:], steps, strict=True)]
    if transposed and (
        any(n != 0 for n in _ints(output_padding, spatial)) or any(n != 1 for n in _ints(dilation, spatial))
    ):
        raise _Untranslated
    attributes: dict[str, Any] = {
        "out_axis": 1 if transposed else 0,
        "in_axis": 0 if transposed else 1,
        "stride": _ints(stride, spatial),
        "padding": _ints(padding, spatial),
    }
    if transposed:
        attributes["transposed"] = True
    if any(d != 1 for d in _ints(dilation, spatial)):
        attributes["dilation"] = _ints(dilation, spatial)
    if groups != 1:
        attributes["groups"] = groups
    inputs, roles = [x], {}
    if _plain(c, weight):
        roles["weight"] = weight.tensor
        if not weight.trained:
            attributes["trained"] = False
    else:
        inputs.append(weight)
    late = None
    if bias is not None:
        if _plain(c, bias):
            roles["bias"] = bias.tensor
        else:
            late = bias
    out = c.op("conv", inputs, shape, roles, **attributes, size=list(shape[2:]))
    return out if late is None else _add(c, out, c.reshape(late, [1, out.shape[1], *([1] * spatial)]))


def _plain(c: _Capture, entry: Any) -> bool:
    return isinstance(entry, _Parameter) and tuple(entry.shape) == tuple(c.shapes[entry.tensor])


def _ints(value: Any, count: int) -> list[int]:
    if isinstance(value, int):
        return [value] * count
    values = [int(n) for n in value]
    return values * count if len(values) == 1 else values


def _linear(c: _Capture, x: Any, weight: Any, bias: Any = None) -> Any:
    if not _plain(c, weight) or (bias is not None and not _plain(c, bias)):
        raise _Untranslated
    roles = {"weight": weight.tensor} | ({"bias": bias.tensor} if bias is not None else {})
    return c.op("linear", (x,), (*x.shape[:-1], weight.shape[0]), roles, out_axis=0, in_axis=1)


def _batch_norm(
    c: _Capture,
    x: Any,
    weight: Any,
    bias: Any,
    mean: Any,
    variance: Any,
    training: bool,
    _m: float,
    eps: float,
    *_: Any,
) -> Any:
    if mean is None or training:
        axes = [axis for axis in range(len(x.shape)) if axis != 1]
        return _channel_affine(c, c.op("normalize", (x,), x.shape, axes=axes, eps=eps), weight, bias)
    roles = {"running_mean": mean, "running_var": variance, "weight": weight, "bias": bias}
    roles = {role: entry for role, entry in roles.items() if entry is not None}
    if not all(_plain(c, entry) for entry in roles.values()):
        raise _Untranslated
    return c.op("batch_norm", (x,), x.shape, {role: entry.tensor for role, entry in roles.items()}, eps=eps)


def _affine(c: _Capture, x: Any, weight: Any, bias: Any, shape: Sequence[int]) -> Any:
    if weight is not None:
        x = _mul(c, x, c.reshape(weight, shape))
    return x if bias is None else _add(c, x, c.reshape(bias, shape))


def _channel_affine(c: _Capture, x: _Value, weight: Any, bias: Any) -> Any:
    return _affine(c, x, weight, bias, [1, x.shape[1], *([1] * (len(x.shape) - 2))])


def _instance_norm(
    c: _Capture,
    x: Any,
    weight: Any,
    bias: Any,
    mean: Any,
    variance: Any,
    use_input: bool,
    _m: float,
    eps: float,
    *_: Any,
) -> Any:
    if not use_input:
        return _batch_norm(c, x, weight, bias, mean, variance, False, _m, eps)
    out = c.op("normalize", (x,), x.shape, axes=list(range(2, len(x.shape))), eps=eps)
    return _channel_affine(c, out, weight, bias)


def _group_norm(
    c: _Capture, x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Any:
    out = c.op("normalize", (x,), x.shape, axes=list(range(1, len(x.shape))), eps=eps, groups=groups)
    return _channel_affine(c, out, weight, bias)


def _layer_norm(
    c: _Capture, x: Any, shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Any:
    axes = list(range(len(x.shape) - len(shape), len(x.shape)))
    if len(shape) == 1 and all(entry is None or _plain(c, entry) for entry in (weight, bias)):
        roles = {role: entry.tensor for role, entry in (("weight", weight), ("bias", bias)) if entry is not None}
        return c.op("layer_norm", (x,), x.shape, roles, axes=axes, eps=eps)
    return _affine(c, c.op("normalize", (x,), x.shape, axes=axes, eps=eps), weight, bias, shape)


def _rms_norm(c: _Capture, x: Any, shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Any:
    axes = list(range(len(x.shape) - len(shape), len(x.shape)))
    out = c.op("rms_normalize", (x,), x.shape, axes=axes, eps=1.1920929e-07 if eps is None else eps)
    return _affine(c, out, weight, None, shape)


def _max_pool(
    c: _Capture,
    out: Sequence[int],
    x: Any,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    dilation: Any = 1,
    ceil: bool = False,
) -> Any:
    spatial = len(x.shape) - 2
    kernel = _ints(kernel, spatial)
    extra = {"dilation": _ints(dilation, spatial)} if any(d != 1 for d in _ints(dilation, spatial)) else {}
    return c.op(
        "max_pool",
        (x,),
        out,
        kernel=kernel,
        stride=_ints(stride, spatial) if stride else kernel,
        padding=_ints(padding, spatial),
        size=list(out[2:]),
        **extra,
        **({"ceil": True} if ceil else {}),
    )


def _average_pool(
    c: _Capture,
    out: Sequence[int],
    x: Any,
    kernel: Any,
    stride: Any = (),
    padding: Any = 0,
    ceil: bool = False,
    count: bool = True,
    divisor: Any = None,
) -> Any:
    if divisor is not None:
        raise _Untranslated
    spatial = len(x.shape) - 2
    kernel = _ints(kernel, spatial)
    extra: dict[str, Any] = ({"ceil": True} if ceil else {}) | ({} if count else {"count_padding": False})
    return c.op(
        "average_pool",
        (x,),
        out,
        kernel=kernel,
        stride=_ints(stride, spatial) if stride else kernel,
        padding=_ints(padding, spatial),
        size=list(out[2:]),
        **extra,
    )


def _pad(c: _Capture, x: Any, amounts: Sequence[int], value: float | None = 0.0) -> Any:
    rank = len(x.shape)
    before, after = [0] * rank, [0] * rank
    for step in range(len(amounts) // 2):
        before[rank - 1 - step], after[rank - 1 - step] = int(amounts[2 * step]), int(amounts[2 * step + 1])
    shape = [n + b + a for n, b, a in zip(x.shape, before, after, strict=True)]
    return c.op("pad", (x,), shape, before=before, after=after, value=float(value or 0.0))


def _split(c: _Capture, x: Any, sizes: int | Sequence[int], axis: int = 0) -> list[Any]:
    n = x.shape[axis]
    if isinstance(sizes, int):
        sizes = [min(sizes, n - start) for start in range(0, n, sizes)]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [c.slice(x, axis, start, start + size) for start, size in zip(starts, sizes, strict=True)]


def _chunk(c: _Capture, x: Any, count: int, axis: int = 0) -> list[Any]:
    return _split(c, x, -(-x.shape[axis] // count), axis)


def _select(c: _Capture, x: Any, axis: int, index: int) -> Any:
    axis %= len(x.shape)
    index %= x.shape[axis]
    part = c.slice(x, axis, index, index + 1)
    return c.reshape(part, [n for position, n in enumerate(part.shape) if position != axis])


def _cat(c: _Capture, out: Sequence[int], parts: Sequence[Any], axis: int = 0) -> Any:
    parts = [part for part in parts if math.prod(part.shape)]
    return c.op("concat", parts, out, axis=axis % len(out))


def _stack(c: _Capture, out: Sequence[int], parts: Sequence[Any], axis: int = 0) -> Any:
    axis %= len(out)
    shape = [1 if position == axis else n for position, n in enumerate(out)]
    return _cat(c, out, [c.reshape(part, shape) for part in parts], axis)


def _expand(c: _Capture, out: Sequence[int], x: Any) -> Any:
    full = (1,) * (len(out) - len(x.shape)) + tuple(x.shape)
    x = c.reshape(x, full)
    return x if tuple(out) == full else c.op("expand", (x,), out, shape=list(out))


def _attention(
    c: _Capture,
    out: Sequence[int],
    q: Any,
    k: Any,
    v: Any,
    mask: Any = None,
    dropout: float = 0.0,
    causal: bool = False,
    scale: float | None = None,
    **_: Any,
) -> Any:
    if mask is not None or causal:
        raise _Untranslated
    rank = len(k.shape)
    turned = c.permute(k, [*range(rank - 2), rank - 1, rank - 2])
    factor = scale if scale is not None else q.shape[-1] ** -0.5
    scores = _matmul(c, c.scalar(q, factor), turned)
    weights = c.op("softmax", (scores,), scores.shape, axis=-1, shape=list(scores.shape))
    return _matmul(c, weights, v)


def _matmul(c: _Capture, x: Any, y: Any) -> Any:
    if len(x.shape) < 2 or len(y.shape) < 2:
        raise _Untranslated
    shape = [*_broadcast(x.shape[:-2], y.shape[:-2]), x.shape[-2], y.shape[-1]]
    return c.op("matmul", (x, y), shape, shape=shape)


def _resize(c: _Capture, out: Sequence[int], x: Any, mode: str, corners: bool = False) -> Any:
    return c.op("resize", (x,), out, size=list(out[2:]), mode=mode, **({"align_corners": True} if corners else {}))


def _hardtanh(c: _Capture, x: Any, low: float = -1.0, high: float = 1.0) -> Any:
    if (low, high) == (0, 6):
        return c.pointwise(x, "relu6")
    return c.pointwise(x, "hardtanh") if (low, high) == (-1, 1) else _clip(c, x, low, high)


def _clip(c: _Capture, x: Any, low: Any = None, high: Any = None) -> Any:
    x = c.value(x)
    bounds = {name: float(value) for name, value in (("low", low), ("high", high)) if value is not None}
    return c.pointwise(x, "relu") if bounds == {"low": 0.0} else c.op("clip", (x,), x.shape, **bounds)


def _prelu(c: _Capture, x: Any, weight: Any) -> Any:
    if not _plain(c, weight):
        raise _Untranslated
    return c.op("pointwise", (x,), x.shape, {"weight": weight.tensor}, function="prelu")


def _elu(c: _Capture, x: Any, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0) -> Any:
    if (alpha, scale, input_scale) != (1, 1, 1):
        raise _Untranslated
    return c.pointwise(x, "elu")


def _same(c: _Capture, x: Any, *_: Any, **__: Any) -> Any:
    return x


_POINTWISE = {
    name: name
    for name in ("relu", "silu", "sigmoid", "hardsigmoid", "hardswish", "tanh", "mish", "selu", "sin", "cos", "erf", "exp",
                 "sqrt", "rsqrt", "abs", "square", "relu6", "reciprocal", "log", "softplus")
} | {"log_sigmoid": "logsigmoid"}  # fmt: skip

# name of the ATen op without "_" at its end -> translation(capture, shape of the result, *args, **kwargs)
_TRANSLATIONS: dict[str, Callable[..., Any]] = {
    **{aten: (lambda c, out, x, *a, f=ours, **k: c.pointwise(x, f)) for aten, ours in _POINTWISE.items()},
    **{
        name: (lambda c, out, x, *a, **k: _same(c, x))
        for name in ("dropout", "feature_dropout", "alpha_dropout", "contiguous", "alias", "detach", "clone", "lift_fresh_copy",
                     "to", "type_as", "_to_copy", "identity")
    },
    "gelu": lambda c, out, x, approximate="none": c.pointwise(x, "gelu" if approximate == "none" else "gelu_tanh"),
    "leaky_relu": lambda c, out, x, slope=0.01: c.pointwise(x, "leaky_relu", slope=float(slope)),
    "elu": lambda c, out, *a, **k: _elu(c, *a, **k),
    "hardtanh": lambda c, out, *a, **k: _hardtanh(c, *a, **k),
    "clamp": lambda c, out, x, min=None, max=None: _clip(c, x, min, max),
    "clamp_min": lambda c, out, x, low: _clip(c, x, low),
    "prelu": lambda c, out, x, w: _prelu(c, x, w),
    "neg": lambda c, out, x: c.scalar(x, -1.0),
    "add": lambda c, out, x, y, alpha=1: _add(c, x, y, alpha),
    "sub": lambda c, out, x, y, alpha=1: _sub(c, x, y, alpha),
    "rsub": lambda c, out, x, y, alpha=1: _sub(c, y, x, alpha),
    "mul": lambda c, out, x, y: _mul(c, x, y),
    "div": lambda c, out, x, y, **k: _div(c, x, y, **k),
    "pow": lambda c, out, x, y: _pow(c, x, y),
    "addcmul": lambda c, out, x, y, z, value=1: _add(c, x, c.scalar(_mul(c, y, z), value) if value != 1 else _mul(c, y, z)),
    "linear": lambda c, out, *a: _linear(c, *a),
    "batch_norm": lambda c, out, *a: _batch_norm(c, *a),
    "instance_norm": lambda c, out, *a: _instance_norm(c, *a),
    "group_norm": lambda c, out, *a, **k: _group_norm(c, *a, **k),
    "layer_norm": lambda c, out, *a, **k: _layer_norm(c, *a, **k),
    "rms_norm": lambda c, out, *a, **k: _rms_norm(c, *a, **k),
    **{f"max_pool{d}d": _max_pool for d in (1, 2, 3)},
    **{f"avg_pool{d}d": _average_pool for d in (1, 2, 3)},
    **{
        f"adaptive_{short}_pool{d}d": (
            lambda c, out, x, size, s=statistic: c.op("pool", (x,), out, size=list(out[2:]), statistic=s)
        )
        for short, statistic in (("avg", "average"), ("max", "max"))
        for d in (1, 2, 3)
    },
    "mean": lambda c, out, x, axes=None, keepdim=False, **k: _reduced(c, x, axes, keepdim, "mean"),
    "sum": lambda c, out, x, axes=None, keepdim=False, **k: _reduced(c, x, axes, keepdim, "sum"),
    "amax": lambda c, out, x, axes=None, keepdim=False, **k: _reduced(c, x, axes, keepdim, "max"),
    "linalg_vector_norm": lambda c, out, x, order=2, axes=None, keepdim=False, **k: _norm(c, x, order, axes, keepdim),
    "flatten": lambda c, out, x, *a: c.reshape(x, out),
    **{
        name: (lambda c, out, x, *a, **k: c.reshape(x, out))
        for name in ("view", "reshape", "squeeze", "unsqueeze", "unflatten", "view_as", "reshape_as", "_unsafe_view")
    },
    "permute": lambda c, out, x, order: c.permute(x, order),
    "transpose": lambda c, out, x, a, b: _transpose(c, x, a, b),
    "t": lambda c, out, x: _transpose(c, x, 0, 1),
    "expand": lambda c, out, x, *a, **k: _expand(c, out, x),
    "expand_as": lambda c, out, x, *a, **k: _expand(c, out, x),
    "slice": lambda c, out, x, axis=0, start=None, stop=None, step=1: c.slice(
        x, axis, start or 0, x.shape[axis] if stop is None else stop, step
    ),
    "narrow": lambda c, out, x, axis, start, length: c.slice(x, axis, start, start + length),
    "select": lambda c, out, x, axis, index: _select(c, x, axis, index),
    "split": lambda c, out, x, sizes, axis=0: _split(c, x, sizes, axis),
    "split_with_sizes": lambda c, out, x, sizes, axis=0: _split(c, x, sizes, axis),
    "chunk": lambda c, out, x, count, axis=0: _chunk(c, x, count, axis),
    "unbind": lambda c, out, x, axis=0: [_select(c, x, axis, i) for i in range(x.shape[axis])],
    "cat": _cat,
    "concat": _cat,
    "stack": _stack,
    "pad": lambda c, out, x, amounts, mode="constant", value=None: _constant_pad(c, x, amounts, mode, value),
    "constant_pad_nd": lambda c, out, x, amounts, value=0: _pad(c, x, amounts, value),
    "softmax": lambda c, out, x, axis, *a, **k: c.op("softmax", (x,), out, axis=axis, shape=list(out)),
    "matmul": lambda c, out, x, y: _matmul(c, x, y),
    "bmm": lambda c, out, x, y: _matmul(c, x, y),
    "scaled_dot_product_attention": _attention,
    "upsample_nearest2d": lambda c, out, x, *a: _resize(c, out, x, "nearest"),
    "upsample_bilinear2d": lambda c, out, x, size, corners, *a: _resize(c, out, x, "linear", corners),
}  # fmt: skip


def _constant_pad(c: _Capture, x: Any, amounts: Sequence[int], mode: str, value: float | None) -> Any:
    if mode != "constant":
        raise _Untranslated
    return _pad(c, x, amounts, value)


def _transpose(c: _Capture, x: Any, a: int, b: int) -> Any:
    order = list(range(len(x.shape)))
    a, b = a % len(order), b % len(order)
    order[a], order[b] = order[b], order[a]
    return c.permute(x, order)


def _conv_call(c: _Capture, name: str, out: Sequence[int], args: Sequence[Any]) -> Any:
    if name.startswith("conv_transpose"):
        defaults: list[Any] = [None, 1, 0, 0, 1, 1]
        x, w, bias, stride, padding, output_padding, groups, dilation = [*args, *defaults[len(args) - 2 :]]
        return _conv(c, x, w, bias, stride, padding, dilation, True, output_padding, groups, out)
    defaults = [None, 1, 0, 1, 1]
    x, w, bias, stride, padding, dilation, groups = [*args, *defaults[len(args) - 2 :]]
    return _conv(c, x, w, bias, stride, padding, dilation, False, 0, groups, out)


def graph_from_export(program: Any) -> Graph:
    """The graph of a `torch.export.ExportedProgram` (training or inference IR), its tensors by their names in the state dict.

    Raises:
        Refused: the program holds what is not a computation on tensors (code "not-capturable").
    """
    c = _Capture()
    signature = program.graph_signature
    env: dict[Any, Any] = {}
    inputs: list[GraphInput] = []
    outputs: tuple[str, ...] = ()
    for node in program.graph_module.graph.nodes:
        if node.op == "placeholder":
            env[node] = _placeholder(c, node, program, signature, inputs)
        elif node.op == "call_function":
            if node.target is operator.getitem:
                env[node] = env[node.args[0]][node.args[1]]
            else:
                _called(c, node, env)
        elif node.op == "output":
            found = [env[n] for n in _leaves(node.args[0]) if isinstance(env.get(n), (_Value, _Parameter))]
            outputs = tuple(c.value(entry).name for entry in found)
    return _pruned(Graph(tuple(inputs), tuple(c.ops), tuple(dict.fromkeys(outputs)), c.shapes))


def _placeholder(c: _Capture, node: Any, program: Any, signature: Any, inputs: list[GraphInput]) -> Any:
    shape = tuple(int(n) for n in getattr(node.meta.get("val"), "shape", ()))
    tensor = signature.inputs_to_parameters.get(node.name)
    buffer = signature.inputs_to_buffers.get(node.name)
    if tensor is None and buffer is not None and buffer not in signature.non_persistent_buffers:
        tensor = buffer
    if tensor is not None:
        c.shapes[tensor] = shape
        return _Parameter(tensor, shape, buffer is None)
    constant = signature.inputs_to_lifted_tensor_constants.get(node.name) or buffer
    if constant is not None:
        array = program.constants.get(constant)
        if array is None or array.numel() > _LARGEST_CONSTANT or array.is_meta:
            return None
        return c.op("constant", (), shape, value=array.tolist())
    inputs.append(GraphInput(node.name, shape))
    return _Value(node.name, shape)


def _called(c: _Capture, node: Any, env: dict[Any, Any]) -> None:
    name = getattr(node.target, "_opname", None) or str(node.target)
    name = name.removesuffix("_") if not name.startswith("_") else name
    args = _resolved(node.args, env)
    kwargs = {key: _resolved(value, env) for key, value in node.kwargs.items() if key not in ("dtype", "memory_format")}
    meta = node.meta.get("val")
    out = tuple(int(n) for n in meta.shape) if hasattr(meta, "shape") else ()
    start = len(c.ops)
    try:
        if name.startswith("conv") and name[4:5] in ("1", "2", "3", "_"):
            made = _conv_call(c, name, out, args)
        elif name in _TRANSLATIONS:
            made = _TRANSLATIONS[name](c, out, *args, **kwargs)
        else:
            raise _Untranslated
    except (_Untranslated, TypeError, AttributeError):
        del c.ops[start:]
        made_so_far = {op.output for op in c.ops}
        c.materialized = {key: value for key, value in c.materialized.items() if value.name in made_so_far}
        made = _unknown(c, name, args, meta)
    env[node] = made
    if str(getattr(node.target, "_opname", "")).endswith("_") and node.args:
        _rebind(env, node.args[0], made)


def _rebind(env: dict[Any, Any], written: Any, made: Any) -> None:
    """An in-place op: whoever reads the written value later reads the result."""
    old = env.get(written)
    for node, value in env.items():
        if value is old and old is not None:
            env[node] = made


def _unknown(c: _Capture, name: str, args: Any, meta: Any) -> Any:
    tensors = [entry for entry in _leaves(args) if isinstance(entry, (_Value, _Parameter))]
    if isinstance(meta, (list, tuple)):
        return [
            c.op(f"aten.{name}.{index}", tensors, part.shape, shape=[int(n) for n in part.shape])
            if hasattr(part, "shape")
            else None
            for index, part in enumerate(meta)
        ]
    if not hasattr(meta, "shape"):
        return None
    shape = [int(n) for n in meta.shape]
    return c.op(f"aten.{name}", tensors, shape, shape=shape)


def _resolved(entry: Any, env: dict[Any, Any]) -> Any:
    if isinstance(entry, (list, tuple)):
        return [_resolved(part, env) for part in entry]
    return env[entry] if _is_node(entry) else entry


def _is_node(entry: Any) -> bool:
    return type(entry).__name__ == "Node"


def _leaves(entry: Any) -> list[Any]:
    if isinstance(entry, dict):
        entry = list(entry.values())
    if isinstance(entry, (list, tuple)):
        return [leaf for part in entry for leaf in _leaves(part)]
    return [entry]


def _pruned(graph: Graph) -> Graph:
    """Without ops that lead to no output, and with their tensors left out."""
    needed = set(graph.outputs)
    kept = []
    for op in reversed(graph.ops):
        if op.output in needed:
            needed.update(op.inputs)
            kept.append(op)
    kept.reverse()
    used = {name for op in kept for name in op.parameters.values()}
    inputs = tuple(entry for entry in graph.inputs if entry.name in needed)
    return Graph(inputs, tuple(kept), graph.outputs, {n: s for n, s in graph.parameter_shapes.items() if n in used})
