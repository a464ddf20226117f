"""graph/from_onnx/norms.py: ONNX nodes that normalize."""

from __future__ import annotations

from typing import Any

from nfn_cli.graph.from_onnx.capture import Capture, DoesNotFit, Entry, Untranslated, Value, View
from nfn_cli.graph.from_onnx.registry import Call, translates


@translates("BatchNormalization")
def _batch_norm(call: Call) -> Value:
    c, x = call.c, call.c.value(call[0])
    if call.attribute("training_mode", 0) or len(x.shape) < 2:
        raise Untranslated
    roles = {}
    for position, role in enumerate(("weight", "bias", "running_mean", "running_var"), start=1):
        if role in ("weight", "bias") and call.get(position) is None:
            continue  # ONNX has both; other front ends speak of norms without
        entry = call[position]
        name = c.plain(entry)
        if name is None:
            raise Untranslated
        if tuple(entry.shape) != (x.shape[1],):
            raise DoesNotFit
        roles[role] = name
    return c.op("batch_norm", (x,), x.shape, roles, eps=float(call.attribute("epsilon", 1e-5)))


def _channel_affine(c: Capture, x: Value, weight: Entry | None, bias: Entry | None) -> Value:
    for entry in (weight, bias):
        if entry is not None and tuple(entry.shape) != (x.shape[1],):
            raise Untranslated
    return c.affine(x, weight, bias, [1, x.shape[1], *([1] * (len(x.shape) - 2))])


@translates("InstanceNormalization")
def _instance_norm(call: Call) -> Value:
    c, x = call.c, call.c.value(call[0])
    if len(x.shape) < 3:
        raise Untranslated
    out = c.op(
        "normalize", (x,), x.shape, axes=list(range(2, len(x.shape))), eps=float(call.attribute("epsilon", 1e-5))
    )
    maker, weight, bias = c.maker(x), call[1], call[2]
    if maker is not None and maker.kind == "reshape" and _all_are(c, weight, 1.0) and _all_are(c, bias, 0.0):
        return out  # a group norm, written as an instance norm of its groups
    return _channel_affine(c, out, weight, bias)


def _all_are(c: Capture, entry: Entry, number: float) -> bool:
    """Whether a tensor that stands in the graph only for form holds one number all over; its numbers are then used."""
    if isinstance(entry, Value):
        return False
    array = c.tensors[entry.tensor] if isinstance(entry, View) else entry
    if array.dtype.kind != "f" or not (array == number).all():
        return False
    c.numbers(entry)
    return True


@translates("GroupNormalization")
def _group_norm(call: Call) -> Value:
    c, x, groups = call.c, call.c.value(call[0]), int(call.attribute("num_groups", 1))
    if len(x.shape) < 2 or groups < 1 or x.shape[1] % groups:
        raise DoesNotFit
    axes = list(range(1, len(x.shape)))
    out = c.op("normalize", (x,), x.shape, axes=axes, eps=float(call.attribute("epsilon", 1e-5)), groups=groups)
    return _channel_affine(c, out, call[1], call[2])


@translates("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
def _layer_norm(call: Call) -> Value:
    c, x = call.c, call.c.value(call[0])
    if any(call.node.outputs[1:]):
        raise Untranslated
    first = call.axis(int(call.attribute("axis", -1)))
    axes, eps = list(range(first, len(x.shape))), float(call.attribute("epsilon", 1e-5))
    weight, bias = call[1], call.get(2)
    if call.node.kind != "LayerNormalization":
        return c.affine(c.op("rms_normalize", (x,), x.shape, axes=axes, eps=eps), weight, bias, x.shape[first:])
    names = [None if entry is None else c.plain(entry) for entry in (weight, bias)]
    vectors = all(entry is None or tuple(entry.shape) == x.shape[first:] for entry in (weight, bias))
    if len(axes) == 1 and vectors and names[0] is not None and (bias is None or names[1] is not None):
        roles = {role: name for role, name in zip(("weight", "bias"), names, strict=True) if name is not None}
        return c.op("layer_norm", (x,), x.shape, roles, axes=axes, eps=eps)
    return c.affine(c.op("normalize", (x,), x.shape, axes=axes, eps=eps), weight, bias, x.shape[first:])


@translates("LpNormalization")
def _lp_norm(call: Call) -> Value:
    c, x = call.c, call.c.value(call[0])
    if int(call.attribute("p", 2)) != 2:
        raise Untranslated
    return c.mul(x, c.pointwise(norm(c, x, [call.axis(int(call.attribute("axis", -1)))]), "reciprocal"))


@translates("MeanVarianceNormalization")
def _mean_variance(call: Call) -> Value:
    x = call.c.value(call[0])
    axes = sorted(call.axis(int(axis)) for axis in call.attribute("axes", [0, 2, 3]))
    return call.c.op("normalize", (x,), x.shape, axes=axes, eps=1e-18)


def norm(c: Capture, x: Value, axes: list[int]) -> Any:
    shape = [1 if axis in axes else n for axis, n in enumerate(x.shape)]
    return c.op("reduce", (x,), shape, axes=axes, statistic="norm")
