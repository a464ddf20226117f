"""networks/graph_evaluator/pointwise.py: the functions of graph/activations.py in torch, to full precision and differentiable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional

from nfn_cli.errors import Refused
from nfn_cli.graph.activations import ACTIVATIONS
from nfn_cli.graph.model import Op
from nfn_cli.networks.graph_evaluator.registry import CODE, Parameters, along, evaluates
from nfn_cli.printable import printable

Formula = Callable[[Tensor, float | Tensor], Tensor]


def _softplus(z: Tensor) -> Tensor:
    """torch goes over to z at 20, where float64 still tells the two apart; at 40 it no longer does."""
    return functional.softplus(z, threshold=40.0)


def _sloped(z: Tensor, slope: float | Tensor) -> Tensor:
    return torch.where(z > 0, z, slope * z)


# The second argument is ω where there is a frequency, the slope for leaky_relu and prelu.
FORMULAS: Mapping[str, Formula] = MappingProxyType(
    {
        "identity": lambda z, _: z,
        "relu": lambda z, _: torch.relu(z),
        "leaky_relu": _sloped,
        "prelu": _sloped,
        "squared_relu": lambda z, _: torch.relu(z).square(),
        "tanh": lambda z, _: torch.tanh(z),
        "sin": lambda z, w: torch.sin(w * z),
        "finer": lambda z, w: torch.sin(w * (torch.abs(z) + 1.0) * z),
        "sinc": lambda z, w: torch.sinc(w * z / torch.pi),
        "erf": lambda z, _: torch.erf(z),
        "softsign": lambda z, _: functional.softsign(z),
        "hardtanh": lambda z, _: torch.clamp(z, -1.0, 1.0),
        "arctan": lambda z, _: torch.arctan(z),
        "tanhshrink": lambda z, _: z - torch.tanh(z),
        "asinh": lambda z, _: torch.asinh(z),
        "abs": lambda z, _: torch.abs(z),
        "square": lambda z, _: torch.square(z),
        "cos": lambda z, w: torch.cos(w * z),
        "gaussian": lambda z, _: torch.exp(-torch.square(z)),
        "sigmoid": lambda z, _: torch.sigmoid(z),
        "gelu": lambda z, _: functional.gelu(z),
        "gelu_tanh": lambda z, _: functional.gelu(z, approximate="tanh"),
        "silu": lambda z, _: functional.silu(z),
        "elu": lambda z, _: functional.elu(z),
        "celu": lambda z, _: functional.celu(z),
        "selu": lambda z, _: functional.selu(z),
        "mish": lambda z, _: z * torch.tanh(_softplus(z)),
        "softplus": lambda z, _: _softplus(z),
        "relu6": lambda z, _: torch.clamp(z, 0.0, 6.0),
        "hardswish": lambda z, _: z * torch.clamp(z / 6.0 + 0.5, 0.0, 1.0),
        "hardsigmoid": lambda z, _: torch.clamp(z / 6.0 + 0.5, 0.0, 1.0),
        "exp": lambda z, _: torch.exp(z),
        "log": lambda z, _: torch.log(z),
        "sqrt": lambda z, _: torch.sqrt(z),
        "rsqrt": lambda z, _: torch.rsqrt(z),
        "reciprocal": lambda z, _: torch.reciprocal(z),
        "logsigmoid": lambda z, _: -_softplus(-z),
    }
)


@evaluates("pointwise")
def _pointwise(op: Op, inputs: Sequence[Tensor], parameters: Parameters) -> Tensor:
    (x,) = inputs
    name = op.attributes["function"]
    formula = FORMULAS.get(name)
    if formula is None:
        raise Refused(f"the function {printable(name)!r} is not known", code=CODE)
    slopes = parameters.vector(op, "weight")
    if slopes is not None:
        return formula(x, slopes[0] if len(slopes) == 1 else along(slopes, 1, x.ndim))
    return formula(x, op.attributes.get("omega", op.attributes.get("slope", ACTIVATIONS[name].parameter)))
