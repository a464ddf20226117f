"""benchmarks/generalization_setting.py: what a method is given and what it gives. Knows no method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from generalization_data import Array, Rows


@dataclass(frozen=True)
class Setting:
    """How a method is fitted.

    Attributes:
        seed: of everything random in it.
        quick: as little training as shows that it runs.
        images: training images, for methods that show inputs to networks.
    """

    seed: int = 0
    quick: bool = False
    images: Path | None = None


@dataclass(frozen=True)
class Fitted:
    """A fitted method.

    Attributes:
        guess: networks -> (n,) predicted scores.
        parameters: trainable numbers; None for trees.
    """

    guess: Callable[[Rows], Array]
    parameters: int | None


Method = Callable[[Rows, Array, Setting], Fitted]
