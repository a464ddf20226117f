"""canonical/norms/report.py: norms of every layer and what the literature makes of them, raw and orbit-invariant. No file.

Raw norms are those of the weights as they stand; they move under rescaling while the function does not. Invariant ones are those
of the balanced form, the member of the orbit with the least Σ‖W‖², and path norms: every member of the orbit has the same.
That least sum counts biases and the γ, β of batch norms beside the weights; with norms folded in it need not be the least.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite, log10, sqrt
from typing import Any

import numpy as np

from nfn_cli.canonical.norms.layers import Layer, Tensors, layers, measured
from nfn_cli.canonical.norms.path_norm import Unmeasured, path_input, path_norm
from nfn_cli.canonical.refinement import Refinement
from nfn_cli.canonical.scale import log_scales
from nfn_cli.checkpoint.finite import check_finite
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.graph.model import Network
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import identity
from nfn_cli.symmetry.solve import Symmetry, find_symmetry

EXPLANATION = (
    "raw norms are of the weights as they stand and move when units are rescaled, though the function stays; "
    "invariant norms are of the balanced form, and path norms: no rescaling, permutation, sign or phase moves them"
)


@dataclass(frozen=True)
class Measures:
    """Norms of all layers in one number each; the product of spectral norms goes over all layers, whatever the wiring.

    Attributes:
        squared_frobenius_sum: Σ‖W‖_F².
        log10_frobenius_product: log10 Π‖W‖_F (Neyshabur et al. 2015).
        log10_spectral_product: log10 Π‖W‖₂ (Bartlett et al. 2017; Jiang et al. 2020, "prod-of-spec" without its square).
        stable_rank_sum: Σ‖W‖_F²/‖W‖₂² (Jiang et al. 2020, "fro-over-spec").
        log10_spectral_complexity: log10 of Π‖W‖₂² · Σ‖W‖_F²/‖W‖₂², the sharpness that a PAC-Bayes argument derives from
            weights alone (Neyshabur et al. 2018, arXiv 1707.09564; Jiang et al. 2020, without margin and depth).
    """

    squared_frobenius_sum: float
    log10_frobenius_product: float | None
    log10_spectral_product: float | None
    stable_rank_sum: float
    log10_spectral_complexity: float | None

    def as_json(self) -> dict[str, float | None]:
        return {key: getattr(self, key) for key in self.__dataclass_fields__}


@dataclass(frozen=True)
class LayerNorms:
    """Norms of one layer.

    Attributes:
        name: of the tensor that stands for it (a batch norm's variance where it is a layer of its own).
        kind: "linear", "conv", "batch_norm" or "scale".
        folded: the variance of the batch norm that is part of it.
        kernel: positions of a convolution's kernel.
        raw, invariant: (Frobenius norm, spectral norm); of a convolution they are those of its weight reshaped to (outputs) ×
            (inputs · kernel), of each group. Its operator norm on inputs of any size is at most √kernel times the latter, since
            each input entry lies in at most that many windows.
    """

    name: str
    kind: str
    folded: str | None
    kernel: int
    raw: tuple[float, float]
    invariant: tuple[float, float]

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "kind": self.kind,
            "folded": self.folded,
            "kernel": self.kernel,
            "raw": self._sizes(self.raw),
            "invariant": self._sizes(self.invariant),
        }

    def _sizes(self, sizes: tuple[float, float]) -> dict[str, float]:
        frobenius, spectral = sizes
        return {"frobenius": frobenius, "spectral": spectral, "operator_bound": sqrt(self.kernel) * spectral}


@dataclass(frozen=True)
class NetworkNorms:
    """Norms of one network.

    Attributes:
        path: p -> ℓp path norm, None where it is not defined or overflows.
        path_input: shapes of the inputs of ones it was taken at.
        path_note: why a path norm is None, or what of the graph was assumed for it, else "".
    """

    name: str
    layers: tuple[LayerNorms, ...]
    raw: Measures
    invariant: Measures
    path: dict[int, float | None]
    path_input: dict[str, tuple[int, ...]]
    path_note: str

    def as_json(self) -> dict[str, Any]:
        """Plain values as they stand under `norms` of a network in nfn.symmetry-report/1."""
        return {
            "layers": [layer.as_json() for layer in self.layers],
            "raw": self.raw.as_json(),
            "invariant": self.invariant.as_json() | {f"path_norm_l{p}": norm for p, norm in self.path.items()},
            "path_input": [list(shape) for shape in self.path_input.values()],
            "path_note": self.path_note or None,
            "explanation": EXPLANATION,
        }


def weight_norms(checkpoint: Checkpoint, networks: Sequence[Network]) -> tuple[NetworkNorms, ...]:
    """Norms of each network. Biases count in path norms only; a batch norm behind a layer is part of it.

    Raises:
        Refused: weights are not finite, shapes disagree, a running variance is negative.
    """
    check_finite(checkpoint, [name for network in networks for name in network.graph.parameter_shapes])
    symmetry = find_symmetry(networks, checkpoint.aliases)
    balanced = balanced_tensors(checkpoint, symmetry)
    return tuple(_of_network(network, checkpoint.tensors, balanced, symmetry) for network in networks)


def balanced_tensors(checkpoint: Checkpoint, symmetry: Symmetry) -> Tensors:
    """The balanced form with phases settled, in float64; order and signs are left, which no norm here depends on."""
    flat = identity(symmetry)
    logs = log_scales(symmetry, checkpoint.tensors, "balanced")
    if len(logs):
        flat.scale[:] = np.exp(logs)[symmetry.classes["scale"]]
    Refinement(symmetry, checkpoint.tensors, flat, 0.0).settle_phases()
    return TransformedTensors(checkpoint.tensors, checkpoint.aliases, symmetry, flat, np.float64)


def _of_network(network: Network, tensors: Tensors, balanced: Tensors, symmetry: Symmetry) -> NetworkNorms:
    found = layers(network.graph)
    raw = measured(found, tensors)
    invariant = measured(found, balanced) if len(symmetry.classes["scale"]) else raw
    path, note = _paths(network, balanced)
    return NetworkNorms(
        network.name,
        tuple(_layer_norms(*entry) for entry in zip(found, raw, invariant, strict=True)),
        _measures(raw),
        _measures(invariant),
        path,
        path_input(network.graph),
        note,
    )


def _assumed(network: Network) -> str:
    """Graphs from tensor names have stand-ins for what names do not tell."""
    ops = network.graph.ops
    steps = any(op.kind == "conv" and "stride" not in op.attributes for op in ops)
    pools = any(op.attributes.get("assumed") or op.attributes.get("statistic") == "unknown" for op in ops)
    unknown = " and ".join(word for word, missing in (("strides", steps), ("pooling", pools)) if missing)
    return (
        f"{unknown} not known from tensor names: path norms are those of the graph that the check ran"
        if unknown
        else ""
    )


def _layer_norms(layer: Layer, raw: tuple[float, float], invariant: tuple[float, float]) -> LayerNorms:
    folded = None if layer.norm is None else layer.norm.parameters["running_var"]
    return LayerNorms(layer.weight, layer.op.kind, folded, layer.kernel, raw, invariant)


def _paths(network: Network, tensors: Tensors) -> tuple[dict[int, float | None], str]:
    path: dict[int, float | None] = {}
    note = _assumed(network)
    for power in (1, 2):
        try:
            value = path_norm(network.graph, tensors, power)
            path[power] = value if isfinite(value) else None
            note = note if isfinite(value) else "the sum over paths is too large for float64"
        except Unmeasured as reason:
            path[power], note = None, str(reason)
    return path, note


def _measures(sizes: Sequence[tuple[float, float]]) -> Measures:
    ranks = sum((f / s) ** 2 for f, s in sizes if s)
    spectral = sum(_log(s) for _, s in sizes)
    complexity = 2 * spectral + _log(ranks)
    return Measures(
        sum(f * f for f, _ in sizes),
        _finite(sum(_log(f) for f, _ in sizes)),
        _finite(spectral),
        ranks,
        _finite(complexity),
    )


def _log(value: float) -> float:
    return log10(value) if value > 0 else -inf


def _finite(value: float) -> float | None:
    return value if isfinite(value) else None
