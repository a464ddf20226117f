"""graph/model.py: the one language all front ends speak: ops over named values and named tensors. No file, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

_EMPTY: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Op:
    """One operation. `kind` is a word of the vocabulary below; anything else is allowed and will be treated as opaque.

    Vocabulary (value shapes; N is the batch axis, S stands for any number of spatial axes):

    | kind | inputs -> output | parameters (role: tensor name) | attributes |
    | --- | --- | --- | --- |
    | linear | (N, …, I) -> (N, …, O) | weight, bias? | out_axis, in_axis: axes of the weight |
    | conv | (N, I, S) -> (N, O, S') | weight, bias?; a computed weight is the second input | out_axis, in_axis; the other axes are the kernel's in order; groups, stride, padding, dilation (ints or tuples); transposed, output_padding |
    | batch_norm | (N, C, S) -> same | weight?, bias?, running_mean, running_var | eps |
    | layer_norm | (N, …, C) -> same | weight?, bias? | eps, axes: normalized axes |
    | pointwise | any -> same | weight? (prelu slopes) | function: a name of `activations.ACTIVATIONS`; omega where it has a frequency; slope for leaky_relu |
    | max_pool, average_pool | (N, C, S) -> (N, C, S') | | kernel, stride, padding, dilation, ceil, count_padding |
    | pool | (N, C, S) -> (N, C, *size) | | size: target spatial shape; statistic: "max", "average" or "unknown" (front ends that see only names know that the spatial shape changes, not how) |
    | spatial_mean | (N, C, S) -> (N, C) | | |
    | flatten | (N, C, S) -> (N, C·|S|) | | order: "channel_outer" (torch) or "channel_inner" (channels last); positions: |S| where known |
    | add, mul | two or more, broadcast -> their common shape | | |
    | scale | any -> same | weight: one factor for each slot of an axis | axis |
    | scalar | any -> same | | multiply, add: y = multiply·x + add |
    | normalize | any -> same, mean 0 and variance 1 over `axes` | | axes, eps; groups: axis 1 is cut into so many first |
    | rms_normalize | any -> same, mean square 1 over `axes` | | axes, eps |
    | parameter | -> the tensor itself | value | trained: False for buffers |
    | constant | -> numbers that no file holds | | value: nested lists |
    | reshape | any -> shape | | shape |
    | permute | any -> axes in another order | | order |
    | expand | size-1 axes repeated -> shape | | shape |
    | slice | any -> part of one axis | | axis, start, stop, step |
    | pad | any -> larger | | before, after (per axis); value, or mode: "reflect", "replicate", "circular" |
    | filter | (N, C, S) -> (N, C, S') | | kernel: nested lists, one kernel for every channel alone; stride, padding, dilation |
    | reduce | any -> axes of size 1 | | axes, statistic: mean, sum, max, min, norm or variance |
    | resize | (N, C, S) -> (N, C, *size) | | size, mode: nearest or linear, align_corners |
    | softmax | any -> same | | axis |
    | matmul | (…, I, K), (…, K, J) -> (…, I, J) | | |
    | clip | any -> same | | low, high |
    | concat | (…, n_i, …)… -> (…, Σ n_i, …) | | axis |
    | opaque | any -> any with `shape` | any | shape, reason |

    An op that has no symmetry rule carries `shape`, the shape of its output, so that what follows can be typed.
    """  # noqa: E501

    kind: str
    inputs: tuple[str, ...]
    output: str
    parameters: Mapping[str, str] = field(default_factory=lambda: _EMPTY)
    attributes: Mapping[str, Any] = field(default_factory=lambda: _EMPTY)


@dataclass(frozen=True)
class GraphInput:
    """A value fed from outside: shape with the batch axis first; None is an axis of any size (batch, spatial)."""

    name: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class Graph:
    """Ops in topological order over named values.

    Attributes:
        inputs: values fed from outside.
        ops: each value is written once, before it is read.
        outputs: names of the values that are the network's answer.
        parameter_shapes: shape of every tensor an op names.
    """

    inputs: tuple[GraphInput, ...]
    ops: tuple[Op, ...]
    outputs: tuple[str, ...]
    parameter_shapes: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Network:
    """One network of a checkpoint: its graph and how its activation became known.

    Attributes:
        name: common prefix of its tensors in the file ("" when the file holds one network).
        family: "mlp" or "cnn".
        graph: parameters are named as in `Checkpoint.tensors`.
        activation: functions in use, in order of first use; empty when there is no hidden unit.
        activation_source: "option --activation", "metadata", "config.json", …
        notes: what a reader of the report should know (assumptions on the safe side, tensors not used).
    """

    name: str
    family: str
    graph: Graph
    activation: tuple[str, ...] = ()
    activation_source: str = ""
    notes: tuple[str, ...] = ()
