"""canonical/reduction/precision.py: what rounding of stored weights may do, and what counts as equal. Numbers only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

_STEPS = 8  # a stored weight and the one it is compared with went through a few roundings each


@dataclass(frozen=True)
class Precision:
    """Attributes:
    rounding: relative error of one number.
    tolerance: relative distance of rows that the user lets pass for none.
    smallest: below this a number of the file's type is 0 or nearly.
    """

    rounding: float
    tolerance: float = 0.0
    smallest: float = 0.0

    @property
    def factors(self) -> float:
        """Relative distance of two factors that count as one."""
        return 2 * self.rounding + self.tolerance

    @property
    def of_rows(self) -> tuple[float, float, float]:
        return self.rounding, self.tolerance, self.smallest


def precision_of(dtypes: Iterable[np.dtype[Any]], tolerance: float) -> Precision:
    """That of the coarsest element type."""
    found = [_info(dtype) for dtype in dtypes if dtype.kind == "f" or dtype.name == "bfloat16"]
    if not found:
        return Precision(_STEPS * float(np.finfo(np.float64).eps), tolerance)
    coarsest = max(found, key=lambda info: float(info.eps))
    return Precision(_STEPS * float(coarsest.eps), tolerance, 4 * float(coarsest.smallest_subnormal))


def _info(dtype: np.dtype[Any]) -> Any:
    """NumPy's own where it knows the type."""
    if dtype.kind == "f":
        return np.finfo(dtype)
    import ml_dtypes

    return ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
