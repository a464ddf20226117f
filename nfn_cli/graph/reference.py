"""graph/reference.py: the slow, obvious evaluator: any graph of the vocabulary, in float64 numpy. No file, no torch.

It is what numerical checks run on. What a graph from tensor names does not know (strides, the kind of pooling) has a
stand-in in the graph; a symmetry that holds for every such choice holds for the stand-in, and the check tests that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from math import prod
from typing import Any

import numpy as np

from nfn_cli.errors import Refused
from nfn_cli.graph import reference_tensors as _more  # noqa: F401 — fills the table
from nfn_cli.graph.activations import ACTIVATIONS
from nfn_cli.graph.model import Graph, Op
from nfn_cli.graph.reference_registry import (
    EVALUATORS,
    SLICE_ENTRIES,
    FloatArray,
    Parameters,
    Reader,
    evaluates,
)


def evaluate(graph: Graph, parameters: Parameters, inputs: Mapping[str, FloatArray]) -> tuple[FloatArray, ...]:
    """Run the network.

    Args:
        graph: what to run; an `opaque` op of known shape is run as some fixed function of its inputs.
        parameters: tensors by name; any dtype, raised to float64.
        inputs: one array for each graph input, batch axis first.

    Returns:
        The graph's outputs in order, float64.

    Raises:
        Refused: the graph holds an op that cannot be evaluated (code "not-evaluable").
    """
    reader = Reader(parameters, graph.parameter_shapes)
    uses = dict.fromkeys(graph.outputs, 0)
    for op in graph.ops:
        for name in op.inputs:
            uses[name] = uses.get(name, 0) + 1
    values: dict[str, FloatArray] = {entry.name: np.asarray(inputs[entry.name], np.float64) for entry in graph.inputs}
    for op in graph.ops:
        run = EVALUATORS.get(op.kind)
        if run is None:
            raise Refused(f"op {op.kind!r} cannot be evaluated", where=op.output, code="not-evaluable")
        values[op.output] = run(op, [values[name] for name in op.inputs], reader)
        for name in op.inputs:
            uses[name] -= 1
            if uses[name] == 0 and name not in graph.outputs:
                values.pop(name, None)
    return tuple(values[name] for name in graph.outputs)


def random_inputs(graph: Graph, seed: int, batch: int = 8, spatial: int = 6) -> dict[str, FloatArray]:
    """Standard normal inputs for every graph input; unknown axes get `batch` (the first) or `spatial` entries."""
    generator = np.random.default_rng(seed)
    return {
        entry.name: generator.standard_normal(
            [(batch if axis == 0 else spatial) if size is None else size for axis, size in enumerate(entry.shape)]
        )
        for entry in graph.inputs
    }


_ONE_THREAD = 1 << 18  # multiplications; OpenBLAS starts threads at 2^19
_COLUMN_ENTRIES = 1 << 23  # of all windows that one matrix product takes
_STEPS = ("stride", "padding", "dilation")


def _float64(parameters: Reader, name: str) -> FloatArray:
    return np.asarray(parameters[name], np.float64)


def _along(vector: FloatArray, axis: int, rank: int) -> FloatArray:
    """(n,) -> (1, …, n, …, 1) with n on `axis` of `rank` axes."""
    return vector.reshape([-1 if position == axis % rank else 1 for position in range(rank)])


def _tuple(value: Any, count: int) -> tuple[int, ...]:
    return (int(value),) * count if isinstance(value, int) else tuple(int(entry) for entry in value)


@evaluates("linear")
def _linear(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    (x,) = inputs
    name, by_output = op.parameters["weight"], op.attributes["out_axis"] == 0
    rows, columns = parameters.shapes[name]
    out = np.zeros((*x.shape[:-1], rows if by_output else columns))
    # products so small that BLAS takes one thread: several would wait for one another where cores are busy
    step = max(1, min(SLICE_ENTRIES, _ONE_THREAD // max(1, x.size // max(1, x.shape[-1]))) // max(1, columns))
    for start in range(0, rows, step):
        part = parameters.rows(name, start, start + step)
        if by_output:
            out[..., start : start + step] = x @ part.T
        else:
            out += x[..., start : start + step] @ part
    if "bias" in op.parameters:
        out += _float64(parameters, op.parameters["bias"]).reshape(-1)
    return out


@evaluates("conv")
def _conv(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    x = inputs[0]
    weight = inputs[1] if len(inputs) > 1 else np.asarray(parameters[op.parameters["weight"]])
    weight = np.moveaxis(weight, (op.attributes["out_axis"], op.attributes["in_axis"]), (0, 1))
    spatial = x.ndim - 2
    groups = int(op.attributes.get("groups", 1))
    stride = _tuple(op.attributes.get("stride", 1), spatial)
    dilation = _tuple(op.attributes.get("dilation", 1), spatial)
    padding = _tuple(op.attributes.get("padding", 0), spatial)
    if op.attributes.get("transposed", False):
        behind = _tuple(op.attributes.get("output_padding", 0), spatial)
        out = _transposed_conv(x, weight, groups, stride, padding, dilation, behind)
    else:
        out = _direct_conv(x, weight, groups, stride, padding, dilation)
    if "bias" in op.parameters:
        out += _along(_float64(parameters, op.parameters["bias"]).reshape(-1), 1, out.ndim)
    return out


@evaluates("filter")
def _filter(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    (x,) = inputs
    kernel = np.asarray(op.attributes["kernel"], np.float64)
    steps = (_tuple(op.attributes.get(key, 0 if key == "padding" else 1), kernel.ndim) for key in _STEPS)
    return _direct_conv(x, np.broadcast_to(kernel, (x.shape[1], 1, *kernel.shape)), x.shape[1], *steps)


def _direct_conv(
    x: FloatArray,
    weight: FloatArray,
    groups: int,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
) -> FloatArray:
    """(N, I, S), (O, I/groups, K) -> (N, O, S'): windows laid out as columns, and one matrix product for many of them."""
    kernel = weight.shape[2:]
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in padding)])
    size = [(n - d * (k - 1) - 1) // s + 1 for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)]
    if min(size) < 1:
        raise Refused("the input is smaller than the kernel", code="not-evaluable")
    per_out, per_in, taps = weight.shape[0] // groups, weight.shape[1], prod(kernel)
    matrix = weight.reshape(groups, per_out, per_in * taps).astype(np.float64, copy=False)
    out = np.empty((x.shape[0], weight.shape[0], *size))
    step = max(1, _COLUMN_ENTRIES // max(1, x.shape[0] * x.shape[1] * taps * prod(size[1:])))
    for start in range(0, size[0], step):
        part = [min(step, size[0] - start), *size[1:]]
        columns = np.empty((groups, per_in, taps, x.shape[0], prod(part)))
        for number, position in enumerate(product(*(range(k) for k in kernel))):
            begins = [k * d for k, d in zip(position, dilation, strict=True)]
            begins[0] += start * stride[0]
            window = tuple(slice(b, b + (n - 1) * s + 1, s) for b, n, s in zip(begins, part, stride, strict=True))
            patch = x[(slice(None), slice(None), *window)].reshape(x.shape[0], groups, per_in, -1)
            columns[:, :, number] = patch.transpose(1, 2, 0, 3)
        made = matrix @ columns.reshape(groups, per_in * taps, -1)
        out[:, :, start : start + step] = made.reshape(weight.shape[0], x.shape[0], *part).swapaxes(0, 1)
    return out


def _transposed_conv(
    x: FloatArray,
    weight: FloatArray,
    groups: int,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    behind: tuple[int, ...],
) -> FloatArray:
    """(N, I, S), (O/groups, I, K) -> (N, O, S'): each input position adds the kernel into the output."""
    kernel = weight.shape[2:]
    per_out, per_in = weight.shape[0], weight.shape[1] // groups
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    size = [(n - 1) * s + r + b for n, s, r, b in zip(x.shape[2:], stride, reach, behind, strict=True)]
    out = np.zeros((x.shape[0], groups * per_out, *size))
    patch = x.reshape(x.shape[0], groups, per_in, -1)
    for position in product(*(range(k) for k in kernel)):
        tap: Any = (..., *position)
        taps = weight[tap].astype(np.float64).reshape(per_out, groups, per_in)
        part = np.matmul(taps.transpose(1, 0, 2), patch).reshape(x.shape[0], -1, *x.shape[2:])
        window = tuple(
            slice(k * d, k * d + (n - 1) * s + 1, s)
            for k, d, n, s in zip(position, dilation, x.shape[2:], stride, strict=True)
        )
        out[(slice(None), slice(None), *window)] += part
    crop = tuple(slice(p, n - p) for p, n in zip(padding, size, strict=True))
    return out[(slice(None), slice(None), *crop)]


@evaluates("batch_norm")
def _batch_norm(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    (x,) = inputs

    def channel(role: str) -> FloatArray:
        return _along(_float64(parameters, op.parameters[role]).reshape(-1), 1, x.ndim)

    out: FloatArray = (x - channel("running_mean")) / np.sqrt(channel("running_var") + op.attributes.get("eps", 1e-5))
    if "weight" in op.parameters:
        out *= channel("weight")
    if "bias" in op.parameters:
        out += channel("bias")
    return out


@evaluates("layer_norm")
def _layer_norm(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    (x,) = inputs
    axes = tuple(op.attributes.get("axes", (-1,)))
    centred = x - x.mean(axes, keepdims=True)
    out: FloatArray = centred / np.sqrt((centred**2).mean(axes, keepdims=True) + op.attributes.get("eps", 1e-5))
    if "weight" in op.parameters:
        out *= _float64(parameters, op.parameters["weight"])
    if "bias" in op.parameters:
        out += _float64(parameters, op.parameters["bias"])
    return out


@evaluates("pointwise")
def _pointwise(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    (x,) = inputs
    activation = ACTIVATIONS.get(op.attributes["function"])
    if activation is None:
        raise Refused(
            f"function {op.attributes['function']!r} cannot be evaluated", where=op.output, code="not-evaluable"
        )
    parameter: Any = op.attributes.get("omega", op.attributes.get("slope", activation.parameter))
    if "weight" in op.parameters:
        slopes = _float64(parameters, op.parameters["weight"]).reshape(-1)
        parameter = slopes[0] if slopes.size == 1 else _along(slopes, 1, x.ndim)
    return np.asarray(activation.formula(x, parameter))


@evaluates("max_pool", "average_pool")
def _pool(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    (x,) = inputs
    spatial, largest, at = x.ndim - 2, op.kind == "max_pool", op.attributes
    kernel = _tuple(at["kernel"], spatial)
    stride = _tuple(at.get("stride", kernel), spatial)
    padding = _tuple(at.get("padding", 0), spatial)
    dilation = _tuple(at.get("dilation", 1), spatial)
    size, extra = [], []
    for n, k, s, p, d in zip(x.shape[2:], kernel, stride, padding, dilation, strict=True):
        room = n + 2 * p - d * (k - 1) - 1
        count = (-(-room // s) if at.get("ceil") else room // s) + 1
        if at.get("ceil") and (count - 1) * s >= n + p:
            count -= 1  # the last window must start inside the input or its left padding
        size.append(count)
        extra.append(max(0, (count - 1) * s + d * (k - 1) + 1 - n - 2 * p))

    def windows(values: FloatArray) -> list[FloatArray]:
        return [
            values[
                (
                    slice(None),
                    slice(None),
                    *(
                        slice(k * d, k * d + (n - 1) * s + 1, s)
                        for k, d, n, s in zip(position, dilation, size, stride, strict=True)
                    ),
                )
            ]
            for position in product(*(range(k) for k in kernel))
        ]

    width = [(0, 0), (0, 0), *((p, p + e) for p, e in zip(padding, extra, strict=True))]
    if largest:
        return np.asarray(np.maximum.reduce(windows(np.pad(x, width, constant_values=-np.inf))))
    inner = [(0, 0), (0, 0), *((p, p) for p in padding)]
    counted = np.ones((1, 1, *x.shape[2:]))
    counted = np.pad(counted, inner, constant_values=1.0 if at.get("count_padding", True) else 0.0)
    counted = np.pad(counted, [(0, 0), (0, 0), *((0, e) for e in extra)])
    return np.asarray(sum(windows(np.pad(x, width))) / sum(windows(counted)))


@evaluates("pool")
def _pool_to_size(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    """Adaptive pooling, PyTorch's bins. "unknown" is run as max pooling, the choice that allows the least symmetry."""
    (x,) = inputs
    reduce = np.mean if op.attributes.get("statistic", "unknown") == "average" else np.max
    for axis, target in enumerate(op.attributes["size"], start=2):
        n = x.shape[axis]
        bins = [(i * n // target, -(-(i + 1) * n // target)) for i in range(target)]
        x = np.stack([reduce(x.take(range(low, high), axis), axis=axis) for low, high in bins], axis)
    return x


@evaluates("spatial_mean")
def _spatial_mean(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    (x,) = inputs
    return np.asarray(x.mean(axis=tuple(range(2, x.ndim))))


@evaluates("flatten")
def _flatten(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    (x,) = inputs
    if op.attributes.get("order", "channel_outer") == "channel_inner":
        x = np.moveaxis(x, 1, -1)
    return x.reshape(x.shape[0], -1)


@evaluates("add")
def _add(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    total = inputs[0]
    for value in inputs[1:]:
        total = total + value
    return total


@evaluates("concat")
def _concat(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    return np.concatenate(inputs, axis=op.attributes["axis"])


@evaluates("opaque")
def _opaque(op: Op, inputs: Sequence[FloatArray], parameters: Reader) -> FloatArray:
    """Some function of the inputs: what stays the same for an unknown function must stay the same for this one."""
    shape = op.attributes.get("shape")
    if shape is None or op.parameters or len(shape) != 2:
        raise Refused("part of the network is not known", where=op.output, code="not-evaluable")
    joined = np.concatenate([x.reshape(x.shape[0], -1) for x in inputs], axis=1)
    mixed = np.random.default_rng(joined.shape[1]).standard_normal((joined.shape[1], int(shape[1])))
    return np.asarray(np.tanh(joined @ mixed / np.sqrt(joined.shape[1])))
