"""predictors/generalization.py: from checkpoints with their networks to predicted accuracies. Knows graph/, cards.

torch is imported when weights are asked about, not before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nfn_cli.errors import NfnError, Refused
from nfn_cli.predictors.card import Card, read_card
from nfn_cli.predictors.chain_input import ChainWeights, chain_of
from nfn_cli.predictors.shipped import predictor_folder, shipped_predictors

if TYPE_CHECKING:
    from nfn_cli.checkpoint.model import Checkpoint
    from nfn_cli.graph.model import Network
    from nfn_cli.predictors.predictor import Prediction

_FAMILY = "generalization-"
_PIECE = 512  # chains in memory at once: float64 copies of a small CNN's weights are 40 KB each


def predict_generalization(
    checkpoint: Checkpoint, networks: tuple[Network, ...], predictor: str | None = None
) -> Prediction:
    """Predicted test accuracy of one network, from its weights alone.

    Args:
        checkpoint: its tensors are the weights; any names and layouts that the graph knows how to read.
        networks: what the checkpoint holds; exactly one is taken.
        predictor: a shipped name or a folder with card.json; None chooses by the activation.

    Raises:
        Refused: several networks, not a plain chain, weights that are not finite, or an architecture or activation that
            the predictor was not trained for.
        WrongUsage: there is no such predictor.
    """
    (answer,) = predict_many([(checkpoint, networks)], predictor)
    if isinstance(answer, NfnError):
        raise answer
    return answer


def predict_many(
    items: Iterable[tuple[Checkpoint, tuple[Network, ...]]], predictor: str | None = None
) -> list[Prediction | NfnError]:
    """The same for many, in batches per predictor; what is refused stands as its error in its place.

    Raises:
        WrongUsage: `predictor` names none, which concerns all items.
    """
    if predictor is not None:
        predictor_folder(predictor)
    answers: list[Prediction | NfnError | None] = []
    waiting: dict[str, list[tuple[int, str, ChainWeights]]] = {}
    for number, (checkpoint, networks) in enumerate(items):
        answers.append(None)
        try:
            name, chain = _accepted(checkpoint, networks, predictor)
        except Refused as error:
            answers[number] = error
            continue
        rows = waiting.setdefault(name, [])
        rows.append((number, checkpoint.path, chain))
        if len(rows) == _PIECE:
            _ask(name, waiting.pop(name), answers)
    for name, rows in waiting.items():
        _ask(name, rows, answers)
    return [answer for answer in answers if answer is not None]


def _ask(name: str, rows: list[tuple[int, str, ChainWeights]], answers: list[Prediction | NfnError | None]) -> None:
    from nfn_cli.predictors.predictor import load_predictor

    chains = [(chain.weights, chain.biases) for _, _, chain in rows]
    predicted = load_predictor(name).predict_batch(chains, [path for _, path, _ in rows])
    for (number, _, _), answer in zip(rows, predicted, strict=True):
        answers[number] = answer


def _accepted(checkpoint: Checkpoint, networks: tuple[Network, ...], predictor: str | None) -> tuple[str, ChainWeights]:
    """The predictor to ask and the chain to ask about, or Refused with the reason."""
    if len(networks) != 1:
        found = ", ".join(network.name or "(unnamed)" for network in networks) or "none"
        raise Refused(
            f"a predictor takes one network, this checkpoint holds {len(networks)}: {found}",
            fix="save the one to predict in a file of its own",
            code="several-networks" if networks else "no-network",
        )
    network = networks[0]
    from nfn_cli.checkpoint.finite import check_finite

    chain = chain_of(network.graph, checkpoint.tensors)
    check_finite(checkpoint, sorted({name for op in network.graph.ops for name in op.parameters.values()}))
    if checkpoint.hints.pooling == "max":
        raise Refused(
            f"it pools between layers (max, says {checkpoint.hints.source or 'the file'}), which no training network did",
            fix="use a predictor trained on such networks",
            code="predictor-mismatch",
        )
    card = read_card(predictor_folder(predictor)) if predictor is not None else _card_for(chain)
    reason = card.mismatch(chain)
    if reason is not None:
        raise Refused(reason, fix="use a predictor trained on such networks", code="predictor-mismatch")
    return predictor or card.name, chain


def _card_for(chain: ChainWeights) -> Card:
    """The shipped card of the chain's activation; among several, the first by name that takes its shapes."""
    cards = [card for card in shipped_predictors() if card.name.startswith(_FAMILY)]
    functions = sorted(set(chain.activations))
    fitting = [card for card in cards if functions == [card.activation]]
    if not fitting:
        known = ", ".join(f"{card.activation} ({card.network})" for card in cards) or "no shipped predictor was found"
        raise Refused(
            f"no predictor for activation {', '.join(functions) or 'of a network without hidden units'}",
            fix=f"trained for: {known}",
            code="predictor-mismatch",
        )
    return next((card for card in fitting if card.mismatch(chain) is None), fitting[0])
