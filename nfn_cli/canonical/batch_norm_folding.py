"""canonical/batch_norm_folding.py: batch norms taken up by the layers before them. Arrays and graphs in, arrays and graphs out.

The program that loads the file still has its batch norms, so their tensors stay, as the identity: mean 0, variance 1,
γ = √(1 + ε), and β = 0; where the layer has no bias, its shift is left in β. In the graph that is canonicalized the norm is gone,
and β is the bias of the layer: so a folded network has the canonical form of a network without batch norms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nfn_cli.canonical.norm_pairs import Array, NormPair, Tensors, factors, norm_pairs, scaled, vector
from nfn_cli.graph.model import Network
from nfn_cli.printable import printable
from nfn_cli.symmetry.element import FloatArray


@dataclass(frozen=True)
class Folded:
    """Networks without the batch norms that their layers took up.

    Attributes:
        networks: graphs over the same tensor names.
        tensors: those that changed, in the shapes and dtypes they had.
        layers: weights that took up a norm.
        notes: which batch norms stay, and why.
    """

    networks: tuple[Network, ...]
    tensors: Mapping[str, Array]
    layers: tuple[str, ...]
    notes: tuple[str, ...]


def fold_batch_norms(networks: Sequence[Network], tensors: Tensors, aliases: Mapping[str, str]) -> Folded:
    """Fold every batch norm that stands directly behind a linear layer or convolution (Jacob et al. 2018, arXiv 1712.05877, 3.2).

    W → W·γ/√(var + ε) and b → (b − mean)·γ/√(var + ε) + β. What is the identity already is left as it is, to the bit.
    """
    pairs, others = norm_pairs(networks, aliases)
    changed: dict[str, Array] = {}
    taken, left = [], list(others)
    for pair in pairs:
        reason = _why_not(pair, tensors)
        if reason is None:
            changed |= _folded(pair, tensors)
            taken.append(pair)
        else:
            left.append((pair.roles["running_var"], reason))
    return Folded(
        tuple(_without(network, [p for p in taken if p.network == n]) for n, network in enumerate(networks)),
        changed,
        tuple(pair.weight for pair in taken),
        _notes(left),
    )


def _why_not(pair: NormPair, tensors: Tensors) -> str | None:
    if not pair.eps_known:
        return "its ε is not in the file"
    if pair.bias is None and "bias" not in pair.roles:
        return "neither it nor the layer before it has a bias for the shift"
    if not np.isfinite(factors(pair, tensors)).all():
        return "a variance is not positive"
    return None


def _folded(pair: NormPair, tensors: Tensors) -> dict[str, Array]:
    identity, roles = _identity(pair, tensors), pair.roles
    if all(np.array_equal(tensors[roles[role]], value) for role, value in identity.items()):
        factor = np.ones(identity["running_var"].size)  # what rounding of √(1 + ε) left is not folded again
        changed: dict[str, Array] = {}
    else:
        factor = factors(pair, tensors)
        changed = {roles[role]: value for role, value in identity.items()}
        changed[pair.weight] = scaled(tensors[pair.weight], pair, factor)
    shift = -vector(tensors, roles["running_mean"]) * factor
    if "bias" in roles:
        shift += vector(tensors, roles["bias"])
    holder = roles["bias"] if pair.bias is None else pair.bias
    if pair.bias is not None:
        shift += vector(tensors, pair.bias) * factor
        if "bias" in roles:
            changed[roles["bias"]] = np.zeros_like(tensors[roles["bias"]])
    changed[holder] = _cast(shift, tensors[holder])
    return changed


def _identity(pair: NormPair, tensors: Tensors) -> dict[str, Array]:
    """Statistics and γ of a norm that does nothing, in the dtypes of this one."""
    root = {"weight": np.sqrt(1.0 + pair.eps), "running_mean": 0.0, "running_var": 1.0}
    if "weight" not in pair.roles:
        root = {"running_mean": 0.0, "running_var": 1.0 - pair.eps}
    return {role: np.full_like(tensors[pair.roles[role]], value) for role, value in root.items()}


def _cast(values: FloatArray, like: Array) -> Array:
    with np.errstate(over="ignore"):
        return np.asarray(values.reshape(like.shape).astype(like.dtype))


def _without(network: Network, pairs: Sequence[NormPair]) -> Network:
    """The network without the norms of these pairs; a layer without bias takes β for its own."""
    ops: list[Any] = list(network.graph.ops)
    unread: set[str] = set()
    for pair in pairs:
        layer, norm = ops[pair.layer], ops[pair.norm]
        parameters = dict(layer.parameters)
        if pair.bias is None:
            parameters["bias"] = norm.parameters["bias"]
        unread |= set(norm.parameters.values()) - set(parameters.values())
        ops[pair.layer] = replace(layer, output=norm.output, parameters=parameters)
        ops[pair.norm] = None
    shapes = {name: shape for name, shape in network.graph.parameter_shapes.items() if name not in unread}
    kept = tuple(op for op in ops if op is not None)
    return replace(network, graph=replace(network.graph, ops=kept, parameter_shapes=shapes))


def _notes(left: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """One line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for tensor, reason in left:
        by_reason.setdefault(reason, []).append(printable(tensor.rpartition(".")[0] or tensor))
    return tuple(f"batch norm not folded at {listed(names)}: {reason}" for reason, names in by_reason.items())


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names in a sentence, and how many more."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")
