"""train/inr_recipes.py: how each kind of classifier of INRs is trained. Knows kinds and INR data; no card.

Settings were chosen on the validation images, which are training images of the data sets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from nfn_cli.errors import WrongUsage
from nfn_cli.predictors.kinds.inr import INR_KINDS, InrEncoder, ProbeReader
from nfn_cli.train.harness import TrainConfig
from nfn_cli.train.inr_data import InrData


@dataclass(frozen=True)
class InrRecipe:
    """How one kind is trained.

    Attributes:
        encoder: from channels, height, width and the widths of all networks.
        architecture: by channels of the image.
        image_epochs: how often the images themselves are shown before any INR, as INRs without error; 0 for never.
        training: of the member; augment: fields of `InrAugment`.
        blind_to, takes: in words, for the card.
    """

    encoder: Callable[[int, InrData], InrEncoder]
    architecture: Mapping[int, Mapping[str, Any]]
    blind_to: str
    takes: str
    image_epochs: int = 0
    training: TrainConfig = field(default_factory=TrainConfig)
    augment: Mapping[str, Any] = field(default_factory=dict)


def _probes(channels: int, data: InrData) -> InrEncoder:
    return ProbeReader(channels, *data.size)


def _sines(model: str, fixed: bool) -> Callable[[int, InrData], InrEncoder]:
    def make(channels: int, data: InrData) -> InrEncoder:
        widths = {_widths(part.graph) for part in data.parts}
        if len(widths) != 1:
            raise WrongUsage("this model is trained on networks of one shape, these differ")
        found = widths.pop()
        settings = {"channels": channels, "layers": len(found) - 2, "widths": list(found) if fixed else None}
        return INR_KINDS[model](settings, {})

    return make


def _widths(graph: Any) -> tuple[int, ...]:
    shapes = [graph.parameter_shapes[op.parameters["weight"]] for op in graph.ops if op.kind == "linear"]
    return (int(shapes[0][1]), *(int(shape[0]) for shape in shapes))


_GROUP = "D∞ ≀ S_n of each layer of sines: permutations, signs, and phase shifts by half turns"
_CHAINS = "plain chains of two layers of sines (any ω) from the plane to one number or three"
_ALIKE_CHAINS = f"{_CHAINS}, of the widths of the training networks"
INR_RECIPES: Mapping[str, InrRecipe] = MappingProxyType(
    {
        "probe": InrRecipe(
            _probes,
            {
                1: {"blocks": ((24, 32), (64,), (96,)), "dropout": 0.1},
                3: {"blocks": ((32, 48), (64, 64), (128,)), "dropout": 0.1},
            },
            "everything that keeps a network's function: it sees nothing but values",
            "any network that takes two coordinates to {colours} and that can be run",
            image_epochs=1,
            training=TrainConfig(
                epochs=6, batch_size=128, learning_rate=4e-3, weight_decay=0.02, patience=0, validate_every=1,
                checkpoint_every=1,
            ),
        ),
        "phasor": InrRecipe(
            _sines("phasor", False),
            {1: {"side": 28, "head_width": 320}, 3: {"side": 32, "head_width": 192}},
            _GROUP,
            _CHAINS,
            image_epochs=10,
            training=TrainConfig(
                epochs=12, batch_size=128, learning_rate=2e-3, weight_decay=0.05, patience=0, validate_every=1,
                checkpoint_every=1,
            ),
            augment={"kept": 0.75},
        ),
        "monomial-nfn": InrRecipe(
            _sines("monomial-nfn", True),
            {n: {"channels": (16,), "side": 20, "head_width": 256, "dropout": 0.1} for n in (1, 3)},
            _GROUP,
            _ALIKE_CHAINS,
            training=TrainConfig(
                epochs=8, batch_size=128, learning_rate=2e-3, weight_decay=0.02, patience=0, validate_every=1,
                checkpoint_every=1,
            ),
            augment={"kept": 0.75},
        ),
        "hnp": InrRecipe(
            _sines("hnp", True),
            {n: {"channels": (16, 16), "head_width": 256, "dropout": 0.1} for n in (1, 3)},
            "permutations of hidden units, and to nothing else: signs and phases show",
            _ALIKE_CHAINS,
            training=TrainConfig(
                epochs=12, batch_size=128, learning_rate=2e-3, weight_decay=0.01, patience=0, validate_every=1,
                checkpoint_every=1,
            ),
        ),
    }
)  # fmt: skip
