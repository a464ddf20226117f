"""graph/reference_registry.py: what the parts of the reference evaluator share: the table of kinds, and parameters in slices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.graph.model import Op

FloatArray = np.ndarray[Any, np.dtype[np.float64]]
Parameters = Mapping[str, np.ndarray[Any, np.dtype[Any]]]


@dataclass(frozen=True)
class Reader:
    """Parameters with their shapes, read in float64 and in slices, so that memory stays far below the file's size."""

    tensors: Parameters
    shapes: Mapping[str, tuple[int, ...]]

    def __getitem__(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        return self.tensors[name]

    def rows(self, name: str, start: int, stop: int) -> FloatArray:
        """Rows start … stop; a mapping that computes its tensors may offer `rows` to compute no more than those."""
        some = getattr(self.tensors, "rows", None)
        rows = some(name, start, stop) if some is not None else self.tensors[name][start:stop]
        return np.asarray(rows, np.float64)


Evaluator = Callable[[Op, Sequence[FloatArray], Reader], FloatArray]

# Entries of a weight that are raised to float64 at a time: they stay in cache.
SLICE_ENTRIES = 1 << 18

EVALUATORS: dict[str, Evaluator] = {}


def evaluates(*kinds: str) -> Callable[[Evaluator], Evaluator]:
    def register(function: Evaluator) -> Evaluator:
        for kind in kinds:
            EVALUATORS[kind] = function
        return function

    return register
