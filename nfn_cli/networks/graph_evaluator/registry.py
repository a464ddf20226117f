"""networks/graph_evaluator/registry.py: what all parts of the torch evaluator share: the table of kinds, reading parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Op
from nfn_cli.printable import printable

CODE = "cannot-evaluate"


@dataclass(frozen=True)
class Parameters:
    """Tensors by name, brought to the dtype that the network is run in (differentiable); and where it is run."""

    tensors: Mapping[str, Tensor]
    dtype: torch.dtype
    device: torch.device

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.tensors:
            raise Refused("the tensor is missing", where=printable(name), code=CODE)
        return self.tensors[name].to(self.dtype)

    def vector(self, op: Op, role: str) -> Tensor | None:
        """(n,), or None where the op has no such parameter."""
        return self[op.parameters[role]].reshape(-1) if role in op.parameters else None


Evaluator = Callable[[Op, Sequence[Tensor], Parameters], Tensor]

EVALUATORS: dict[str, Evaluator] = {}


def evaluates(*kinds: str) -> Callable[[Evaluator], Evaluator]:
    def register(function: Evaluator) -> Evaluator:
        for kind in kinds:
            EVALUATORS[kind] = function
        return function

    return register


def along(vector: Tensor, axis: int, rank: int) -> Tensor:
    """(n,) -> (1, …, n, …, 1) with n on `axis` of `rank` axes."""
    return vector.reshape([-1 if position == axis % rank else 1 for position in range(rank)])


def each_axis(value: Any, count: int) -> list[int]:
    """One number for each of `count` axes, from one for all or one for each."""
    found = [int(value)] * count if isinstance(value, int) else [int(entry) for entry in value]
    if len(found) != count:
        raise ValueError(f"{len(found)} numbers for {count} axes")
    return found


def mean(x: Tensor, axes: Sequence[int]) -> Tensor:
    """Mean over the axes, which stay with length 1; over none of them the value itself."""
    return x.mean(tuple(axes), keepdim=True) if len(axes) else x
