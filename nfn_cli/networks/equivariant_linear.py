"""networks/equivariant_linear.py: one engine for every equivariant linear layer: it reads a table of terms.

Knows degrees.py's table and torch; it does not know which group the table serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod, sqrt

import torch
from torch import Tensor, nn

from nfn_cli.networks.degrees import TensorName, Term, tensors_of, terms_of
from nfn_cli.networks.weight_features import ChainShape, WeightFeatures


class EquivariantLinear(nn.Module):
    """Linear map of weight features that commutes with the monomial group of a chain (DESIGN 2.5).

    Args:
        shape: widths of the chain; the outermost axes enter the number of parameters, hidden ones do not.
        group: a key of `degrees.GROUPS`.
        channels_in: channels of each tensor read.
        channels_out: channels of every tensor written.
    """

    def __init__(self, shape: ChainShape, group: str, channels_in: Mapping[TensorName, int], channels_out: int) -> None:
        super().__init__()
        self.terms = terms_of(shape.depth, group)
        self.tensors = tensors_of(shape.depth)
        self.learned = nn.ParameterList()
        # Each output entry is a sum over everything its terms read, so the variance is shared among all of it.
        fan_in = dict.fromkeys(self.tensors, 0)
        read_size = {}
        for number, term in enumerate(self.terms):
            if term.reads is not None:
                fixed_written = sum(1 for units in _fixed_of(term.into, shape.depth))
                read_size[number] = channels_in[term.reads] * prod(
                    shape.widths[units] for units in term.learned[fixed_written:]
                )
                fan_in[term.into] += read_size[number]
        self._scales = []
        for term in self.terms:
            axes = tuple(shape.widths[units] for units in term.learned)
            if term.reads is None:
                self.learned.append(nn.Parameter(torch.zeros(channels_out, *axes)))
            else:
                spread = 1.0 / sqrt(fan_in[term.into])
                self.learned.append(nn.Parameter(torch.randn(channels_out, channels_in[term.reads], *axes) * spread))
            self._scales.append(1.0 / prod(shape.widths[units] for units in term.averaged))

    def forward(self, features: WeightFeatures) -> WeightFeatures:
        """(b, c_i, p, q), (b, c, p) -> the same with `channels_out` channels."""
        tensors = dict(zip(self.tensors, (*features.weights, *features.biases), strict=True))
        sums: dict[TensorName, Tensor] = {}
        for term, learned, scale in zip(self.terms, self.learned, self._scales, strict=True):
            part = _term_value(term, learned, tensors, scale)
            sums[term.into] = sums[term.into] + part if term.into in sums else part
        full = {
            name: total.expand(len(features), -1, *tensors[name].shape[2:]).contiguous() for name, total in sums.items()
        }
        depth = len(features.weights)
        return WeightFeatures(
            tuple(full[name] for name in self.tensors[:depth]), tuple(full[name] for name in self.tensors[depth:])
        )


def _fixed_of(tensor: TensorName, depth: int) -> tuple[int, ...]:
    touched = (tensor.layer, tensor.layer - 1) if tensor.kind == "weight" else (tensor.layer,)
    return tuple(units for units in touched if not 0 < units < depth)


def _term_value(term: Term, learned: Tensor, tensors: Mapping[TensorName, Tensor], scale: float) -> Tensor:
    """Value of one term, with an axis of length 1 wherever it is repeated along `into`."""
    if term.reads is None:
        value = learned[None]
    else:
        value = torch.einsum(term.equation, learned, tensors[term.reads])
        value = value if scale == 1.0 else value * scale
    for axis, kept in enumerate(term.kept):
        if not kept:
            value = value.unsqueeze(2 + axis)
    return value
