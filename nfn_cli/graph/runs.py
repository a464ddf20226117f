"""graph/runs.py: a run: layers that follow one another, and what feeds it. Knows names and sizes; decides nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from nfn_cli.graph.layers import Layer
from nfn_cli.graph.names import stem_and_number, words_of

# Words of parts that have different tasks and do not feed one another.
CLASSES: tuple[frozenset[str], ...] = (
    frozenset({"policy", "pi", "actor", "action", "actions", "mu"}),
    frozenset({"value", "vf", "critic", "v"}),
    frozenset({"advantage", "adv"}),
)


@dataclass(eq=False)
class Run:
    """Layers one after another.

    Attributes:
        layers: weights in order, each with its normalizations.
        source: the run whose output it reads; None where it reads an input.
        join: "direct", "concat" (source and a further input), or "branches" (several sources).
        branches: the sources of a "branches" join.
        doubtful: runs of which it may read one or several; it then has no source and starts at an input of its own.
        evident: whether names, not only sizes and the alphabet, say that it reads its source.
        kept: whether something else may read its output, which therefore stays as it is.
    """

    layers: list[Layer]
    source: Run | None = None
    join: str = "direct"
    branches: list[Run] = field(default_factory=list)
    doubtful: list[Run] = field(default_factory=list)
    evident: bool = True
    kept: bool = False

    @property
    def first(self) -> Layer:
        return self.layers[0]

    @property
    def last(self) -> Layer:
        return self.layers[-1]

    @property
    def sources(self) -> list[Run]:
        """Everything that it reads or may read."""
        return [*([self.source] if self.source else []), *self.branches, *self.doubtful]

    @cached_property
    def words(self) -> frozenset[str]:
        """Of the name of its first layer, which stays the first."""
        return words_of(self.first.module) | {stem_and_number(t)[0].lower() for t in self.first.module}

    @property
    def shapes(self) -> list[tuple[int, int]]:
        return [(layer.size_in, layer.size_out) for layer in self.layers]


def follows(before: Layer, after: Layer) -> bool:
    """Whether `after` can read what `before` makes (a convolution may be flattened into a linear layer)."""
    if before.kind == "conv" and after.kind == "linear":
        return after.size_in % before.size_out == 0
    return before.kind == after.kind and before.size_out == after.size_in


def root(run: Run) -> Run:
    """Where the chain of its sources begins."""
    while run.source is not None:
        run = run.source
    return run


def ends_of(runs: Sequence[Run]) -> list[Run]:
    """Those that no other reads."""
    read = {source for run in runs for source in run.sources}
    return [run for run in runs if run not in read]


def feeders(run: Run) -> set[Run]:
    """The run, and all that it reads, directly or through others."""
    found, new = {run}, [run]
    while new:
        fresh = set(new.pop().sources) - found
        found |= fresh
        new += fresh
    return found


def readers(run: Run, runs: Sequence[Run]) -> set[Run]:
    """The run, and all that read it, directly or through others."""
    reading = _reading(runs)
    found, new = {run}, [run]
    while new:
        fresh = set(reading.get(new.pop(), ())) - found
        found |= fresh
        new += fresh
    return found


def depths(runs: Sequence[Run]) -> dict[Run, int]:
    """How many runs stand one behind the other in front of each."""
    reading = _reading(runs)
    waiting = {run: len(run.sources) for run in runs}
    found = dict.fromkeys(runs, 0)
    done = [run for run in runs if not waiting[run]]
    for run in done:  # which grows
        for other in reading.get(run, ()):
            found[other] = max(found[other], found[run] + 1)
            waiting[other] -= 1
            if not waiting[other]:
                done.append(other)
    return found


def _reading(runs: Sequence[Run]) -> dict[Run, list[Run]]:
    """Run -> those that read it."""
    found: dict[Run, list[Run]] = {}
    for run in runs:
        for source in run.sources:
            found.setdefault(source, []).append(run)
    return found
