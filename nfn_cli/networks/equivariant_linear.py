"""networks/equivariant_linear.py: one engine for every equivariant linear layer: it reads a table of terms.

Knows degrees.py's table and torch; it does not know which group the table serves. Terms that write the same axes of the
same tensor are one matrix product: what they read, averaged, is laid side by side, and so are their matrices.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod, sqrt

import torch
from torch import Tensor, nn

from nfn_cli.networks.degrees import TensorName, Term, tensors_of, terms_of, units_of
from nfn_cli.networks.weight_features import ChainShape, WeightFeatures

# Fewer columns than this make a matrix product per row of the batch slower than copying into one.
_FEW_COLUMNS = 32


@dataclass(frozen=True, slots=True)
class Block:
    """Terms that write the same axes of the same tensor: numbers in the table; `constant` has no operand."""

    into: TensorName
    kept: tuple[bool, ...]
    terms: tuple[int, ...]
    constant: int | None


def blocks_of(terms: tuple[Term, ...]) -> tuple[Block, ...]:
    """The table in as few matrix products as it takes."""
    found: dict[tuple[TensorName, tuple[bool, ...]], list[int]] = {}
    for number, term in enumerate(terms):
        found.setdefault((term.into, term.kept), []).append(number)
    blocks = []
    for (into, kept), numbers in found.items():
        reading = tuple(n for n in numbers if terms[n].reads is not None)
        constant = next((n for n in numbers if terms[n].reads is None), None)
        blocks.append(Block(into, kept, reading, constant))
    return tuple(blocks)


class EquivariantLinear(nn.Module):
    """Linear map of weight features that commutes with the monomial group of a chain (DESIGN 2.5).

    Args:
        shape: widths of the chain; axes that do not move enter the number of parameters, others do not.
        group: a key of `degrees.GROUPS`.
        channels_in: channels of each tensor read.
        channels_out: channels of each tensor written, or one number for all.
    """

    def __init__(
        self,
        shape: ChainShape,
        group: str,
        channels_in: Mapping[TensorName, int],
        channels_out: Mapping[TensorName, int] | int,
    ) -> None:
        super().__init__()
        self.terms = terms_of(shape.depth, group)
        self.tensors = tensors_of(shape.depth)
        self.blocks = blocks_of(self.terms)
        written = dict.fromkeys(self.tensors, channels_out) if isinstance(channels_out, int) else channels_out
        self.channels_in, self.channels_out = dict(channels_in), dict(written)
        widths = shape.widths
        # Each output entry is a sum over everything its terms read, so the variance is shared among all of it.
        fan_in = dict.fromkeys(self.tensors, 0)
        for term in self.terms:
            if term.reads is not None:
                fan_in[term.into] += channels_in[term.reads] * prod(widths[units] for units in term.read)
        self.learned = nn.ParameterList()
        for term in self.terms:
            axes = tuple(widths[units] for units in term.learned)
            if term.reads is None:
                self.learned.append(nn.Parameter(torch.zeros(written[term.into], *axes)))
            else:
                spread = 1.0 / sqrt(fan_in[term.into])
                learned = torch.randn(written[term.into], channels_in[term.reads], *axes) * spread
                self.learned.append(nn.Parameter(learned))

    def forward(self, features: WeightFeatures) -> WeightFeatures:
        """(b, c_i, p, q), (b, c, p) -> the same with `channels_out` channels."""
        tensors = dict(zip(self.tensors, (*features.weights, *features.biases), strict=True))
        operands = _Operands(self.terms, tensors)
        sums: dict[TensorName, Tensor] = {}
        for block in self.blocks:
            value = self._value(block, operands, tensors)
            sums[block.into] = sums[block.into] + value if block.into in sums else value
        full = [sums[name].expand(len(features), -1, *tensors[name].shape[2:]) for name in self.tensors]
        depth = len(features.weights)
        return WeightFeatures(tuple(full[:depth]), tuple(full[depth:]))

    def _value(self, block: Block, operands: _Operands, tensors: Mapping[TensorName, Tensor]) -> Tensor:
        """Sum of the block's terms, with an axis of length 1 wherever it is repeated along the tensor written."""
        any_term = self.terms[block.terms[0] if block.terms else block.constant or 0]
        size = dict(zip(units_of(block.into), tensors[block.into].shape[2:], strict=True))
        written = [size[units] for units in any_term.written]
        value = operands.batch.new_zeros(())
        if block.terms:
            matrix = torch.cat([self._matrix(number) for number in block.terms], 1)
            value = _product(matrix, operands.side_by_side(block.terms))
        if block.constant is not None:
            value = value + self.learned[block.constant].reshape(1, -1, 1)
        tied = [size[units] for units in any_term.tied]
        value = value.reshape(value.shape[0], -1, *written, *tied)
        present = (*any_term.written, *any_term.tied)
        order = [2 + present.index(units) for units in units_of(block.into) if units in present]
        value = value.permute(0, 1, *order)
        for axis, kept in enumerate(block.kept):
            if not kept:
                value = value.unsqueeze(2 + axis)
        return value

    def _matrix(self, number: int) -> Tensor:
        """Learned (d, c, written axes, read axes) -> (d · written, c · read)."""
        learned: Tensor = self.learned[number]
        count = len(self.terms[number].written)
        if count:  # the channels read go behind the axes written
            learned = learned.permute(0, *range(2, 2 + count), 1, *range(2 + count, learned.ndim))
        return learned.reshape(prod(learned.shape[: 1 + count]), -1)


