"""graph/doubts.py: junctions that names and sizes allow in more than one way. Knows runs; builds no graph.

What a layer reads is then left open: it starts at an input of its own, and every unit that it may read stays as it is.
That is right for each of the readings, also where it reads several (the mean and the deviation of a latent variable).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from nfn_cli.errors import Refused
from nfn_cli.graph.layers import Layer
from nfn_cli.graph.runs import CLASSES, Run, ends_of, follows, readers, root


def with_doubts(runs: list[Run], sums: bool) -> list[Run]:
    """The runs, those that may be read in a second way kept, and cut in two where what may be read is inside.

    Args:
        sums: whether the way up may add what was made on the way down.
    """
    for run in runs:
        if not run.sources and run.first.kind == "linear" and len(run.layers) == 1:
            run.source = _only_end_before(run, runs)
        if not run.evident and run.source is not None and _reaches(run, run.source, runs):
            raise may_read(run, f"{run.source.last.label} or the input")
    for run in runs:
        rivals = _rivals(run, runs)
        if rivals and run.source is not None:
            if run.first.kind == "conv":  # then a joint of several is as likely, and whatever else reads them
                raise may_read(run, one_of([run.source, *rivals]))
            run.doubtful, run.source = [run.source, *rivals], None
    for run in runs:
        if not run.sources and run.first.kind == "conv":
            run.doubtful = _unflattened(run, runs)
    for reader in [run for run in runs if not run.sources]:
        behind = readers(reader, runs)
        for run in [run for run in runs if run not in behind]:
            runs.extend(_split(run, reader, runs))
    _refuse_skips(runs, sums)
    for run in runs:
        run.kept = run.kept or any(run in other.doubtful for other in runs)
    return runs


def one_of(runs: Sequence[Run]) -> str:
    """Some of the runs by their last layers, for a message."""
    return " or ".join(run.last.label for run in runs[:3])


def may_read(run: Run, sources: str) -> Refused:
    """That names leave open which of several a run reads."""
    return Refused(
        f"may read {sources}",
        where=run.first.label,
        fix="give the layers of one network with --layers NAME,NAME,…, or export it to ONNX or .pt2",
        code="ambiguous-order",
    )


def _rivals(run: Run, runs: Sequence[Run]) -> list[Run]:
    """Runs that nothing reads and that this one may read instead of its source, or several of them joined."""
    source = run.source
    if source is None or run.join != "direct":
        return []
    behind = readers(run, runs)
    idle = [other for other in ends_of(runs) if other not in behind and _of_one_task(other, run)]
    alone = [other for other in idle if _alike(other.last, source.last) and follows(other.last, run.first)]
    siblings = [other for other in idle if other.source is not None and other.last.kind == run.first.kind]
    joined = len(siblings) > 1 and sum(other.last.size_out for other in siblings) == run.first.size_in
    return siblings if joined else alone


def _only_end_before(run: Run, runs: Sequence[Run]) -> Run | None:
    """The one run that nothing reads and that fits in front; none where it may as well come behind."""
    if any(run.first.size_in == other.first.size_in for other in runs if not other.sources and other is not run):
        return None
    behind = readers(run, runs)
    fitting = [
        other
        for other in ends_of(runs)
        if other.last.kind == "linear" and follows(other.last, run.first) and other not in behind
    ]
    one = len(fitting) == 1 and _of_one_task(fitting[0], run) and not _reaches(run, fitting[0], runs)
    return fitting[0] if one else None


def _reaches(run: Run, other: Run, runs: Sequence[Run]) -> bool:
    """Whether sizes allow that it feeds the other, directly or through further runs."""
    unseen: dict[tuple[str, int], list[Run]] = {}
    for each in runs:
        unseen.setdefault((each.first.kind, each.first.size_in), []).append(each)
    front = [run]
    while front and other not in front:
        made = front.pop().last
        fitting = [(made.kind, made.size_out)]
        if made.kind == "conv":  # or flattened
            fitting = [key for key in unseen if follows(made, unseen[key][0].first)]
        for key in fitting:
            front += unseen.pop(key, [])
    return bool(front)


def _alike(layer: Layer, source: Layer) -> bool:
    return layer.kind == "linear" or (layer.kind == source.kind and layer.size_out == source.size_out)


def _of_one_task(other: Run, run: Run) -> bool:
    tasks = [words for words in CLASSES if words & run.words]
    return not tasks or any(words & other.words for words in tasks) or not any(words & other.words for words in CLASSES)


def _unflattened(run: Run, runs: Sequence[Run]) -> list[Run]:
    """Linear layers that nothing reads and that may make the channels and positions which a convolution reads."""
    behind = readers(run, runs)
    fitting = [
        other
        for other in ends_of(runs)
        if other.last.kind == "linear" and other.last.size_out % run.first.size_in == 0 and other not in behind
    ]
    loose = any(len(other.layers) == 1 and not other.sources for other in fitting)
    return [] if loose and len(fitting) > 1 else fitting


def _refuse_skips(runs: Sequence[Run], sums: bool) -> None:
    """What a U-Net and its like join or add on the way up is not among the names.

    Raises:
        Refused: a transposed convolution that nothing reads beside other ends, or one that makes as many channels as a
            convolution on the way down while names leave room for a sum (code "needs-graph").
    """
    ends = [run.last for run in ends_of(runs) if run.last.kind == "conv"]
    unread = [layer for layer in ends if layer.transposed and len(ends) > 1]
    hidden = [layer for run in runs for layer in run.layers if layer.kind == "conv" and layer not in ends]
    down = {layer.size_out for layer in hidden if not layer.transposed}
    free = [layer for layer in hidden if layer.transposed and layer.size_out in down and not _called_in_order(layer)]
    for layer in (*unread, *(free if sums else ())):
        raise Refused(
            "names do not say whether this transposed convolution is joined with a layer on the way down",
            where=layer.label,
            fix="export the network to ONNX or .pt2"
            + ("" if layer in unread else ", or say --residual no where it is not"),
            code="needs-graph",
        )


def _called_in_order(layer: Layer) -> bool:
    """Whether it is a numbered part of a Sequential, in which nothing can be joined."""
    return any(token.isdigit() for token in layer.module)


def _split(run: Run, reader: Run, runs: Sequence[Run]) -> Iterator[Run]:
    """Keep the hidden units that a run without a known source may read; yields the part behind them."""
    if reader.first.size_in == root(run).first.size_in:
        return
    for position, layer in enumerate(run.layers):
        if layer.kind != reader.first.kind or not follows(layer, reader.first):
            continue
        if position < len(run.layers) - 1 or run not in ends_of(runs):
            behind = Run(run.layers[position + 1 :], run)
            run.layers = run.layers[: position + 1]
            run.kept = True
            if behind.layers:
                _pass_on(run, behind, runs)
                yield behind
                yield from _split(behind, reader, [*runs, behind])
            reader.doubtful.append(run)
            return


def _pass_on(run: Run, behind: Run, runs: Sequence[Run]) -> None:
    """Whoever read the run reads the part behind."""
    for other in runs:
        if other.source is run:
            other.source = behind
        other.branches = [behind if branch is run else branch for branch in other.branches]
        other.doubtful = [behind if branch is run else branch for branch in other.doubtful]
