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
    | conv | (N, I, S) -> (N, O, S') | weight, bias? | out_axis, in_axis; the other axes are the kernel's in order; groups, stride, padding, dilation (ints or tuples) |
    | batch_norm | (N, C, S) -> same | weight?, bias?, running_mean, running_var | eps |
    | layer_norm | (N, …, C) -> same | weight?, bias? | eps, axes: normalized axes |
    | pointwise | any -> same | weight? (prelu slopes) | function: a name of `activations.ACTIVATIONS`; omega for sin; slope for leaky_relu |
    | max_pool, average_pool | (N, C, S) -> (N, C, S') | | kernel, stride, padding |
    | pool | (N, C, S) -> (N, C, *size) | | size: target spatial shape; statistic: "max", "average" or "unknown" (front ends that see only names know that the spatial shape changes, not how) |
    | spatial_mean | (N, C, S) -> (N, C) | | |
    | flatten | (N, C, S) -> (N, C·|S|) | | order: "channel_outer" (torch) or "channel_inner" (channels last); positions: |S| where known |
    | add | two or more of one shape -> same | | |
    | concat | (…, n_i, …)… -> (…, Σ n_i, …) | | axis |
    | opaque | any -> any with `shape` | any | shape, reason |
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
