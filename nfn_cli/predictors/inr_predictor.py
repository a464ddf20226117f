"""predictors/inr_predictor.py: a trained classifier of INRs: load it, ask it. Knows cards and kinds; no command.

Members are stored in float16 and asked in float64, so that neither the orbit member given nor the company in a batch
shows in an answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from nfn_cli.checkpoint.atomic_write import atomic_folder
from nfn_cli.errors import NfnError, Refused, SurroundingsFailed
from nfn_cli.graph.model import Graph
from nfn_cli.networks.inr import Coordinates
from nfn_cli.predictors.inr_card import InrCard, inr_card, inr_readme
from nfn_cli.predictors.kinds.inr import INR_KINDS, InrEncoder
from nfn_cli.predictors.shipped import predictor_folder
from nfn_cli.printable import printable

Array = np.ndarray[Any, np.dtype[Any]]
_ENCODER, _MEMBER = "encoder.", "member."
_PIECE = 512  # networks asked at once


@dataclass(frozen=True, slots=True)
class InrAnswer:
    """What a classifier says about one INR.

    Attributes:
        path: the checkpoint as the user named it.
        number: of the class; label: its name.
        probability: of that class, calibrated; probabilities: of all classes.
        predictor: name on the card.
        in_distribution: whether the INR is inside what the classifier was trained for.
    """

    path: str
    number: int
    label: str
    probability: float
    probabilities: tuple[float, ...]
    predictor: str
    in_distribution: bool


@dataclass(frozen=True)
class InrPredictor:
    """An encoder and a network that reads what it gives."""

    card: InrCard
    encoder: InrEncoder
    member: nn.Module

    def accept(self, graph: Graph) -> None:
        """Raises Refused where it was not made for such networks."""
        self.encoder.accept(graph)

    def classify(
        self,
        graph: Graph,
        stacked: Mapping[str, Array],
        coordinates: Coordinates | None = None,
        paths: Sequence[str] | None = None,
    ) -> tuple[InrAnswer, ...]:
        """Accepted networks of one graph, tensors (n, *shape) -> answers in order.

        Raises:
            Refused: a number is not finite.
        """
        named = sorted({name for op in graph.ops for name in op.parameters.values()})
        if not all(bool(np.isfinite(np.asarray(stacked[name], np.float64)).all()) for name in named):
            raise Refused("a weight is NaN or infinite", fix="repair the checkpoint", code="non-finite-weights")
        taken = {name: stacked[name] for name in named}
        logits = self.logits(self.encoder.encode(graph, taken, coordinates or Coordinates()))
        if not bool(torch.isfinite(logits).all()):
            raise Refused("its values are too large to be read", code="non-finite-values")
        found, odds = self.read(logits)
        numbers = found.argmax(1).tolist()
        return tuple(
            InrAnswer(
                path,
                number,
                self.card.labels[number],
                float(each[number]),
                tuple(each.tolist()),
                self.card.name,
                bool(odd >= self.card.least_log_odds),
            )
            for path, number, each, odd in zip(paths or [""] * len(found), numbers, found, odds, strict=True)
        )

    @torch.no_grad()
    def logits(self, prepared: Any) -> Tensor:
        """(n, outputs) in float64."""
        starts = range(0, len(prepared), _PIECE)
        pieces = (prepared[start : start + _PIECE].to(torch.float64) for start in starts)
        return torch.cat([torch.as_tensor(self.member.forward_prepared(piece)) for piece in pieces])  # type: ignore[operator]

    def read(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """(n, outputs) -> probabilities (n, classes), and the log-odds of being an INR of the data set (n,)."""
        return read_outputs(logits, len(self.card.labels), self.card.temperature)


def read_outputs(logits: Tensor, classes: int, temperature: float) -> tuple[Tensor, Tensor]:
    """Outputs are one for each order of coordinates and class, and one for networks that show something else.

    Returns:
        Probabilities (n, classes), summed over the orders; and the log-odds of showing the data set at all (n,).
    """
    known = logits[:, :-1]
    odds = known.logsumexp(1) - logits[:, -1]
    probabilities = torch.softmax(known / temperature, 1).reshape(len(known), -1, classes).sum(1)
    return probabilities, odds


def load_inr_predictor(name_or_folder: str) -> InrPredictor:
    """A shipped classifier by name, or one in a folder with card.json and weights.safetensors.

    Raises:
        WrongUsage: there is no such classifier.
        Refused: its files do not fit together.
    """
    folder = predictor_folder(name_or_folder)
    return _loaded(folder, (folder / "card.json").stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _loaded(folder: Path, _written: int) -> InrPredictor:
    path = folder / "weights.safetensors"
    try:
        card = inr_card(json.loads((folder / "card.json").read_text()), folder / "card.json")
        tensors = load_file(path)
    except OSError as error:
        raise SurroundingsFailed(f"cannot read the predictor ({error})", where=str(folder)) from None
    except (SafetensorError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise Refused(
            f"the predictor is damaged ({printable(error)})", where=printable(folder), code="bad-predictor"
        ) from None
    try:
        return assemble_inr(card, tensors)
    except NfnError:
        raise
    except (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError):
        raise Refused("card.json and weights.safetensors do not fit", where=str(folder), code="bad-predictor") from None


def assemble_inr(card: InrCard, tensors: Mapping[str, Tensor]) -> InrPredictor:
    """A classifier from its card and named tensors (`tensors_of_inr` gives them back)."""
    encoder = INR_KINDS[card.model](card.encoder, _under(tensors, _ENCODER))
    member = encoder.network(card.orders * len(card.labels) + 1, card.architecture)
    member.load_state_dict(_under(tensors, _MEMBER))
    return InrPredictor(card, encoder, member.double().eval())


def tensors_of_inr(encoder: InrEncoder, member: nn.Module) -> dict[str, Tensor]:
    """Names and tensors for weights.safetensors: learned numbers in float16, measured constants as they are."""
    learned = {name for name, _ in member.named_parameters()}
    tensors = {f"{_MEMBER}{n}": t.half() if n in learned else t for n, t in member.state_dict().items()}
    tensors |= {f"{_ENCODER}{name}": tensor for name, tensor in encoder.tensors().items()}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def write_inr_predictor(folder: Path, card: InrCard, tensors: Mapping[str, Tensor]) -> None:
    """Writes weights.safetensors, card.json and README.md; what else the folder holds stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder, keep=True) as made:
        (made / "weights.safetensors").write_bytes(save(dict(tensors)))
        (made / "README.md").write_text(inr_readme(card))
        (made / "card.json").write_text(card.to_json())


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
