"""predictors/generalization.py: from checkpoints with their networks to predicted accuracies. Knows graph/, predictors.

torch is imported when networks are asked about, not before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nfn_cli.errors import NfnError, Refused, WrongUsage
from nfn_cli.predictors.card import MODELS, Card, read_card
from nfn_cli.predictors.shipped import predictor_folder, shipped_predictors

if TYPE_CHECKING:
    from nfn_cli.checkpoint.model import Checkpoint
    from nfn_cli.graph.model import Graph, Network
    from nfn_cli.predictors.predictor import Prediction, Predictor

Array = np.ndarray[Any, np.dtype[Any]]
_FAMILY = "generalization-"
_PIECE = 512  # networks asked at once
_LARGEST_WAITING = 1 << 25  # numbers of waiting networks: 256 MB in float64, thousands of small CNNs


def predict_generalization(
    checkpoint: Checkpoint, networks: tuple[Network, ...], predictor: str | None = None, model: str | None = None
) -> Prediction:
    """Predicted test accuracy of one network.

    Args:
        checkpoint: its tensors are the weights; any names and layouts that the graph knows how to read.
        networks: what the checkpoint holds; exactly one is taken.
        predictor: a shipped name or a folder with card.json; None chooses among the shipped ones that take the network
            and know the shape of its inputs the one with the best out-of-fold score.
        model: choose among those of this kind only, a key of `MODELS`.

    Raises:
        Refused: several networks, weights that are not finite, or a network that no predictor was trained for.
        WrongUsage: there is no such predictor or kind.
    """
    (answer,) = predict_many([(checkpoint, networks)], predictor, model)
    if isinstance(answer, NfnError):
        raise answer
    return answer


def predict_many(
    items: Iterable[tuple[Checkpoint, tuple[Network, ...]]], predictor: str | None = None, model: str | None = None
) -> list[Prediction | NfnError]:
    """The same for many, in batches per predictor and graph; what is refused stands as its error in its place.

    Raises:
        WrongUsage: `predictor` or `model` names none, which concerns all items.
    """
    candidates = _candidates(predictor, model)
    answers: list[Prediction | NfnError | None] = []
    waiting: dict[tuple[str, str], list[_Accepted]] = {}
    numbers = 0
    for number, (checkpoint, networks) in enumerate(items):
        answers.append(None)
        try:
            accepted = _accepted(number, checkpoint, networks, candidates)
        except Refused as error:
            answers[number] = error
            continue
        rows = waiting.setdefault(accepted.key, [])
        rows.append(accepted)
        numbers += sum(array.size for array in accepted.tensors.values())
        if len(rows) == _PIECE or numbers > _LARGEST_WAITING:
            for rows in waiting.values():
                _ask(rows, answers)
            waiting, numbers = {}, 0
    for rows in waiting.values():
        _ask(rows, answers)
    return [answer for answer in answers if answer is not None]


@dataclass(frozen=True)
class _Accepted:
    """A network that a predictor takes, and its place among the inputs."""

    number: int
    path: str
    predictor: Predictor
    graph: Graph
    tensors: Mapping[str, Array]
    key: tuple[str, str]


def _ask(rows: list[_Accepted], answers: list[Prediction | NfnError | None]) -> None:
    first = rows[0]
    stacked = {name: np.stack([row.tensors[name] for row in rows]) for name in first.tensors}
    predicted: Sequence[Prediction | NfnError]
    try:
        predicted = first.predictor.predict_stacked(first.graph, stacked, [row.path for row in rows])
    except Refused as error:  # what shows only when networks of this graph are run or taken apart, and so for all
        predicted = [error] * len(rows)
    for row, answer in zip(rows, predicted, strict=True):
        answers[row.number] = answer


def _candidates(predictor: str | None, model: str | None) -> list[str]:
    """Names of the predictors to try, best first."""
    if model is not None and model not in MODELS:
        raise WrongUsage(f"no model {model!r}", fix=f"models: {', '.join(MODELS)}", code="unknown-model")
    if predictor is not None:
        kind = read_card(predictor_folder(predictor)).model
        if model not in (None, kind):
            raise WrongUsage(f"{predictor} is of kind {kind}", fix="leave --model out", code="unknown-predictor")
        return [predictor]
    cards = [card for card in shipped_predictors() if card.name.startswith(_FAMILY)]
    cards = [card for card in cards if (card.taken.inputs_known if model is None else card.model == model)]
    return [card.name for card in sorted(cards, key=_rank)]


def _rank(card: Card) -> tuple[float, str]:
    return -float(card.out_of_fold["kendall_tau"]), card.name


def _accepted(number: int, checkpoint: Checkpoint, networks: tuple[Network, ...], candidates: list[str]) -> _Accepted:
    """The first predictor that takes the network, or Refused with the reason."""
    if len(networks) != 1:
        found = ", ".join(network.name or "(unnamed)" for network in networks) or "none"
        raise Refused(
            f"a predictor takes one network, this checkpoint holds {len(networks)}: {found}",
            fix="save the one to predict in a file of its own",
            code="several-networks" if networks else "no-network",
        )
    from nfn_cli.checkpoint.finite import check_finite
    from nfn_cli.graph.stored_graph import graph_to_text
    from nfn_cli.predictors.predictor import load_predictor

    graph = networks[0].graph
    used = sorted({name for op in graph.ops for name in op.parameters.values()})
    check_finite(checkpoint, used)
    if checkpoint.hints.pooling == "max":
        raise Refused(
            f"it pools between layers (max, says {checkpoint.hints.source or 'the file'}), which no training network did",
            fix="use a predictor trained on such networks",
            code="predictor-mismatch",
        )
    reasons: list[tuple[str, Refused]] = []
    for name in candidates:
        predictor = load_predictor(name)
        try:
            taken, tensors = predictor.accept(graph, {tensor: checkpoint.tensors[tensor] for tensor in used})
        except Refused as refused:
            reasons.append((name, refused))
            continue
        arrays = {tensor: np.asarray(tensors[tensor], np.float64) for tensor in _named(taken)}
        return _Accepted(number, checkpoint.path, predictor, taken, arrays, (name, graph_to_text(taken)))
    raise _refusal(reasons)


def _named(graph: Graph) -> list[str]:
    return sorted({name for op in graph.ops for name in op.parameters.values()})


def _refusal(reasons: list[tuple[str, Refused]]) -> Refused:
    if len(reasons) == 1:
        return reasons[0][1]
    if not reasons:
        return Refused("no shipped predictor was found", fix="name one with --predictor", code="predictor-mismatch")
    told = "; ".join(f"{name}: {refused.what}" for name, refused in reasons)
    code = reasons[0][1].code if len({refused.code for _, refused in reasons}) == 1 else "predictor-mismatch"
    return Refused(f"no predictor takes it ({told})", fix="nfn predictors lists what each was trained for", code=code)
