"""graph/aten/normalization.py: batch, instance, group, layer and RMS norm, with their gains and biases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nfn_cli.graph.aten.arithmetic import add, mul
from nfn_cli.graph.aten.capture import Capture, Shape
from nfn_cli.graph.aten.registry import Untranslated, translates

_RMS_EPSILON = 1.1920929e-07  # torch's own where none is given: that of float32


@translates("batch_norm")
def _batch_norm(
    c: Capture, out: Shape, x: Any, weight: Any, bias: Any, mean: Any, variance: Any, training: bool, _m: float, eps: float,
    *_: Any,
) -> Any:  # fmt: skip
    if mean is None or training:
        axes = [axis for axis in range(len(x.shape)) if axis != 1]
        return _channel_affine(c, c.op("normalize", (x,), x.shape, axes=axes, eps=eps), weight, bias)
    roles = {"running_mean": mean, "running_var": variance, "weight": weight, "bias": bias}
    roles = {role: entry for role, entry in roles.items() if entry is not None}
    if not all(c.is_plain(entry) for entry in roles.values()):
        raise Untranslated
    return c.op("batch_norm", (x,), x.shape, {role: entry.tensor for role, entry in roles.items()}, eps=eps)


@translates("_native_batch_norm_legit_no_training")
def _native_batch_norm(
    c: Capture, out: Shape, x: Any, weight: Any, bias: Any, mean: Any, variance: Any, momentum: float, eps: float
) -> Any:
    return [_batch_norm(c, out, x, weight, bias, mean, variance, False, momentum, eps), None, None]


@translates("instance_norm")
def _instance_norm(
    c: Capture, out: Shape, x: Any, weight: Any, bias: Any, mean: Any, variance: Any, use_input: bool, _m: float, eps: float,
    *_: Any,
) -> Any:  # fmt: skip
    if not use_input:
        return _batch_norm(c, out, x, weight, bias, mean, variance, False, _m, eps)
    made = c.op("normalize", (x,), x.shape, axes=list(range(2, len(x.shape))), eps=eps)
    return _channel_affine(c, made, weight, bias)


@translates("group_norm")
def _group_norm(
    c: Capture, out: Shape, x: Any, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Any:
    made = c.op("normalize", (x,), x.shape, axes=list(range(1, len(x.shape))), eps=eps, groups=groups)
    return _channel_affine(c, made, weight, bias)


@translates("native_group_norm")
def _native_group_norm(
    c: Capture,
    out: Shape,
    x: Any,
    weight: Any,
    bias: Any,
    n: int,
    channels: int,
    positions: int,
    groups: int,
    eps: float,
) -> Any:
    return [_group_norm(c, out, x, groups, weight, bias, eps), None, None]


@translates("native_layer_norm")
def _native_layer_norm(c: Capture, out: Shape, x: Any, shape: Sequence[int], weight: Any, bias: Any, eps: float) -> Any:
    return [_layer_norm(c, out, x, shape, weight, bias, eps), None, None]


@translates("layer_norm")
def _layer_norm(
    c: Capture, out: Shape, x: Any, shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: Any
) -> Any:  # fmt: skip
    axes = list(range(len(x.shape) - len(shape), len(x.shape)))
    if len(shape) == 1 and all(entry is None or c.is_plain(entry) for entry in (weight, bias)):
        roles = {role: entry.tensor for role, entry in (("weight", weight), ("bias", bias)) if entry is not None}
        return c.op("layer_norm", (x,), x.shape, roles, axes=axes, eps=eps)
    return _affine(c, c.op("normalize", (x,), x.shape, axes=axes, eps=eps), weight, bias, shape)


@translates("rms_norm")
def _rms_norm(
    c: Capture, out: Shape, x: Any, shape: Sequence[int], weight: Any = None, eps: float | None = None
) -> Any:
    axes = list(range(len(x.shape) - len(shape), len(x.shape)))
    made = c.op("rms_normalize", (x,), x.shape, axes=axes, eps=_RMS_EPSILON if eps is None else eps)
    return _affine(c, made, weight, None, shape)


def _affine(c: Capture, x: Any, weight: Any, bias: Any, shape: Sequence[int]) -> Any:
    if weight is not None:
        x = mul(c, x, c.reshape(weight, shape))
    return x if bias is None else add(c, x, c.reshape(bias, shape))


def _channel_affine(c: Capture, x: Any, weight: Any, bias: Any) -> Any:
    return _affine(c, x, weight, bias, [1, x.shape[1], *([1] * (len(x.shape) - 2))])
