"""train/audited.py: what an audit asks: anything that answers for networks. Knows predictors by their one entry, predict_many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import NfnError
from nfn_cli.graph.model import Network

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
Item = tuple[Checkpoint, tuple[Network, ...]]
# One array for each output; outputs are compared one by one, each by its own largest entry.
Answer = tuple[FloatArray, ...]
Ask = Callable[[Sequence[Item]], Sequence["Answer | NfnError"]]


@dataclass(frozen=True)
class Audited:
    """A predictor under audit.

    Attributes:
        name: as the user named it.
        ask: networks -> an answer, or the reason why there is none, for each; order and company must not matter.
        resolution: step to which answers are rounded; one step is no movement.
    """

    name: str
    ask: Ask
    resolution: float = 0.0


def trained_predictor(name_or_folder: str) -> Audited:
    """One of the tool's predictors: accuracy, interval and the in-distribution flag are its outputs.

    Raises:
        WrongUsage: there is no such predictor.
    """
    from nfn_cli.predictors.generalization import predict_many
    from nfn_cli.predictors.shipped import predictor_folder

    predictor_folder(name_or_folder)

    def ask(items: Sequence[Item]) -> list[Answer | NfnError]:
        return [
            answer
            if isinstance(answer, NfnError)
            else (
                np.array(answer.predicted_test_accuracy),
                np.array(answer.interval),
                np.array(float(answer.in_distribution)),
            )
            for answer in predict_many(items, name_or_folder)
        ]

    return Audited(name_or_folder, ask)
