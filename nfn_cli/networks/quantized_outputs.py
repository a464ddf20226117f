"""networks/quantized_outputs.py: what rounded weights do to a network's answers on given inputs. Runs graphs in torch; no file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from nfn_cli.canonical.quantization_answer import Answers, Effect
from nfn_cli.canonical.quantization_report import Form, QuantizedTensors, weights_of
from nfn_cli.graph.model import Network
from nfn_cli.networks.graph_evaluator import evaluate, takes_input, unknown_in

Array = np.ndarray[Any, np.dtype[Any]]
_BATCH = 250


def why_not_run(network: Network, inputs: Array) -> str | None:
    """Why the network cannot be run on these inputs; None if it can."""
    return next(iter(unknown_in(network.graph)), None) or takes_input(network.graph, tuple(inputs.shape[1:]))


def effect(
    network: Network,
    forms: tuple[Form, ...],
    aliases: Mapping[str, str],
    bits: int,
    inputs: Array,
    labels: Array | None,
) -> Effect:
    """Run the file as it is, and the rounded weights of every form.

    Args:
        forms: the first is the file as it is.
        inputs: (n, …) float32, for the network's only input.
        labels: (n,) numbers of classes.

    Raises:
        Refused: the network cannot be run on these inputs; see `why_not_run`.
    """
    base = _run(network, forms[0].tensors, inputs)
    weights = weights_of(network, aliases)
    answers = {}
    for form in forms:
        made = _run(network, QuantizedTensors(form, weights, aliases, bits), inputs)
        answers[form.name] = _compared(base, made, labels)
    return Effect(len(inputs), _accuracy(base[0], labels), answers)


def _run(network: Network, tensors: Mapping[str, Array], inputs: Array) -> list[Array]:
    own = {name: torch.from_numpy(np.array(tensors[name], np.float32)) for name in network.graph.parameter_shapes}
    (entry,) = network.graph.inputs
    parts = []
    with torch.inference_mode():
        for start in range(0, len(inputs), _BATCH):
            some = torch.from_numpy(np.ascontiguousarray(inputs[start : start + _BATCH], np.float32))
            parts.append(evaluate(network.graph, own, {entry.name: some}))
    return [torch.cat(outputs).double().numpy() for outputs in zip(*parts, strict=True)]


def _compared(base: list[Array], made: list[Array], labels: Array | None) -> Answers:
    noise = sum(float(((a - b) ** 2).sum()) for a, b in zip(made, base, strict=True))
    signal = sum(float((b**2).sum()) for b in base)
    change = float(np.sqrt(noise / signal)) if signal else (0.0 if not noise else float("inf"))
    agreement = float((made[0].argmax(1) == base[0].argmax(1)).mean()) if _has_classes(base[0]) else None
    return Answers(change, agreement, _accuracy(made[0], labels))


def _has_classes(output: Array) -> bool:
    return bool(output.ndim == 2 and output.shape[1] > 1)


def _accuracy(output: Array, labels: Array | None) -> float | None:
    if labels is None or not _has_classes(output):
        return None
    return float((output.argmax(1) == labels).mean())