def equivariant_stack(
    shape: ChainShape, group: str, widths: tuple[int, ...], per_position: bool
) -> Iterator[EquivariantLinear]:
    """Layers from a raw chain through features of `widths` channels (times kernel positions on weights, if so asked)."""
    names = tensors_of(shape.depth)
    positions = {name: shape.positions[name.layer - 1] if name.kind == "weight" else 1 for name in names}
    channels = positions
    for width in widths:
        written = {name: width * (positions[name] if per_position else 1) for name in names}
        yield EquivariantLinear(shape, group, channels, written)
        channels = written


class _Operands:
    """What terms read, averaged and laid out as (b, channels · axes that do not move, tied axes), each computed once."""

    def __init__(self, terms: tuple[Term, ...], tensors: Mapping[TensorName, Tensor]) -> None:
        self.terms = terms
        self.tensors = tensors
        self.batch = next(iter(tensors.values()))
        self.done: dict[tuple[TensorName | None, tuple[int, ...]], Tensor] = {}
        self.joined: dict[tuple[tuple[TensorName | None, tuple[int, ...]], ...], Tensor] = {}

    def side_by_side(self, numbers: tuple[int, ...]) -> Tensor:
        """(b, sum of what the terms read, tied axes)."""
        parts = [self._one(self.terms[number]) for number in numbers]
        if len(parts) == 1:
            return parts[0]
        key = tuple((self.terms[number].reads, self.terms[number].tied) for number in numbers)
        if key not in self.joined:
            self.joined[key] = torch.cat(parts, 1)
        return self.joined[key]

    def _one(self, term: Term) -> Tensor:
        key = (term.reads, term.tied)
        if key not in self.done:
            assert term.reads is not None
            tensor, units = self.tensors[term.reads], list(units_of(term.reads))
            if term.averaged:
                tensor = tensor.mean([2 + units.index(u) for u in term.averaged])
                units = [u for u in units if u not in term.averaged]
            order = [units.index(u) for u in (*term.read, *term.tied)]
            if order != sorted(order):
                tensor = tensor.permute(0, 1, *(2 + axis for axis in order))
            count = 2 + len(term.read)
            channels, tied = prod(tensor.shape[1:count]), prod(tensor.shape[count:])
            self.done[key] = tensor.reshape(tensor.shape[0], channels, tied)
        return self.done[key]


def _product(matrix: Tensor, operand: Tensor) -> Tensor:
    """(m, k), (b, k, t) -> (b, m, t). Few columns: one product over the whole batch, where a product each is too small."""
    if operand.shape[2] <= _FEW_COLUMNS:
        return torch.nn.functional.linear(operand.transpose(1, 2), matrix).transpose(1, 2)
    return torch.matmul(matrix, operand)
