"""predictors/inr_classify.py: from checkpoints with their networks to what INRs show. Knows graph/, predictors.

torch is imported when networks are asked about, not before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nfn_cli.checkpoint.finite import check_finite
from nfn_cli.errors import NfnError, Refused, WrongUsage
from nfn_cli.predictors.inr_card import INR_MODELS, InrCard
from nfn_cli.predictors.shipped import predictor_folder, shipped_inr_classifiers

if TYPE_CHECKING:
    from nfn_cli.checkpoint.model import Checkpoint
    from nfn_cli.graph.model import Graph, Network
    from nfn_cli.networks.inr import Coordinates
    from nfn_cli.predictors.inr_predictor import InrAnswer, InrPredictor

Array = np.ndarray[Any, np.dtype[Any]]


def classify_many(
    items: Iterable[tuple[Checkpoint, tuple[Network, ...]]],
    predictor: str | None = None,
    model: str | None = None,
    coordinates: Coordinates | None = None,
) -> list[InrAnswer | NfnError]:
    """What INRs show, in batches per graph; what is refused stands as its error in its place.

    Args:
        predictor: a shipped name or a folder with card.json. None asks the best shipped classifier of each data set that
            takes the network; an answer is given where it is in distribution for exactly one of them.
        model: a key of INR_MODELS: among the classifiers of the same data set that of this kind.
        coordinates: where the images lie; None as the files or their zoo say, else [−1, 1]² with the row first.

    Raises:
        WrongUsage: there is no such predictor or kind, which concerns all items.
    """
    names = chosen_classifiers(predictor, model)
    found: list[_Inr | NfnError] = []
    known: set[str] = set()
    for checkpoint, networks in items:
        try:
            found.append(_inr(checkpoint, networks, coordinates, known))
        except NfnError as error:
            found.append(error)
    batches: dict[tuple[Any, ...], list[int]] = {}
    for number, inr in enumerate(found):
        if not isinstance(inr, NfnError):
            batches.setdefault(inr.alike, []).append(number)
    answers: list[InrAnswer | NfnError | None] = [each if isinstance(each, NfnError) else None for each in found]
    for numbers in batches.values():
        batch = [inr for number in numbers if not isinstance(inr := found[number], NfnError)]
        for number, answer in zip(numbers, _ask(batch, names), strict=True):
            answers[number] = answer
    return [answer for answer in answers if answer is not None]


def chosen_classifiers(predictor: str | None, model: str | None) -> tuple[str, ...]:
    """Names or folders of the classifiers to ask.

    Raises:
        WrongUsage: there is none.
    """
    if model is not None and model not in INR_MODELS:
        raise WrongUsage(f"no model {model!r}", fix=f"models: {', '.join(INR_MODELS)}", code="unknown-model")
    cards = shipped_inr_classifiers()
    if predictor is None:
        best = {card.data_set: _best([c for c in cards if c.data_set == card.data_set], model) for card in cards}
        names = tuple(card.name for card in best.values() if card is not None)
        if not names:
            raise WrongUsage("no such classifier is shipped", fix="name one with --predictor", code="unknown-predictor")
        return names
    from nfn_cli.predictors.inr_predictor import load_inr_predictor

    predictor_folder(predictor)
    card = load_inr_predictor(predictor).card
    if model in (None, card.model):
        return (predictor,)
    other = _best([c for c in cards if c.data_set == card.data_set], model)
    if other is None or card.name not in {each.name for each in cards}:
        raise WrongUsage(f"{predictor} is of kind {card.model}", fix="leave --model out", code="unknown-predictor")
    return (other.name,)


def _best(cards: Sequence[InrCard], model: str | None) -> InrCard | None:
    """The most accurate one (of a kind); names settle ties."""
    fitting = [card for card in cards if model in (None, card.model)]
    return min(fitting, key=lambda card: (-float(card.test["accuracy"]), card.name), default=None)


@dataclass(frozen=True)
class _Inr:
    """One network that may be an INR; `alike` is the same where networks can be asked together."""

    path: str
    graph: Graph
    tensors: Mapping[str, Array]
    coordinates: Coordinates
    alike: tuple[Any, ...]


def _inr(
    checkpoint: Checkpoint, networks: tuple[Network, ...], coordinates: Coordinates | None, known: set[str]
) -> _Inr:
    """`known`: graphs that are of INRs; it grows, so that each is looked at once."""
    from nfn_cli.graph.stored_graph import graph_to_text
    from nfn_cli.networks.inr import Coordinates, inr_channels
    from nfn_cli.zoo.inr_picture import only_inr
    from nfn_cli.zoo.inr_stated import stated

    graph = only_inr(networks).graph
    used = sorted({name for op in graph.ops for name in op.parameters.values()})
    check_finite(checkpoint, used)
    text = graph_to_text(graph)
    if text not in known:
        inr_channels(graph)
        known.add(text)
    where = coordinates or stated(checkpoint).coordinates or Coordinates()
    tensors = {name: np.asarray(checkpoint.tensors[name], np.float64) for name in used}
    return _Inr(checkpoint.path, graph, tensors, where, (text, where))


def _ask(batch: list[_Inr], names: Sequence[str]) -> list[InrAnswer | NfnError]:
    """Answers for networks of one graph and one choice of coordinates."""
    from nfn_cli.predictors.inr_predictor import load_inr_predictor

    taking: list[InrPredictor] = []
    refusals: list[tuple[str, Refused]] = []
    for name in names:
        predictor = load_inr_predictor(name)
        try:
            predictor.accept(batch[0].graph)
            taking.append(predictor)
        except Refused as refused:
            refusals.append((predictor.card.name, refused))
    if not taking:
        return [_refusal(refusals)] * len(batch)
    stacked = {name: np.stack([inr.tensors[name] for inr in batch]) for name in batch[0].tensors}
    paths = [inr.path for inr in batch]
    try:
        found = [each.classify(batch[0].graph, stacked, batch[0].coordinates, paths) for each in taking]
    except Refused as refused:
        if len(batch) == 1:
            return [refused]
        return [answer for inr in batch for answer in _ask([inr], names)]  # one of them cannot be read
    return [_settled(list(answers)) for answers in zip(*found, strict=True)]


def _settled(answers: list[InrAnswer]) -> InrAnswer | NfnError:
    """The one answer, or the one that is in distribution."""
    if len(answers) == 1:
        return answers[0]
    inside = [answer for answer in answers if answer.in_distribution]
    if len(inside) == 1:
        return inside[0]
    names = ", ".join(answer.predictor for answer in answers)
    return Refused(
        f"which classifier to ask is not clear: {len(inside) or 'none'} of {names} know such images",
        fix=f"name one with --predictor: {names}",
        code="which-predictor",
    )


def _refusal(refusals: Sequence[tuple[str, Refused]]) -> Refused:
    if len(refusals) == 1 or len({refused.what for _, refused in refusals}) == 1:
        return refusals[0][1]
    told = "; ".join(f"{name}: {refused.what}" for name, refused in refusals)
    return Refused(f"no classifier takes it ({told})", fix="nfn predictors lists them", code="predictor-mismatch")
