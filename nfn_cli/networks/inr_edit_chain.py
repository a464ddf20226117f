"""networks/inr_edit_chain.py: an INR of sines as a list of layers, in the units in which it is edited. Torch; no file.

Edited are U = ω W and c = ω b of the sine layers, so that a layer is sin(U x + c) and its group acts by signs, permutations and
translations of c by multiples of π: isometries. Points are brought to [−1, 1] and values to black 0 and white 1 by changes of
the first and the last layer that the group commutes with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, Op
from nfn_cli.printable import printable


@dataclass(frozen=True, slots=True)
class Layer:
    """One linear layer. Attributes: weight, bias: names of its tensors; transposed: whether the weight is kept (in, out); omega: of
    the sine behind it, None for the last."""

    weight: str
    bias: str | None
    transposed: bool
    omega: float | None


@dataclass(frozen=True, slots=True)
class Frame:
    """How n networks are seen.

    Attributes:
        middle, half: (2,) or (n, 2); points are `middle + half · s` for s in [−1, 1]².
        low, high: (n,) values of black and white.
    """

    middle: Tensor
    half: Tensor
    low: Tensor
    high: Tensor


Layers = tuple[tuple[Tensor, Tensor], ...]  # weight (n, out, in), bias (n, out)


def sine_chain(graph: Graph) -> tuple[Layer, ...]:
    """The layers of a fully connected network of sines, in order.

    Raises:
        Refused: it is another network (code "not-sines").
    """
    found: list[Layer] = []
    open_layer: Op | None = None
    value = graph.inputs[0].name
    for op in graph.ops:
        if op.inputs != (value,):
            raise _not_sines("its layers do not follow one another")
        value = op.output
        if op.kind == "linear" and open_layer is None:
            open_layer = op
        elif op.kind == "pointwise" and open_layer is not None:
            function = op.attributes.get("function")
            if function != "sin" or op.parameters:
                raise _not_sines(f"it has the activation {printable(str(function))}")
            found.append(_layer(open_layer, float(op.attributes.get("omega", 1.0))))
            open_layer = None
        else:
            raise _not_sines(f"it has {printable(op.kind)} where a chain of linear layers and sines has none")
    if open_layer is None or not found:
        raise _not_sines("it does not end in a linear layer behind a sine")
    chain = (*found, _layer(open_layer, None))
    names = [name for layer in chain for name in (layer.weight, layer.bias) if name is not None]
    if len(set(names)) != len(names):
        raise _not_sines("two of its layers share weights")
    return chain


def _layer(op: Op, omega: float | None) -> Layer:
    return Layer(op.parameters["weight"], op.parameters.get("bias"), op.attributes["out_axis"] != 0, omega)


def _not_sines(reason: str) -> Refused:
    return Refused(
        f"only fully connected networks of sines can be edited: {reason}",
        fix="if its sines are not known as such: --activation sin --omega 30",
        code="not-sines",
    )


def to_layers(chain: Sequence[Layer], stacked: Mapping[str, Tensor], frame: Frame) -> Layers:
    """Tensors (n, *shape) by name -> layers in the units of editing."""
    layers: list[tuple[Tensor, Tensor]] = []
    for number, layer in enumerate(chain):
        weight = stacked[layer.weight]
        weight = weight.transpose(1, 2) if layer.transposed else weight
        bias = (
            weight.new_zeros(weight.shape[:2]) if layer.bias is None else stacked[layer.bias].reshape(weight.shape[:2])
        )
        if number == 0:
            bias = bias + (weight * frame.middle.reshape(-1, 1, 2)).sum(-1)
            weight = weight * frame.half.reshape(-1, 1, 2)
        if layer.omega is None:
            spread = (frame.high - frame.low)[:, None]
            layers.append((weight / spread[..., None], (bias - frame.low[:, None]) / spread))
        else:
            layers.append((weight * layer.omega, bias * layer.omega))
    return tuple(layers)


def moved(chain: Sequence[Layer], stacked: Mapping[str, Tensor], change: Layers, frame: Frame) -> dict[str, Tensor]:
    """The tensors after a change given in the units of editing; a layer without bias has no place for the bias's change."""
    out: dict[str, Tensor] = {}
    for number, (layer, (weight, bias)) in enumerate(zip(chain, change, strict=True)):
        if layer.omega is None:
            spread = (frame.high - frame.low)[:, None]
            weight, bias = weight * spread[..., None], bias * spread
        else:
            weight, bias = weight / layer.omega, bias / layer.omega
        if number == 0:
            weight = weight / frame.half.reshape(-1, 1, 2)
            bias = bias - (weight * frame.middle.reshape(-1, 1, 2)).sum(-1)
        old = stacked[layer.weight]
        out[layer.weight] = old + (weight.transpose(1, 2) if layer.transposed else weight)
        if layer.bias is not None:
            out[layer.bias] = stacked[layer.bias] + bias.reshape(stacked[layer.bias].shape)
    return out


def values_at(layers: Layers, points: Tensor) -> Tensor:
    """(n, channels, p) at points (n or 1, 2, p) in [−1, 1]²."""
    value = points.expand(len(layers[0][0]), -1, -1)
    for number, (weight, bias) in enumerate(layers):
        value = torch.baddbmm(bias[..., None], weight, value)
        if number < len(layers) - 1:
            value = torch.sin(value)
    return value
