"""zoo/sine_fit.py: many sine networks fitted to many images at once, by Adam. Knows torch and the compiled form; no file.

Every network is fitted alone: what it becomes does not depend on what is fitted beside it, nor on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nfn_cli.zoo.native_sine_fit import has_native_fit, native_fit
from nfn_cli.zoo.sine_network import SineNetwork

Array = np.ndarray[Any, np.dtype[Any]]
_EPSILON = 1e-8
_AT_A_TIME = {"native": 8, "cpu": 8, "cuda": 2048}  # networks: cpu: what a step touches stays in the cache


@dataclass(frozen=True)
class FitSettings:
    """How n networks are fitted.

    Attributes:
        rates: (n,) first learning rates of Adam; they fall to 0 along half a cosine.
        steps: (n,) at most.
        enough: (n,) mean squared error at which to stop; 0 for never.
        betas: of Adam.
    """

    rates: Array
    steps: Array
    enough: Array
    betas: tuple[float, float] = (0.9, 0.999)


@dataclass(frozen=True)
class FittedSines:
    """Attributes: parameters: (n, p) float32; steps: (n,) that were taken; errors: (n,) mean squared errors at the end."""

    parameters: Array
    steps: Array
    errors: Array


def fit_sines(
    network: SineNetwork,
    coordinates: Array,
    targets: Array,
    initial: Array,
    settings: FitSettings,
    *,
    device: str = "cpu",
    threads: int = 1,
    advance: Callable[[int], None] | None = None,
) -> FittedSines:
    """Fit n networks to n images.

    Args:
        coordinates: (inputs, points); targets: (n, outputs, points); initial: (n, parameters).
        threads: on the CPU.
        advance: is told of every batch of networks that is done, by their number.
    """
    count, native = len(targets), device == "cpu" and has_native_fit(len(network.widths) - 1)
    arrays = {
        "targets": np.ascontiguousarray(targets, np.float32),
        "parameters": np.array(initial, np.float32, order="C"),
        "rates": _schedules(settings),
        "enough": np.ascontiguousarray(settings.enough, np.float32),
        "steps": np.array(settings.steps, np.int64),
        "errors": np.zeros(count, np.float32),
    }
    coordinates = np.ascontiguousarray(coordinates, np.float32)

    def fit_rows(rows: slice) -> int:
        part = {name: array[rows] for name, array in arrays.items()}
        if native:
            shape: dict[str, Array] = {
                "widths": np.array(network.widths, np.int64),
                "frequencies": np.array(network.omegas, np.float32),
            }
            numbers = {"beta1": settings.betas[0], "beta2": settings.betas[1], "epsilon": _EPSILON}
            native_fit({"coordinates": coordinates, **part, **shape}, numbers)
        else:
            _fit_in_torch(network, coordinates, part, settings.betas, device)
        return len(part["steps"])

    size = _AT_A_TIME["native" if native else device]
    batches = [slice(start, min(start + size, count)) for start in range(0, count, size)]
    with ThreadPoolExecutor(threads if native else 1) as pool:
        for done in pool.map(fit_rows, batches):
            if advance is not None:
                advance(done)
    return FittedSines(arrays["parameters"], arrays["steps"], arrays["errors"])


def _schedules(settings: FitSettings) -> Array:
    """(n, most steps): half a cosine over each network's own steps."""
    most = max(int(settings.steps.max(initial=0)), 1)
    at = np.arange(most)[None] / np.maximum(settings.steps, 1)[:, None]
    rates: Array = settings.rates[:, None] * 0.5 * (1 + np.cos(np.pi * np.minimum(at, 1)))
    return np.ascontiguousarray(rates, np.float32)


def _fit_in_torch(
    network: SineNetwork, coordinates: Array, part: dict[str, Array], betas: tuple[float, float], device: str
) -> None:
    """As `native_fit`; all networks step together, one that is done keeps its weights."""
    points = torch.from_numpy(coordinates).to(device)
    target = torch.from_numpy(part["targets"]).to(device)
    flat = torch.from_numpy(part["parameters"]).to(device)
    first, second = torch.zeros_like(flat), torch.zeros_like(flat)
    most, enough = (torch.from_numpy(part[name]).to(device) for name in ("steps", "enough"))
    rates = torch.from_numpy(part["rates"]).to(device)
    taken, errors, going = torch.zeros_like(most), torch.zeros_like(enough), torch.ones_like(most, dtype=torch.bool)
    for step in range(rates.shape[1] + 1):
        leaf = flat.detach().requires_grad_()
        loss = _errors(network, points, target, leaf)
        errors = torch.where(going, loss.detach(), errors)
        going = going & (most > step) & (loss.detach() > enough)
        if step == rates.shape[1] or not bool(going.any()):
            break
        (gradient,) = torch.autograd.grad(loss.sum(), leaf)
        first = betas[0] * first + (1 - betas[0]) * gradient
        second = betas[1] * second + (1 - betas[1]) * gradient**2
        root = (second / (1 - betas[1] ** (step + 1))).sqrt() + _EPSILON
        moved = flat - rates[:, step, None] / (1 - betas[0] ** (step + 1)) * first / root
        flat = torch.where(going[:, None], moved, flat)
        taken = taken + going
    for name, tensor in (("parameters", flat), ("steps", taken), ("errors", errors)):
        part[name][:] = tensor.cpu().numpy()


def _errors(network: SineNetwork, points: Tensor, target: Tensor, flat: Tensor) -> Tensor:
    """(n,) mean squared errors of (n, p) parameters."""
    value, start = points.expand(len(flat), *points.shape), 0
    for layer, (incoming, outgoing) in enumerate(zip(network.widths, network.widths[1:], strict=False)):
        weight = flat[:, start : start + incoming * outgoing].reshape(-1, outgoing, incoming)
        start += incoming * outgoing
        value = torch.baddbmm(flat[:, start : start + outgoing, None], weight, value)
        start += outgoing
        if layer < len(network.omegas):
            value = torch.sin(network.omegas[layer] * value)
    return ((value - target) ** 2).mean(dim=(1, 2))
