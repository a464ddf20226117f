"""train/audit_verdict.py: from what was measured to pass, fail or no verdict. Plain numbers; no network, no predictor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nfn_cli.errors import NfnError
from nfn_cli.train.audited import Answer

Verdict = Literal["pass", "fail", "none"]

# A wrong action changes outputs by order 1; a right one, in float64, by rounding.
EXACT = 1e-8


@dataclass(frozen=True)
class Movement:
    """From one answer to another.

    Attributes:
        change: largest change of an entry over the largest entry of its output; infinite where one is not a number.
        within: whether it is within what the audit allows.
        problem: why there is no comparison; "" where there is one.
    """

    change: float
    within: bool
    problem: str = ""


def movement(before: Answer, after: Answer | NfnError, tolerance: float, resolution: float) -> Movement:
    """How far the outputs moved.

    Args:
        before: an answer without NaN.
        resolution: step to which answers are rounded: rounding may turn any change, however small, into one step.
    """
    if isinstance(after, NfnError):
        return Movement(float("inf"), False, after.what)
    if [a.shape for a in before] != [b.shape for b in after]:
        return Movement(float("inf"), False, "answered in another shape")
    change, within = 0.0, True
    for old, new in zip(before, after, strict=True):
        if not np.isfinite(new).all():
            return Movement(float("inf"), False, "answered NaN or infinity")
        moved, size = float(np.max(np.abs(new - old), initial=0.0)), float(np.max(np.abs(old), initial=0.0))
        change = max(change, moved / size if size else moved)
        within &= moved <= tolerance * (size or 1.0) + resolution * (1.0 + 1e-6)
    return Movement(change, within)


@dataclass(frozen=True)
class Comparison:
    """One network, one element.

    Attributes:
        network: its number.
        exact: change of the network's function under the element, in float64.
        rounded: the same once the weights are rounded to float32.
        single: how far the predictor moved, weights in float32; None where it was not asked.
        double: the same in float64; None where it was not asked or does not take float64.
    """

    network: int
    exact: float
    rounded: float
    single: Movement | None = None
    double: Movement | None = None

    @property
    def preserved(self) -> bool:
        """Whether the element kept the function."""
        return self.exact <= EXACT

    def verdict(self, tolerance: float) -> Verdict:
        """The predictor is not blamed for what rounding the weights did to the function itself.

        It fails where it moved and exact weights, or rounded weights with the same function, were what it was shown.
        """
        if not self.preserved or self.single is None:
            return "none"
        if self.double is not None and not self.double.within:
            return "fail"
        if self.single.within:
            return "pass"
        return "fail" if self.rounded <= tolerance else "none"


@dataclass(frozen=True)
class Judged:
    """All comparisons of one kind of element at one magnitude.

    Attributes:
        generator, magnitude: of the elements.
        networks: how many were moved; elements: how many comparisons that made.
        preserved: comparisons in which the element kept the function, shown in float64.
        largest_change, mean_change: of the predictor's outputs among these, weights stored in float32; None: no number.
        largest_change_float64: the same with weights in float64.
        function_change: largest change of the networks' own outputs among these, weights stored in float32.
        verdict, reason: "none" where nothing can be said; the reason is empty for a pass without remarks.
    """

    generator: str
    magnitude: float | None
    networks: int
    elements: int
    preserved: int
    largest_change: float | None
    mean_change: float | None
    largest_change_float64: float | None
    function_change: float | None
    verdict: Verdict
    reason: str


def judged(generator: str, magnitude: float | None, comparisons: Sequence[Comparison], tolerance: float) -> Judged:
    """One verdict: fail where one comparison fails, else pass where one passes."""
    kept = [c for c in comparisons if c.preserved]
    verdicts = [c.verdict(tolerance) for c in comparisons]
    verdict: Verdict = "fail" if "fail" in verdicts else "pass" if "pass" in verdicts else "none"
    single = _finite([c.single for c in kept])
    double = _finite([c.double for c in kept])
    return Judged(
        generator,
        magnitude,
        len({c.network for c in comparisons}),
        len(comparisons),
        len(kept),
        max(single, default=None),
        float(np.mean(single)) if single else None,
        max(double, default=None),
        max((c.rounded for c in kept), default=None),
        verdict,
        _reason(comparisons, verdicts, verdict, tolerance),
    )


def _finite(movements: Sequence[Movement | None]) -> list[float]:
    return [m.change for m in movements if m is not None and np.isfinite(m.change)]


def _reason(comparisons: Sequence[Comparison], verdicts: Sequence[Verdict], verdict: Verdict, tolerance: float) -> str:
    count = len(comparisons)
    if verdict == "fail":
        failed = [c for c, one in zip(comparisons, verdicts, strict=True) if one == "fail"]
        movements = [m for c in failed for m in (c.single, c.double) if m is not None and not m.within]
        problems = sorted({m.problem for m in movements if m.problem})
        what = problems[0] if problems else f"moved by up to {max(m.change for m in movements):.1e}"
        return f"{what} ({len(failed)} of {count}; allowed {tolerance:.0e})"
    unkept = [c for c in comparisons if not c.preserved]
    if unkept:
        worst = max(c.exact for c in unkept)
        return f"the action changed the network's function by {worst:.1e} ({len(unkept)} of {count}, not judged)"
    blurred = [c for c, one in zip(comparisons, verdicts, strict=True) if one == "none"]
    if blurred:
        worst = max(c.rounded for c in blurred)
        return (
            f"rounding to float32 changed the network's function by {worst:.1e} ({len(blurred)} of {count}, not judged)"
        )
    return ""
