"""networks/graph_evaluator/layers.py: linear layers, convolutions and normalizations in torch. Knows ops; no file."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Op
from nfn_cli.networks.graph_evaluator.registry import CODE, Parameters, along, each_axis, evaluates, mean

_EPS = 1e-5
_DIRECT = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


@evaluates("linear")
def _linear(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    (x,) = inputs
    weight = parameters[op.parameters["weight"]]
    return functional.linear(x, weight if op.attributes["out_axis"] == 0 else weight.T, parameters.vector(op, "bias"))


@evaluates("conv")
def _conv(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    x, at = inputs[0], op.attributes
    weight = inputs[1] if len(inputs) > 1 else parameters[op.parameters["weight"]]
    weight = weight.movedim((at["out_axis"], at["in_axis"]), (0, 1))
    bias, rank = parameters.vector(op, "bias"), x.ndim - 2
    stride, padding, dilation = (
        each_axis(at.get(name, default), rank) for name, default in (("stride", 1), ("padding", 0), ("dilation", 1))
    )
    groups = int(at.get("groups", 1))
    if at.get("transposed", False):
        behind = each_axis(at.get("output_padding", 0), rank)
        return _TRANSPOSED[rank](x, weight.transpose(0, 1), bias, stride, padding, behind, groups, dilation)
    return convolution(x, weight, bias, stride, padding, dilation, groups)


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """(N, I, S), (O, I/groups, K) -> (N, O, S').

    On a CPU planes are kept channels last: values follow the layout of the weight, and both float32 and float64 are
    then a quarter to a third faster.
    """
    if x.ndim == 4 and x.device.type == "cpu" and len(x):
        weight = weight.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    return _DIRECT[x.ndim - 2](x, weight, bias, stride, padding, dilation, groups)


@evaluates("batch_norm")
def _batch_norm(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    """One factor and one shift for each channel, so that the value is gone through once."""
    (x,) = inputs
    running_mean, running_var = parameters.vector(op, "running_mean"), parameters.vector(op, "running_var")
    if running_mean is None or running_var is None:
        raise Refused("a batch norm without running statistics", code=CODE)
    weight, bias = parameters.vector(op, "weight"), parameters.vector(op, "bias")
    factor = torch.rsqrt(running_var + op.attributes.get("eps", _EPS))
    factor = factor if weight is None else factor * weight
    shift = -running_mean * factor
    shift = shift if bias is None else shift + bias
    return torch.addcmul(along(shift, 1, x.ndim), x, along(factor, 1, x.ndim))


@evaluates("layer_norm")
def _layer_norm(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    out = _standardized(inputs[0], op.attributes.get("axes", (-1,)), op.attributes.get("eps", _EPS))
    if "weight" in op.parameters:
        out = out * parameters[op.parameters["weight"]]
    if "bias" in op.parameters:
        out = out + parameters[op.parameters["bias"]]
    return out


@evaluates("normalize")
def _normalize(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    (x,) = inputs
    groups, eps = op.attributes.get("groups"), op.attributes["eps"]
    if not groups:
        return _standardized(x, op.attributes["axes"], eps)
    return _standardized(x.reshape(x.shape[0], groups, prod(x.shape[1:]) // groups), (2,), eps).reshape(x.shape)


def _standardized(x: Tensor, axes: Sequence[int], eps: float) -> Tensor:
    centred = x - mean(x, axes)
    return centred * torch.rsqrt(mean(centred * centred, axes) + eps)


@evaluates("rms_normalize")
def _rms_normalize(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    (x,) = inputs
    return x * torch.rsqrt(mean(x * x, op.attributes["axes"]) + op.attributes["eps"])
