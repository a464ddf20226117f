"""predictors/predictor.py: a trained predictor: load it, ask it. Knows cards and networks/; no graph, no command.

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
from torch import Tensor

from nfn_cli.errors import NfnError, Refused, SurroundingsFailed
from nfn_cli.networks.monomial_nfn import MonomialNfn, MonomialNfnConfig, Prepared, prepare
from nfn_cli.networks.weight_features import ChainShape, WeightFeatures, features_from_arrays, stacked
from nfn_cli.predictors.card import Card, read_card
from nfn_cli.predictors.interval import Interval
from nfn_cli.predictors.shipped import predictor_folder
from nfn_cli.predictors.typicality import Distance, Typicality

Array = np.ndarray[Any, np.dtype[Any]]
_DISTANCE = "distance."


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a predictor says about one network; numbers are rounded to six decimals.

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
    """Members whose predictions are averaged, the interval, and the in-distribution test."""

    card: Card
    members: tuple[MonomialNfn, ...]
    interval: Interval
    typicality: Typicality

    def predict_batch(
        self, chains: Sequence[tuple[Sequence[Array], Sequence[Array | None]]], paths: Sequence[str] | None = None
    ) -> tuple[Prediction, ...]:
        """Chains in torch layout, (out, in, *kernel) and (out,) with None for a missing bias -> answers in order.

        Raises:
            Refused: the shapes are not what the predictor was trained for, or a number is not finite.
        """
        if not chains:
            return ()
        rows = []
        for weights, biases in chains:
            reason = self.card.shape_mismatch(tuple(w.shape for w in weights))
            if reason is not None:
                raise Refused(reason, fix="use a predictor trained on such networks", code="predictor-mismatch")
            rows.append(features_from_arrays(weights, biases))
        return self.predict_features(stacked(rows), paths)

    def predict_features(self, raw: WeightFeatures, paths: Sequence[str] | None = None) -> tuple[Prediction, ...]:
        """Raw weights as a batch of weight features (kernel positions are channels) -> answers in order."""
        tensors = (*raw.weights, *raw.biases)
        if not all(bool(torch.isfinite(t).all()) for t in tensors):
            raise Refused("a weight is NaN or infinite", fix="repair the checkpoint", code="non-finite-weights")
        prepared = prepare(self.members[0].config, raw)
        predicted = self.scores(prepared)
        low, high = self.interval.around(predicted)
        inside = self.typicality.inside(prepared)
        return tuple(
            Prediction(path, round(float(p), 6), (round(float(a), 6), round(float(b), 6)), self.card.name, bool(i))
            for path, p, a, b, i in zip(paths or [""] * len(raw), predicted, low, high, inside, strict=True)
        )

    @torch.no_grad()
    def scores(self, prepared: Prepared) -> np.ndarray[Any, np.dtype[np.float64]]:
        """(b,) mean predicted score of the members."""
        prepared = prepared.to(torch.float64)
        logits = torch.stack([member.forward_prepared(prepared)[:, 0].double() for member in self.members])
        return np.asarray(torch.sigmoid(logits).mean(0).numpy())


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
        raise Refused(f"the predictor's weights are damaged ({error})", where=str(path), code="bad-predictor") from None
    try:
        return assemble(card, tensors)
    except NfnError:
        raise
    except (KeyError, RuntimeError, TypeError, ValueError):
        raise Refused("card.json and weights.safetensors do not fit", where=str(folder), code="bad-predictor") from None


def assemble(card: Card, tensors: Mapping[str, Tensor]) -> Predictor:
    """A predictor from its card and named tensors (`tensors_of_predictor` gives them back)."""
    positions = tuple(int(np.prod(kernel, dtype=np.int64)) for kernel in card.kernels)
    shape = ChainShape(card.widths, positions)
    members = tuple(_network(shape, card.architecture, tensors, f"members.{i}.") for i in range(card.members))
    parts = {name.removeprefix(_DISTANCE): t.double() for name, t in tensors.items() if name.startswith(_DISTANCE)}
    interval: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in card.interval.items()}
    typicality = Typicality(
        Distance(**parts),
        _network(shape, card.contrast, tensors, "contrast."),
        float(card.in_distribution["largest_distance"]),
        float(card.in_distribution["least_log_odds"]),
    )
    return Predictor(card, members, Interval(**interval), typicality)


def tensors_of_predictor(
    members: Sequence[MonomialNfn], contrast: MonomialNfn, distance: Distance
) -> dict[str, Tensor]:
    """Names and tensors for weights.safetensors."""
    tensors = {
        f"{prefix}.{name}": tensor
        for prefix, network in (*((f"members.{i}", m) for i, m in enumerate(members)), ("contrast", contrast))
        for name, tensor in _stored(network).items()
    }
    fields = ("mean", "scale", "axes", "variances", "residual_variance")
    tensors |= {f"{_DISTANCE}{name}": getattr(distance, name) for name in fields}
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _stored(network: MonomialNfn) -> dict[str, Tensor]:
    """State with learned numbers in float16 and measured constants as they are."""
    learned = {name for name, _ in network.named_parameters()}
    return {name: t.half() if name in learned else t for name, t in network.state_dict().items()}


def _network(
    shape: ChainShape, architecture: Mapping[str, Any], tensors: Mapping[str, Tensor], prefix: str
) -> MonomialNfn:
    settings: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in architecture.items()}
    model = MonomialNfn(shape, MonomialNfnConfig(**settings))
    model.load_state_dict({k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)})
    return model.double().eval()


def write_predictor(folder: Path, card: Card, tensors: Mapping[str, Tensor]) -> None:
    """Writes weights.safetensors, card.json and README.md; the card last, so that a folder with a card is complete."""
    from safetensors.torch import save

    from nfn_cli.predictors.card import readme

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.safetensors").write_bytes(save(dict(tensors)))
    (folder / "README.md").write_text(readme(card))
    (folder / "card.json").write_text(card.to_json())
