"""predictors/kinds/probe.py: learned inputs are shown to the network itself, an MLP reads its answers. No file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph
from nfn_cli.networks.graph_evaluator import evaluate_stacked, takes_input, unknown_in
from nfn_cli.networks.probing import Answers, Probes, answer_statistics
from nfn_cli.networks.statistics_mlp import StatisticsMlp, StatisticsMlpConfig
from nfn_cli.predictors.takes import Takes, mismatch, without_final_softmax

Array = np.ndarray[Any, np.dtype[Any]]
_PIECE = 64  # networks at once: their answers are small, what their layers hold on the way is not


class ProbeEncoder:
    """Shows the probes to each network.

    Args:
        takes: one classifier form, and chain forms with graphs for files that do not tell how they are run.
        tensors: "inputs" (k, *input shape) and "roles" (k,).
        dtype: in which networks are run; float64 where answers are given to users.
    """

    def __init__(self, takes: Takes, tensors: Mapping[str, Tensor], dtype: torch.dtype = torch.float64) -> None:
        self._takes = takes
        self._dtype = dtype
        self.probes = Probes(tensors["inputs"], tensors["roles"].long())

    def accept(self, graph: Graph, tensors: Mapping[str, Array]) -> tuple[Graph, Mapping[str, Array]]:
        (classifier,) = self._takes.classifiers
        reason = classifier.mismatch(graph)
        if reason is not None:
            raise mismatch(reason)
        unknown = unknown_in(graph)
        if not unknown:
            reason = takes_input(graph, classifier.known_shape)
            if reason is not None:
                raise mismatch(reason)
            return without_final_softmax(graph), tensors
        try:
            self._takes.accepted_chain(graph, tensors)
        except Refused:
            raise Refused(
                f"how the network runs is not known: {'; '.join(unknown)}",
                fix="save it with its graph (.onnx, .pt2), or use a predictor that reads weights alone (--model)",
                code="unknown-function",
            ) from None
        return self._takes.completed(graph, tensors)

    @torch.no_grad()
    def encode(self, graph: Graph, stacked: Mapping[str, Array]) -> Answers:
        rows = len(next(iter(stacked.values())))
        parts = []
        for start in range(0, rows, _PIECE):
            piece = {name: self._tensor(array[start : start + _PIECE]) for name, array in stacked.items()}
            answers = self.answers(graph, piece, self.probes.inputs.to(self._dtype))
            parts.append(answer_statistics(answers.double(), self.probes.roles))
        return Answers(torch.cat(parts))

    def answers(self, graph: Graph, stacked: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """What networks of one graph answer to inputs (k, *input shape): (n, k, classes), differentiable."""
        (classifier,) = self._takes.classifiers
        (logits,) = evaluate_stacked(graph, stacked, {graph.inputs[0].name: inputs})
        if logits.ndim > 3:  # a convolutional head: (n, k, classes, 1, 1)
            logits = logits.flatten(3).mean(3)
        if logits.shape[1:] != (len(inputs), classifier.outputs):
            raise mismatch(f"it answers with {tuple(logits.shape[2:])} numbers, not {classifier.outputs}")
        return logits

    def showing(self, probes: Probes) -> ProbeEncoder:
        """The same with other probes."""
        return ProbeEncoder(self._takes, {"inputs": probes.inputs.half(), "roles": probes.roles}, self._dtype)

    def joined(self, parts: Sequence[Answers]) -> Answers:
        return Answers(torch.cat([part.statistics for part in parts]))

    def statistics(self, prepared: Answers) -> Tensor:
        return prepared.statistics

    def network(self, prepared: Answers, architecture: Mapping[str, Any]) -> StatisticsMlp:
        return StatisticsMlp(prepared.statistics.shape[1], StatisticsMlpConfig(**architecture))

    def example(self) -> Answers:
        (classifier,) = self._takes.classifiers
        return Answers(answer_statistics(torch.zeros(1, len(self.probes), classifier.outputs), self.probes.roles))

    def settings(self) -> dict[str, Any]:
        return {}

    def tensors(self) -> dict[str, Tensor]:
        return {"inputs": self.probes.inputs, "roles": self.probes.roles.to(torch.int32)}

    def _tensor(self, array: Array) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float64)).to(self._dtype)
