"""predictors/predictor.py: a trained predictor: load it, ask it. Knows cards and kinds of models; no command.

Members are stored in float16 and asked in float64, so that neither the orbit member given nor the company in a batch
shows in an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from nfn_cli.checkpoint.atomic_write import atomic_folder
from nfn_cli.errors import NfnError, Refused, SurroundingsFailed
from nfn_cli.graph.model import Graph
from nfn_cli.predictors.card import Card, read_card
from nfn_cli.predictors.interval import Interval
from nfn_cli.predictors.kinds.kind import Encoder
from nfn_cli.predictors.kinds.registry import KINDS
from nfn_cli.predictors.shipped import predictor_folder
from nfn_cli.predictors.typicality import Distance, Typicality
from nfn_cli.printable import printable

Array = np.ndarray[Any, np.dtype[Any]]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
_DISTANCE, _ENCODER = "distance.", "encoder."


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a predictor says about one network.

    Attributes:
        path: the checkpoint as the user named it.
        predicted_test_accuracy: in [0, 1].
        interval: low and high; covers the truth for the card's share of networks like the training ones.
        predictor: name on the card.
        in_distribution: whether the network is inside what the predictor was trained for.
    """

    path: str
    predicted_test_accuracy: float
    interval: tuple[float, float]
    predictor: str
    in_distribution: bool


@dataclass(frozen=True)
class Predictor:
    """An encoder, members whose predictions are averaged, the interval, and the in-distribution test."""

    card: Card
    encoder: Encoder
    members: tuple[nn.Module, ...]
    interval: Interval
    typicality: Typicality

    def accept(self, graph: Graph, tensors: Mapping[str, Array]) -> tuple[Graph, Mapping[str, Array]]:
        """What to give to `predict_stacked` for this network.

        Raises:
            Refused: the predictor was not trained for such networks.
        """
        return self.encoder.accept(graph, tensors)

    def predict_stacked(
        self, graph: Graph, stacked: Mapping[str, Array], paths: Sequence[str] | None = None
    ) -> tuple[Prediction, ...]:
        """Accepted networks of one graph, tensors (n, *shape) -> answers in order.

        Raises:
            Refused: a number is not finite.
        """
        named = {name for op in graph.ops for name in op.parameters.values()}
        if not all(bool(np.isfinite(np.asarray(stacked[name], np.float64)).all()) for name in named):
            raise Refused("a weight is NaN or infinite", fix="repair the checkpoint", code="non-finite-weights")
        return self.predict_prepared(self.encoder.encode(graph, {name: stacked[name] for name in named}), paths)

    def predict_prepared(self, prepared: Any, paths: Sequence[str] | None = None) -> tuple[Prediction, ...]:
        """What the encoder gives -> answers in order."""
        predicted = self.scores(prepared)
        low, high = self.interval.around(predicted)
        inside = self.inside(prepared)
        return tuple(
            Prediction(path, float(p), (float(a), float(b)), self.card.name, bool(i))
            for path, p, a, b, i in zip(paths or [""] * len(predicted), predicted, low, high, inside, strict=True)
        )

    @torch.no_grad()
    def scores(self, prepared: Any) -> FloatArray:
        """(n,) mean predicted score of the members."""
        prepared = prepared.to(torch.float64)
        logits = [torch.as_tensor(member.forward_prepared(prepared))[:, 0].double() for member in self.members]  # type: ignore[operator]
        return np.asarray(torch.sigmoid(torch.stack(logits)).mean(0).numpy())

    def inside(self, prepared: Any) -> Array:
        """(n,) bool: the in-distribution test."""
        prepared = prepared.to(torch.float64)
        return np.asarray(self.typicality.inside(self.encoder.statistics(prepared), prepared).numpy())


def load_predictor(name_or_folder: str) -> Predictor:
    """A shipped predictor by name, or one in a folder with card.json and weights.safetensors.

    Raises:
        WrongUsage: there is no such predictor.
        Refused: its files do not fit together.
    """
    folder = predictor_folder(name_or_folder)
    return _loaded(folder, (folder / "card.json").stat().st_mtime_ns)


@lru_cache(maxsize=8)
def _loaded(folder: Path, _written: int) -> Predictor:
    """Asked again for every checkpoint of a long list; a folder that was written anew is read anew."""
    card = read_card(folder)
    path = folder / "weights.safetensors"
    try:
        tensors = load_file(path)
    except OSError as error:
        raise SurroundingsFailed(f"cannot read the predictor's weights ({error})", where=str(path)) from None
    except SafetensorError as error:
        raise Refused(
            f"the predictor's weights are damaged ({printable(error)})", where=printable(path), code="bad-predictor"
        ) from None
    try:
        return assemble(card, tensors)
    except NfnError:
        raise
    except (AttributeError, IndexError, KeyError, OverflowError, RuntimeError, TypeError, ValueError):
        raise Refused("card.json and weights.safetensors do not fit", where=str(folder), code="bad-predictor") from None


def assemble(card: Card, tensors: Mapping[str, Tensor]) -> Predictor:
    """A predictor from its card and named tensors (`tensors_of_predictor` gives them back)."""
    if card.members < 1:
        raise ValueError("a predictor without members")
    encoder = KINDS[card.model](card.taken, card.encoder, _under(tensors, _ENCODER))
    members = tuple(_network(encoder, card.architecture, tensors, f"members.{i}.") for i in range(card.members))
    interval: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in card.interval.items()}
    calibrated = Interval(**interval)
    calibrated.around(np.array([0.5]))  # a card may say anything: what does not compute is refused now
    typicality = Typicality(
        Distance(**{name: tensor.double() for name, tensor in _under(tensors, _DISTANCE).items()}),
        _network(encoder, card.contrast, tensors, "contrast."),
        float(card.in_distribution["largest_distance"]),
        float(card.in_distribution["least_log_odds"]),
    )
    return Predictor(card, encoder, members, calibrated, typicality)


def tensors_of_predictor(
    encoder: Encoder, members: Sequence[nn.Module], contrast: nn.Module, distance: Distance
) -> dict[str, Tensor]:
    """Names and tensors for weights.safetensors."""
    tensors = {
        f"{prefix}.{name}": tensor
        for prefix, network in (*((f"members.{i}", m) for i, m in enumerate(members)), ("contrast", contrast))
        for name, tensor in _stored(network).items()
    }
    fields = ("mean", "scale", "axes", "variances", "residual_variance")
    tensors |= {f"{_DISTANCE}{name}": getattr(distance, name) for name in fields}
    tensors |= {f"{_ENCODER}{name}": tensor for name, tensor in encoder.tensors().items()}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _stored(network: nn.Module) -> dict[str, Tensor]:
    """State with learned numbers in float16 and measured constants as they are."""
    learned = {name for name, _ in network.named_parameters()}
    return {name: t.half() if name in learned else t for name, t in network.state_dict().items()}


def _network(
    encoder: Encoder, architecture: Mapping[str, Any], tensors: Mapping[str, Tensor], prefix: str
) -> nn.Module:
    model = encoder.network(encoder.example(), architecture)
    model.load_state_dict(_under(tensors, prefix))
    return model.double().eval()


def write_predictor(folder: Path, card: Card, tensors: Mapping[str, Tensor]) -> None:
    """Writes weights.safetensors, card.json and README.md; what else the folder holds stays."""
    from safetensors.torch import save

    from nfn_cli.predictors.card import readme

    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder, keep=True) as made:
        (made / "weights.safetensors").write_bytes(save(dict(tensors)))
        (made / "README.md").write_text(readme(card))
        (made / "card.json").write_text(card.to_json())
