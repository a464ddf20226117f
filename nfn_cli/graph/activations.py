"""graph/activations.py: the one table of pointwise functions: their formulas and what each lets pass. No torch.

`degree` k means σ(c·z) = c^k σ(z) for every c > 0. `parity` "odd" means σ(−z) = −σ(z), "even" means σ(−z) = σ(z).
`periodic` means σ(ω(z + π/ω)) = −σ(ωz): the phase shifts of sin and cos. What is None is not claimed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from nfn_cli.errors import WrongUsage

FloatArray = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Activation:
    """One pointwise function.

    Attributes:
        name: canonical name.
        formula: float64 array -> float64 array; `parameter` is ω where there is a frequency, the slope for leaky_relu and
            prelu.
        degree: positive homogeneity degree, or None.
        parity: "odd", "even" or None.
        periodic: whether phase shifts by π/ω exist.
        frequency: whether the function has a frequency ω that is a matter of the network, not of its tensors.
        parameter: default of the formula's second argument.
    """

    name: str
    formula: Callable[[FloatArray, Any], FloatArray]
    degree: int | None = None
    parity: str | None = None
    periodic: bool = False
    frequency: bool = False
    parameter: float = 0.0


def _sigmoid(z: FloatArray) -> FloatArray:
    return 0.5 * (1.0 + np.tanh(0.5 * z))


def _erf(z: FloatArray) -> FloatArray:
    from scipy.special import erf

    return np.asarray(erf(z))


def _softplus(z: FloatArray) -> FloatArray:
    return np.logaddexp(0.0, z)


def _elu(z: FloatArray, alpha: float = 1.0) -> FloatArray:
    return np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0.0)))


_SELU_SCALE, _SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

ACTIVATIONS: MappingProxyType[str, Activation] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            Activation("identity", lambda z, _: z, degree=1, parity="odd"),
            Activation("relu", lambda z, _: np.maximum(z, 0.0), degree=1),
            Activation("leaky_relu", lambda z, a: np.where(z > 0, z, a * z), degree=1, parameter=0.01),
            Activation("prelu", lambda z, a: np.where(z > 0, z, a * z), degree=1, parameter=0.25),
            Activation("squared_relu", lambda z, _: np.maximum(z, 0.0) ** 2, degree=2),
            Activation("tanh", lambda z, _: np.tanh(z), parity="odd"),
            Activation("sin", lambda z, w: np.sin(w * z), parity="odd", periodic=True, frequency=True, parameter=1.0),
            # FINER (Liu et al. 2024): sin(ω(|z| + 1)z). |z| + 1 changes the period from place to place: no phase shifts.
            Activation(
                "finer", lambda z, w: np.sin(w * (np.abs(z) + 1.0) * z), parity="odd", frequency=True, parameter=1.0
            ),
            # sin(ωz)/(ωz), 1 at 0; the denominator leaves no phase shifts
            Activation("sinc", lambda z, w: np.sinc(w * z / np.pi), parity="even", frequency=True, parameter=1.0),
            Activation("erf", lambda z, _: _erf(z), parity="odd"),
            Activation("softsign", lambda z, _: z / (1.0 + np.abs(z)), parity="odd"),
            Activation("hardtanh", lambda z, _: np.clip(z, -1.0, 1.0), parity="odd"),
            Activation("arctan", lambda z, _: np.arctan(z), parity="odd"),
            Activation("tanhshrink", lambda z, _: z - np.tanh(z), parity="odd"),
            Activation("asinh", lambda z, _: np.arcsinh(z), parity="odd"),
            Activation("abs", lambda z, _: np.abs(z), degree=1, parity="even"),
            Activation("square", lambda z, _: z * z, degree=2, parity="even"),
            Activation("cos", lambda z, w: np.cos(w * z), parity="even", periodic=True, frequency=True, parameter=1.0),
            Activation("gaussian", lambda z, _: np.exp(-(z * z)), parity="even"),
            Activation("sigmoid", lambda z, _: _sigmoid(z)),
            Activation("gelu", lambda z, _: 0.5 * z * (1.0 + _erf(z / np.sqrt(2.0)))),
            Activation(
                "gelu_tanh", lambda z, _: 0.5 * z * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (z + 0.044715 * z**3)))
            ),
            Activation("silu", lambda z, _: z * _sigmoid(z)),
            Activation("elu", lambda z, _: _elu(z)),
            Activation("celu", lambda z, _: _elu(z)),
            Activation("selu", lambda z, _: _SELU_SCALE * _elu(z, _SELU_ALPHA)),
            Activation("mish", lambda z, _: z * np.tanh(_softplus(z))),
            Activation("softplus", lambda z, _: _softplus(z)),
            Activation("relu6", lambda z, _: np.clip(z, 0.0, 6.0)),
            Activation("hardswish", lambda z, _: z * np.clip(z / 6.0 + 0.5, 0.0, 1.0)),
            Activation("hardsigmoid", lambda z, _: np.clip(z / 6.0 + 0.5, 0.0, 1.0)),
            Activation("exp", lambda z, _: np.exp(z)),
            Activation("log", lambda z, _: np.log(z)),
            Activation("sqrt", lambda z, _: np.sqrt(z)),
            Activation("rsqrt", lambda z, _: 1.0 / np.sqrt(z)),
            Activation("reciprocal", lambda z, _: 1.0 / z, degree=-1, parity="odd"),
            Activation("logsigmoid", lambda z, _: -_softplus(-z)),
        )
    }
)

# Spellings met in the wild: torch class names, Keras and JAX names. Compared in lower case without "_", "-" and blanks.
_ALIASES = MappingProxyType(
    {
        "none": "identity",
        "linear": "identity",
        "lrelu": "leaky_relu",
        "relu2": "squared_relu",
        "swish": "silu",
        "sine": "sin",
        "siren": "sin",
        "sinelayer": "sin",
        "sirenlayer": "sin",
        "sinusoid": "sin",
        "sinusoidal": "sin",
        "finerlayer": "finer",
        "logistic": "sigmoid",
        "atan": "arctan",
        "absolute": "abs",
        "gauss": "gaussian",
        "gausslayer": "gaussian",
        "gaussianlayer": "gaussian",
        "gaussianactivation": "gaussian",
        "cosine": "cos",
        "gelunew": "gelu_tanh",
        "geluapproximate": "gelu_tanh",
    }
)


def _folded(name: str) -> str:
    return "".join(ch for ch in name.lower() if ch.isalnum())


_BY_FOLDED = MappingProxyType({_folded(name): name for name in ACTIVATIONS} | dict(_ALIASES))


def activation_name(spelling: str) -> str:
    """Canonical name for any known spelling ("torch.nn.modules.activation.LeakyReLU" -> "leaky_relu").

    Raises:
        WrongUsage: the spelling is unknown; the message lists the known names.
    """
    last = spelling.strip().strip("<>'\" ").rsplit(".", 1)[-1]
    name = _BY_FOLDED.get(_folded(last))
    if name is None:
        raise WrongUsage(
            f"unknown activation {spelling!r}",
            fix=f"known: {', '.join(ACTIVATIONS)}",
            code="unknown-activation",
        )
    return name
