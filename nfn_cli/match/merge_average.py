"""match/merge_average.py: weighted means of networks whose tensors go by one set of names. No alignment, no torch, no file.

A group element acts on every tensor by an affine map (factors, an offset for running variances, phases added to biases), and
weights that sum to 1 commute with affine maps: the mean of members that are in one frame is the same network in every frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from nfn_cli.checkpoint.dtypes import cast_back, is_floating
from nfn_cli.errors import Refused, WrongUsage
from nfn_cli.printable import printable

Array = np.ndarray[Any, np.dtype[Any]]
Tensors = Mapping[str, Array]


def shares(weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
    """The weights over their sum; equal ones where none are given.

    Raises:
        WrongUsage: not one positive, finite number for each of `count` networks.
    """
    given = [1.0] * count if weights is None else [float(weight) for weight in weights]
    if len(given) != count:
        raise WrongUsage(f"{len(given)} weights for {count} networks", fix="one for each, in their order")
    if not all(isfinite(weight) and weight > 0 for weight in given):
        raise WrongUsage("weights must be positive, finite numbers")
    largest = max(given)  # the sum of finite numbers may be infinite
    scaled = [weight / largest for weight in given]
    return tuple(weight / sum(scaled) for weight in scaled)


def averaged(members: Sequence[Tensors], weights: Sequence[float], names: Iterable[str]) -> dict[str, Array]:
    """Σ weight · θ of the named tensors, in float64; what is not a float comes from the first member as it is.

    Raises:
        Refused: tensors of one name have different shapes (code "different-architectures").
    """
    return {name: _mean([member[name] for member in members], weights, name) for name in names}


def _mean(arrays: Sequence[Array], weights: Sequence[float], name: str) -> Array:
    first = arrays[0]
    if not is_floating(first.dtype) or first.dtype.kind == "c":
        return first
    total = np.zeros(first.shape)
    for array, weight in zip(arrays, weights, strict=True):
        if array.shape != first.shape:
            shapes = " and ".join(str(tuple(each.shape)) for each in (first, array))
            raise Refused(f"tensors of shape {shapes}", where=printable(name), code="different-architectures")
        if weight:
            total += weight * array.astype(np.float64)
    return total


def stored(tensors: Tensors, like: Tensors) -> dict[str, Array]:
    """The tensors in the element types of `like`.

    Raises:
        Refused: a number is too large for its type (code "overflow").
    """
    out = {}
    for name, array in tensors.items():
        try:
            out[name] = cast_back(array, like[name].dtype)
        except Refused as error:
            raise error.located(printable(name)) from None
    return out
