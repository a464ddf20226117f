"""networks/graph_evaluator/whole_tensors.py: ops that move, combine and reduce whole tensors. Torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from types import MappingProxyType

import torch
from torch import Tensor

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Op
from nfn_cli.networks.graph_evaluator.registry import CODE, Parameters, along, evaluates, mean
from nfn_cli.printable import printable


@evaluates("flatten")
def _flatten(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    (x,) = inputs
    if op.attributes.get("order", "channel_outer") == "channel_inner":
        x = x.movedim(1, -1)
    return x.flatten(1)


@evaluates("add")
def _add(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    return reduce(torch.add, inputs)


@evaluates("mul")
def _mul(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    return reduce(torch.mul, inputs)


@evaluates("concat")
def _concat(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    return torch.cat(list(inputs), op.attributes["axis"])


@evaluates("scale")
def _scale(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    (x,) = inputs
    return x * along(parameters[op.parameters["weight"]], op.attributes["axis"], x.ndim)


@evaluates("scalar")
def _scalar(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    return inputs[0] * float(op.attributes.get("multiply", 1.0)) + float(op.attributes.get("add", 0.0))


@evaluates("parameter")
def _parameter(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    return parameters[op.parameters["value"]]


@evaluates("constant")
def _constant(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    return torch.tensor(op.attributes["value"], dtype=parameters.dtype, device=parameters.device)


@evaluates("reshape")
def _reshape(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    return inputs[0].reshape(tuple(op.attributes["shape"]))


@evaluates("permute")
def _permute(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    return inputs[0].permute(tuple(op.attributes["order"]))


@evaluates("expand")
def _expand(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    return inputs[0].expand(tuple(op.attributes["shape"]))


@evaluates("slice")
def _slice(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    (x,) = inputs
    axis, window = (
        op.attributes["axis"],
        slice(op.attributes["start"], op.attributes["stop"], op.attributes.get("step")),
    )
    places = range(*window.indices(x.shape[axis]))
    if places.step == 1:
        return x.narrow(axis, places.start, len(places))
    return x.index_select(axis, torch.as_tensor(list(places), dtype=torch.int64, device=x.device))


_STATISTICS: Mapping[str, Callable[[Tensor, tuple[int, ...]], Tensor]] = MappingProxyType(
    {
        "mean": mean,
        "sum": lambda x, axes: x.sum(axes, keepdim=True),
        "max": lambda x, axes: x.amax(axes, keepdim=True),
        "min": lambda x, axes: x.amin(axes, keepdim=True),
        "norm": lambda x, axes: torch.linalg.vector_norm(x, dim=axes, keepdim=True),
        "variance": lambda x, axes: mean((x - mean(x, axes)).square(), axes),
    }
)


@evaluates("reduce")
def _reduce(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    (x,) = inputs
    axes, statistic = tuple(op.attributes["axes"]), op.attributes["statistic"]
    if statistic not in _STATISTICS:
        raise Refused(f"the statistic {printable(statistic)!r} is not known", code=CODE)
    if not axes:  # an empty tuple means every axis to torch
        return _STATISTICS[statistic](x.unsqueeze(-1), (-1,)).squeeze(-1)
    return _STATISTICS[statistic](x, axes)


@evaluates("softmax")
def _softmax(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    return inputs[0].softmax(op.attributes["axis"])


@evaluates("matmul")
def _matmul(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    return inputs[0] @ inputs[1]


@evaluates("clip")
def _clip(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    low, high = op.attributes.get("low"), op.attributes.get("high")
    return inputs[0] if low is None and high is None else inputs[0].clamp(low, high)
