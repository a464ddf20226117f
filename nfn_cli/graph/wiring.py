"""graph/wiring.py: layers in natural order -> runs, and which run feeds which. Knows names and sizes; builds no graph.

A wrong junction would claim symmetries that are not there, and so would a missing one. Runs are joined on evidence; what
may be read in a second way is left to doubts.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from nfn_cli.errors import Refused
from nfn_cli.graph.doubts import may_read, one_of, with_doubts
from nfn_cli.graph.layers import Layer
from nfn_cli.graph.names import stem_and_number, words_of
from nfn_cli.graph.norm_owners import refuse_norms_inside, with_norms_attached
from nfn_cli.graph.runs import CLASSES, Run, depths, ends_of, feeders, follows, readers, root

_FRONT = frozenset(
    {
        "encoder",
        "enc",
        "features",
        "feature",
        "backbone",
        "trunk",
        "stem",
        "extractor",
        "body",
        "shared",
        "conv",
        "convs",
        "base",
        "torso",
        "embed",
    }
)
_TAIL = frozenset(
    {
        "decoder",
        "dec",
        "head",
        "heads",
        "classifier",
        "out",
        "output",
        "mu",
        "sigma",
        "logits",
        "final",
        "last",
        "fc",
        "mean",
        "std",
        "log",
        "advantage",
        "adv",
        "value",
        "val",
        "action",
        "prediction",
        "regressor",
        "fusion",
        "top",
    }
)
_LAST = frozenset({"last", "final"})
_MOST_DOUBTS = 50  # layers that one may read; among more, names tell nothing
_BEGINNING, _ENDING = frozenset({"input", "inp", "first"}), _LAST | {"output", "out"}
_WHOLE = frozenset(
    {"actor", "critic", "target", "online", "generator", "discriminator", "teacher", "student", "ema", "local"}
)


def wire(layers: Sequence[Layer], sums: bool = True) -> list[list[Run]]:
    """Networks as lists of runs, sources first; `sums` as in `with_doubts`.

    Raises:
        Refused: sizes do not fit together, or fit in more than one way.
    """
    weighted = with_norms_attached(layers)
    networks: list[list[Run]] = []
    for scope in _scopes(weighted):
        found = _networks(with_doubts(_joined(_runs(scope)), sums))
        _refuse_fragments(found)
        networks.extend(found)
    runs = [run for network in networks for run in network]
    refuse_norms_inside([run.first for run in runs if run.source is None and not run.branches], weighted)
    return networks


def _refuse_fragments(networks: Sequence[Sequence[Run]]) -> None:
    """Pieces that do not hang together are networks of their own, or the names do not say how they do."""
    if len(networks) < 2:
        return
    layers = [[layer for run in runs for layer in run.layers] for runs in networks]
    convolutional = any(layer.kind == "conv" for piece in layers for layer in piece)
    single = [piece for piece in layers if len(piece) == 1]
    same_input = len({piece[0].size_in for piece in layers}) == 1
    if convolutional or (single and not (len(single) == len(layers) and same_input)):
        odd = min(layers, key=len)[0]
        raise Refused(
            "names do not say how this layer is connected to the others",
            where=odd.label,
            fix="give the weights of one chain in order with --layers NAME,NAME,…",
            code="needs-graph",
        )


def chain(layers: Sequence[Layer], order: Sequence[str]) -> list[list[Run]]:
    """The network whose weights are named in order.

    Raises:
        Refused: an unknown name, or sizes that do not fit.
    """
    by_weight = {layer.tensors["weight"]: layer for layer in layers if layer.kind in ("linear", "conv")}
    missing = [name for name in order if name not in by_weight]
    if missing:
        raise Refused("no such weight", where=missing[0], fix=f"weights: {', '.join(by_weight)}", code="unknown-layer")
    norms = [layer for layer in layers if layer.kind not in ("linear", "conv")]
    chosen = with_norms_attached([*(by_weight[name] for name in order), *norms])
    for before, after in itertools.pairwise(chosen):
        if not follows(before, after):
            raise _misfit(before, after)
    refuse_norms_inside(chosen[:1], chosen)
    return [[Run(chosen)]]


def _misfit(before: Layer, after: Layer) -> Refused:
    return Refused(
        f"reads {after.size_in} values, {before.label} before it makes {before.size_out}",
        where=after.label,
        fix="give the order with --layers NAME,NAME,…",
        code="shape-mismatch",
    )


def _scopes(layers: Sequence[Layer]) -> list[list[Layer]]:
    """Layers of networks that names declare to be whole: actor, critic, target, …; parallel copies; the rest together."""
    if any(not layer.module for layer in layers):
        return [list(layers)]
    heads: dict[str, list[Layer]] = {}
    for layer in layers:
        heads.setdefault(layer.module[0] if len(layer.module) > 1 else "", []).append(layer)
    shapes = {head: [(l.kind, l.size_in, l.size_out) for l in group] for head, group in heads.items()}
    whole = {head for head in heads if head and words_of((head,)) & _WHOLE}
    for head, other in ((a, b) for a in heads for b in heads if a < b and a and b):
        stem, other_stem = stem_and_number(head), stem_and_number(other)
        numbered = stem[0] == other_stem[0] and not follows(heads[head][-1], heads[other][0])
        alike = shapes[head] == shapes[other] and (
            len(shapes[head]) > 1 and not (stem[0] == other_stem[0] and follows(heads[head][-1], heads[other][0]))
        )
        if alike or (numbered and len(heads[head]) > 1 and len(heads[other]) > 1 and "" not in heads):
            whole |= {head, other}
    # "q_net" beside "q_net_target"
    whole |= {h for h in heads if any(w != h and w.startswith(h) and words_of((w,)) & _WHOLE for w in whole)}
    rest = [layer for head, group in heads.items() if head not in whole for layer in group]
    scopes = [group for head, group in heads.items() if head in whole]
    return [*scopes, *([sorted(rest, key=lambda layer: layer.key)] if rest else [])]


def _runs(layers: Sequence[Layer]) -> list[Run]:
    """Cut the natural order where a layer does not follow the one before or its family of names ends."""
    families: dict[tuple[tuple[str, ...], str], list[Layer]] = {}
    for layer in layers:
        stem = stem_and_number(layer.module[-1])[0] if layer.module else ""
        families.setdefault((layer.module[:-1], stem), []).append(layer)
    runs = [run for family in families.values() for run in _family_runs(family)]
    return sorted(runs, key=lambda run: run.first.key)


def _family_runs(family: list[Layer]) -> list[Run]:
    try:
        return _cut(family)
    except Refused:
        by_digits = sorted(family, key=lambda layer: [int(digit) for digit in str(layer.number or 0)])
        if by_digits == family:
            raise
        try:
            return _cut(by_digits)  # fc1, fc21, fc22, fc3: the heads 1 and 2 of the second layer
        except Refused:
            pass
        raise


def _cut(family: Sequence[Layer]) -> list[Run]:
    """Cut where a layer does not follow the one before it; what reads the same units as the one before is its sibling."""
    current = Run([family[0]])
    runs, siblings = [current], [current]
    for before, after in itertools.pairwise(family):
        following = Run([after])
        if follows(before, after):
            twins = [run for run in siblings if run.last.size_out == before.size_out and run.last is not before]
            if not twins or current not in siblings:
                current.layers.append(after)
                siblings = []
                continue
            following.doubtful = [*twins, current]
        elif before.kind == "linear" and after.kind == "conv" and before.size_out % after.size_in == 0:
            following.doubtful = [current]  # units are made into channels and positions, in one order or the other
        elif after.size_in == root(current).first.size_in:
            pass  # the same input once more
        elif _is_concatenation(before, after, current.first.size_in):
            following.source, following.join = current, "concat"
        elif before.size_in != after.size_in or current.join != "direct":
            raise _misfit(before, after)
        else:
            if len(current.layers) > 1:
                current.layers.pop()
                siblings = [Run([before], current)]
                runs.append(siblings[0])
                following.source = current
            else:
                following.source = current.source
            runs.append(following)
            siblings.append(following)
            current = following
            continue
        runs.append(following)
        current, siblings = following, [following]
    return runs


def _is_concatenation(before: Layer, after: Layer, size_in: int) -> bool:
    extra = after.size_in - before.size_out
    return before.kind == after.kind == "linear" and extra > 0 and (extra == size_in or extra * 2 <= before.size_out)


def _joined(runs: list[Run]) -> list[Run]:
    """Find for each run that does not start at an input the one it reads."""
    if len(runs) == 1:
        return runs
    for position, run in enumerate(runs):
        if run.source is not None or run.doubtful:
            continue
        behind = readers(run, runs)
        candidates = [
            other for index, other in enumerate(runs) if other not in behind and _may_feed(other, run, index < position)
        ]
        if len(candidates) > 1:
            candidates = _preferred(candidates, run, runs)
        if 1 < len(candidates) <= _MOST_DOUBTS and run.first.kind == "linear":
            run.doubtful = candidates
            continue
        if len(candidates) > 1:
            raise may_read(run, one_of(candidates))
        if candidates:
            run.source, run.evident = candidates[0], _is_evident(candidates[0], run)
    _join_concatenations(runs)
    return runs


def _may_feed(source: Run, run: Run, earlier: bool) -> bool:
    if not follows(source.last, run.first) or (
        source.shapes == run.shapes and len(run.layers) > 1 and not same_container(source, run)
    ):
        return False
    classes = [(c & source.words, c & run.words) for c in CLASSES]
    source_class = [bool(mine) for mine, _ in classes]
    run_class = [bool(theirs) for _, theirs in classes]
    if any(source_class) and any(run_class) and source_class != run_class:
        return False
    if source.words & _ENDING and not run.words & _ENDING:
        return False
    if source.words & _TAIL and not run.words & _TAIL and not same_container(source, run):
        return False
    if source.words & _BEGINNING and not run.words & _BEGINNING:
        return True
    front, tail = bool(source.words & _FRONT) and not run.words & _FRONT, bool(run.words & _TAIL)
    if source.last.kind == "conv" and run.first.kind == "linear":
        return True
    return earlier if same_container(source, run) and not tail else (front or tail or earlier)


def _is_evident(source: Run, run: Run) -> bool:
    """Whether a word or a number says that one feeds the other."""
    front = bool(source.words & (_FRONT | _BEGINNING)) and not run.words & (_FRONT | _BEGINNING)
    tail = bool(run.words & (_TAIL | _ENDING)) and not source.words & (_TAIL | _ENDING)
    task = any(words & source.words and words & run.words for words in CLASSES)
    flattened = source.last.kind != run.first.kind
    return front or tail or task or flattened or same_container(source, run) or _next_number(source, run)


def same_container(left: Run, right: Run) -> bool:
    """Whether both runs are numbered parts of one container ("net.0.linear" and "net.1.linear")."""
    a, b = left.first.module, right.first.module
    one_module = len(a) == len(b) == 1 and stem_and_number(a[0])[0] == stem_and_number(b[0])[0]
    return one_module or (bool(a[:-1]) and bool(b) and a[0] == b[0])


def is_part_of(run: Run, reader: Run) -> bool:
    """Whether what reads a run is named as a further layer of it: of one container, or the "last", "final" of an MLP."""
    linear = all(layer.kind == "linear" for layer in (*run.layers, *reader.layers))
    return same_container(run, reader) or (linear and len(reader.layers) == 1 and bool(reader.words & _LAST))


def _numbered_alike(runs: Sequence[Run]) -> bool:
    """Whether runs are "net.0.linear", "net.1.linear", …: numbered blocks of one container with one layer each."""

    def bare(run: Run) -> tuple[str, ...]:
        return tuple("#" if token.isdigit() else token for token in run.first.module)

    numbered = all(len(run.layers) == 1 and any(map(str.isdigit, run.first.module[:-1])) for run in runs)
    return numbered and len({bare(run) for run in runs}) == 1


def _preferred(candidates: list[Run], run: Run, runs: list[Run]) -> list[Run]:
    """Same role in the name first, then the nearest before it in the same container or numbering, then the front."""
    mine = [c for c in CLASSES if c & run.words]
    same = [other for other in candidates if any(c & other.words for c in mine)]
    if mine and same:
        candidates = same
    position = runs.index(run)
    before = [other for other in candidates if runs.index(other) < position]
    contained = [other for other in before if same_container(other, run)]
    if contained and not run.words & _TAIL:
        return contained[-1:]
    fronts = [other for other in candidates if other.words & _FRONT and not other.words & _TAIL]
    if len(fronts) == 1:
        return fronts
    # heads of one trunk are themselves no sources
    sources = [other for other in candidates if not other.words & _TAIL]
    if len(sources) == 1:
        return sources
    if run.words & _LAST and _numbered_alike(sources):
        return sources[-1:]
    ends = [other for other in ends_of(runs) if other in candidates]
    if run.words & _ENDING and len(ends) == 1 and feeders(ends[0]).issuperset(candidates):
        return ends  # input, hidden, output
    numbers = [other for other in before if _next_number(other, run)]
    return numbers if len(numbers) == 1 else candidates


def _next_number(source: Run, run: Run) -> bool:
    a, b = source.last.number, run.first.number
    return a is not None and b is not None and b == a + 1 and source.last.module[:-1] == run.first.module[:-1]


def _join_concatenations(runs: list[Run]) -> None:
    """404 = 400 + 4: a hidden layer and an input; 48 = 16 + 32: branches."""
    read = {id(run.source) for run in runs}
    for run in runs:
        if run.source is not None or run.join != "direct" or run.doubtful:
            continue
        continued = [
            other
            for other in runs
            if other is not run
            and _next_number(other, run)
            and _is_concatenation(other.last, run.first, other.first.size_in)
        ]
        free = [other for other in runs if other is not run and id(other) not in read and other.source is None]
        if len(continued) == 1:
            run.source, run.join = continued[0], "concat"
        elif (
            len(free) > 1
            and sum(other.last.size_out for other in free) == run.first.size_in
            and len(free) == len(runs) - 1
        ):
            run.branches, run.join = free, "branches"


def _networks(runs: list[Run]) -> list[list[Run]]:
    """Runs that hang together, sources first."""
    root: dict[int, Run] = {id(run): run for run in runs}

    def find(run: Run) -> Run:
        while root[id(run)] is not run:
            run = root[id(run)]
        return run

    for run in runs:
        for source in run.sources:
            root[id(find(run))] = find(source)
    groups: dict[int, list[Run]] = {}
    for run in runs:
        groups.setdefault(id(find(run)), []).append(run)

    found = depths(runs)
    return [sorted(group, key=lambda run: found[run]) for group in groups.values()]
