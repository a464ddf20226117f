"""train/audit.py: how far a predictor's outputs move along the orbits of networks. Knows anything that answers; no file.

Every comparison is of one network with itself after one group element. That the element keeps the network's function is
shown first, by running both in float64; where it does not, the predictor is not judged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

import numpy as np

from nfn_cli.errors import NfnError, Refused
from nfn_cli.train.audit_generators import Generator, generators_of
from nfn_cli.train.audit_subjects import Subject, Tensors, subject
from nfn_cli.train.audit_verdict import Comparison, Judged, Movement, Verdict, judged, movement
from nfn_cli.train.audited import Answer, Audited, Item

SCHEMA = "nfn.audit-invariance/1"

# What waits to be asked together: moved copies of weights, in memory.
_WAITING_BYTES = 1 << 28
_WAITING = 256

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class AuditConfig:
    """How an audit is done.

    Attributes:
        largest: scales go from 1/largest to largest.
        windings: phases go up to so many half periods either way.
        samples: elements for each network, kind and magnitude.
        tolerance: relative change of an output that is allowed, weights stored in float32.
        seed: of the elements and of the inputs on which functions are compared.
        extras: whether symmetries beyond the monomial group are tried as well.
    """

    largest: float = 64.0
    windings: int = 8
    samples: int = 3
    tolerance: float = 1e-6
    seed: int = 0
    extras: bool = False


@dataclass(frozen=True)
class Audit:
    """The result.

    Attributes:
        predictor: as the user named it.
        resolution: step to which it rounds its answers; one step is not counted as movement.
        config: how it was done.
        networks: names of those that took part.
        refused: names of the others, and why.
        generators: one entry a kind and magnitude; the first, "identity", asks twice about the same weights.
        verdict: "fail" where one generator failed; "pass" where each kind passed at some magnitude; else "none".
    """

    predictor: str
    resolution: float
    config: AuditConfig
    networks: tuple[str, ...]
    refused: tuple[tuple[str, str], ...]
    generators: tuple[Judged, ...]

    @property
    def verdict(self) -> Verdict:
        verdicts: dict[str, set[Verdict]] = {}
        for entry in self.generators:
            verdicts.setdefault(entry.generator, set()).add(entry.verdict)
        if any("fail" in some for some in verdicts.values()):
            return "fail"
        # asking twice is no generator of the group
        return "pass" if len(verdicts) > 1 and all("pass" in some for some in verdicts.values()) else "none"

    def as_json(self) -> dict[str, Any]:
        """Plain values under the keys of the schema `nfn.audit-invariance/1`."""
        return {
            "schema": SCHEMA,
            "predictor": self.predictor,
            "tolerance": self.config.tolerance,
            "resolution": self.resolution,
            "samples": self.config.samples,
            "seed": self.config.seed,
            "networks": list(self.networks),
            "refused": [{"path": path, "reason": reason} for path, reason in self.refused],
            "generators": [
                {key: None if isinstance(value, float) and not isfinite(value) else value for key, value in row.items()}
                for row in map(asdict, self.generators)
            ],
            "verdict": self.verdict,
        }


def audit(
    audited: Audited,
    items: Sequence[Item],
    config: AuditConfig = AuditConfig(),
    *,
    generators: Sequence[Generator] | None = None,
    progress: Progress = lambda done, total: None,
) -> Audit:
    """Ask about every network and about what random group elements make of it.

    Args:
        audited: the predictor.
        items: networks; one that cannot be run, or that the predictor does not answer for, is set aside with the reason.
        generators: what to do to them; None means all that their groups offer.
        progress: told how many comparisons are done, and of how many.
    """
    examined, refused = _examined(audited, items, config)
    if generators is None:
        generators = generators_of(
            [e.subject for e in examined], largest=config.largest, windings=config.windings, extras=config.extras
        )
    total = config.samples * sum(g.applies(e.subject) for g in generators for e in examined)
    rows, done = [_asked_twice(audited, examined, config)] if examined else [], 0
    for place, generator in enumerate(generators):
        comparisons = []
        for comparison in _compared(audited, generator, place, examined, config):
            comparisons.append(comparison)
            done += 1
            progress(done, total)
        if comparisons:
            rows.append(judged(generator.name, generator.magnitude, comparisons, config.tolerance))
    paths = tuple(e.subject.checkpoint.path for e in examined)
    return Audit(audited.name, audited.resolution, config, paths, tuple(refused), tuple(rows))


@dataclass(frozen=True, eq=False)
class _Examined:
    """A network and the answers before anything was done to it; `double` is None where float64 is not taken."""

    number: int
    subject: Subject
    single: Answer
    double: Answer | None


def _examined(
    audited: Audited, items: Sequence[Item], config: AuditConfig
) -> tuple[list[_Examined], list[tuple[str, str]]]:
    found: list[_Examined] = []
    refused = []
    for number, item in enumerate(items):
        try:
            one = subject(item, config.seed)
            tensors = one.checkpoint.tensors
            single, double = map(_whole, audited.ask([one.item(tensors, np.float32), one.item(tensors, np.float64)]))
            if isinstance(single, NfnError):
                raise single
        except NfnError as error:
            refused.append((item[0].path, error.what))
            continue
        found.append(_Examined(number, one, single, None if isinstance(double, NfnError) else double))
    return found, refused


def _whole(answer: Answer | NfnError) -> Answer | NfnError:
    if not isinstance(answer, NfnError) and not all(np.isfinite(output).all() for output in answer):
        return Refused("answered NaN or infinity", code="not-finite")
    return answer


def _asked_twice(audited: Audited, examined: Sequence[_Examined], config: AuditConfig) -> Judged:
    """A predictor that answers differently on the same weights is not blind to anything."""
    comparisons = []
    for e in examined:
        (again,) = audited.ask([e.subject.item(e.subject.checkpoint.tensors, np.float32)])
        moved = movement(e.single, again, config.tolerance, audited.resolution)
        comparisons.append(Comparison(e.number, 0.0, 0.0, moved))
    return judged("identity", None, comparisons, config.tolerance)


@dataclass(frozen=True, eq=False)
class _Trial:
    """A network after one element, not yet asked about."""

    examined: _Examined
    exact: float
    rounded: float
    items: tuple[Item, ...]


def _compared(
    audited: Audited, generator: Generator, place: int, examined: Sequence[_Examined], config: AuditConfig
) -> Iterator[Comparison]:
    waiting: list[_Trial] = []
    size = 0
    for e in examined:
        if not generator.applies(e.subject):
            continue
        random = np.random.default_rng([config.seed, place, e.number])
        for tensors in generator.moved(e.subject, config.samples, random):
            trial = _trial(e, tensors)
            if not trial.items:
                yield Comparison(e.number, trial.exact, trial.rounded)
                continue
            waiting.append(trial)
            size += sum(array.nbytes for item, _ in trial.items for array in item.tensors.values())
            if size > _WAITING_BYTES or len(waiting) >= _WAITING:
                yield from _answered(audited, waiting, config)
                waiting, size = [], 0
    yield from _answered(audited, waiting, config)


def _trial(e: _Examined, moved: Tensors) -> _Trial:
    double = e.subject.item(moved, np.float64)
    exact = e.subject.function_change(double[0].tensors)
    single = e.subject.item(double[0].tensors, np.float32)
    rounded = e.subject.function_change(single[0].tensors)
    kept = Comparison(e.number, exact, rounded).preserved
    asked = (single,) if e.double is None else (single, double)
    return _Trial(e, exact, rounded, asked if kept else ())


def _answered(audited: Audited, trials: Sequence[_Trial], config: AuditConfig) -> Iterator[Comparison]:
    answers = iter(audited.ask([item for trial in trials for item in trial.items]) if trials else ())
    for trial in trials:
        e = trial.examined

        def moved(before: Answer) -> Movement:
            return movement(before, next(answers), config.tolerance, audited.resolution)

        single = moved(e.single)
        double = None if e.double is None else moved(e.double)
        yield Comparison(e.number, trial.exact, trial.rounded, single, double)
