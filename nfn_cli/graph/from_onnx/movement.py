"""graph/from_onnx/movement.py: ONNX nodes that move entries about: reshape, transpose, slice, join, repeat."""

from __future__ import annotations

from itertools import accumulate
from math import prod
from typing import Any

import numpy as np

from nfn_cli.graph.from_onnx.capture import DoesNotFit, Parts, Untranslated, Value, broadcast
from nfn_cli.graph.from_onnx.registry import Call, translates

_MOST_PARTS = 256
_PADDING = {"reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@translates("Reshape")
def _reshape(call: Call) -> Any:
    wanted = call.integers(1, "shape")
    if wanted is None:
        raise Untranslated
    if not call.attribute("allowzero", 0):
        wanted = [call.shape[i] if n == 0 and i < len(call.shape) else n for i, n in enumerate(wanted)]
    if wanted.count(-1) > 1 or any(n < -1 for n in wanted):
        raise DoesNotFit
    if -1 in wanted:
        rest = prod(n for n in wanted if n != -1)
        if rest == 0 or prod(call.shape) % rest:
            raise DoesNotFit
        wanted[wanted.index(-1)] = prod(call.shape) // rest
    return call.c.reshape(call[0], wanted)


@translates("Flatten")
def _flatten(call: Call) -> Any:
    axis = int(call.attribute("axis", 1))
    axis = axis + len(call.shape) if axis < 0 else axis
    if not 0 <= axis <= len(call.shape):
        raise Untranslated
    return call.c.reshape(call[0], (prod(call.shape[:axis]), prod(call.shape[axis:])))


@translates("Squeeze")
def _squeeze(call: Call) -> Any:
    given = call.integers(1, "axes")
    axes = [i for i, n in enumerate(call.shape) if n == 1] if given is None else [call.axis(i) for i in given]
    return call.c.reshape(call[0], [n for i, n in enumerate(call.shape) if i not in axes])


@translates("Unsqueeze")
def _unsqueeze(call: Call) -> Any:
    given = call.integers(1, "axes") or []
    rank = len(call.shape) + len(given)
    axes = {call.axis(i, rank) for i in given}
    rest = iter(call.shape)
    if len(axes) != len(given):
        raise Untranslated
    return call.c.reshape(call[0], [1 if i in axes else next(rest) for i in range(rank)])


@translates("Transpose")
def _transpose(call: Call) -> Any:
    return call.c.permute(call[0], call.attribute("perm", list(range(len(call.shape)))[::-1]))


@translates("Expand")
def _expand(call: Call) -> Any:
    wanted = call.integers(1, "shape")
    if wanted is None or any(n < 1 for n in wanted):
        raise Untranslated
    return _expanded(call, broadcast(call.shape, wanted))


def _expanded(call: Call, shape: tuple[int, ...]) -> Any:
    full = (1,) * (len(shape) - len(call.shape)) + call.shape
    x = call.c.reshape(call[0], full)
    return x if full == shape else call.c.op("expand", (x,), shape, shape=list(shape))


@translates("Tile")
def _tile(call: Call) -> Any:
    """(…, n, …) seen as (…, 1, n, …), repeated, and joined again."""
    times = call.integers(1, "repeats")
    if times is None or len(times) != len(call.shape) or any(n < 1 for n in times):
        raise Untranslated
    c, out = call.c, call[0]
    for axis, count in enumerate(times):
        if count > 1:
            before, n, after = out.shape[:axis], out.shape[axis], out.shape[axis + 1 :]
            out = c.reshape(c.value(out), (*before, 1, n, *after))
            out = c.op("expand", (out,), (*before, count, n, *after), shape=[*before, count, n, *after])
            out = c.reshape(out, (*before, count * n, *after))
    return out


@translates("Concat")
def _concat(call: Call) -> Value:
    c, parts = call.c, [call[i] for i, part in enumerate(call.inputs) if part is not None]
    axis = call.axis(int(call.attribute("axis", 1)))
    shapes = [list(part.shape) for part in parts]
    if any(
        len(s) != len(call.shape) or s[:axis] + s[axis + 1 :] != shapes[0][:axis] + shapes[0][axis + 1 :]
        for s in shapes
    ):
        raise DoesNotFit
    total = [*shapes[0][:axis], sum(s[axis] for s in shapes), *shapes[0][axis + 1 :]]
    parts = [part for part in parts if part.shape[axis]]
    return c.value(parts[0]) if len(parts) == 1 else c.op("concat", parts, total, axis=axis)


@translates("Split")
def _split(call: Call) -> list[Any]:
    axis = call.axis(int(call.attribute("axis", 0)))
    n, count = call.shape[axis], len(call.node.outputs)
    sizes = call.integers(1, "split")
    if sizes is None:
        each = -(-n // count)
        sizes = [min(each, n - start) for start in range(0, n, each)]
    if sum(sizes) != n or len(sizes) != count or min(sizes) < 1:
        raise DoesNotFit
    starts = [sum(sizes[:i]) for i in range(count)]
    return [call.c.slice(call[0], axis, start, start + size) for start, size in zip(starts, sizes, strict=True)]


@translates("SplitToSequence")
def _sequence(call: Call) -> Parts:
    axis, n = call.axis(int(call.attribute("axis", 0))), call.shape[call.axis(int(call.attribute("axis", 0)))]
    given = call.integers(1, "split")
    if given is None or min(given) < 1 or not call.attribute("keepdims", 1):
        raise Untranslated
    entry = call[1]
    one = not isinstance(entry, Value) and len(entry.shape) == 0
    stops = [min(n, start + given[0]) for start in range(0, n, given[0])] if one else list(accumulate(given))
    if len(stops) > _MOST_PARTS or stops[-1] != n:
        raise Untranslated
    return Parts(tuple(call.c.slice(call[0], axis, a, b) for a, b in zip([0, *stops[:-1]], stops, strict=True)))


@translates("SequenceAt")
def _at(call: Call) -> Value:
    parts, place = call.inputs[0], call.integers(1, "position")
    if not isinstance(parts, Parts) or place is None or not -len(parts.values) <= place[0] < len(parts.values):
        raise Untranslated
    return parts.values[place[0]]


@translates("Slice")
def _slice(call: Call) -> Any:
    starts, stops = call.integers(1, "starts"), call.integers(2, "ends")
    if starts is None or stops is None or len(starts) != len(stops):
        raise Untranslated
    axes = call.integers(3, "axes") or list(range(len(starts)))
    steps = call.integers(4, "steps") or [1] * len(starts)
    out: Any = call.c.value(call[0])
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        at = call.axis(axis)
        n = out.shape[at]
        if step < 1:
            raise Untranslated
        start, stop = (min(max(i + n if i < 0 else i, 0), n) for i in (start, stop))
        if start >= stop:
            raise DoesNotFit
        out = call.c.slice(out, at, start, stop, step)
    return out


@translates("Gather")
def _gather(call: Call) -> Any:
    """Entries at places that are known: one, a run, or runs joined."""
    c, index = call.c, call.c.numbers(call.get(1))
    axis = call.axis(int(call.attribute("axis", 0)))
    n = call.shape[axis]
    if index is None or index.dtype.kind not in "iu" or index.ndim > 1 or index.size < 1:
        raise Untranslated
    places = [int(i) + n if i < 0 else int(i) for i in index.reshape(-1)]
    if not all(0 <= i < n for i in places):
        raise DoesNotFit
    runs: list[list[int]] = []
    for i in places:
        if runs and i == runs[-1][-1] + 1:
            runs[-1].append(i)
        else:
            runs.append([i])
    if len(runs) > _MOST_PARTS:
        raise Untranslated
    parts = [c.slice(call[0], axis, run[0], run[-1] + 1) for run in runs]
    shape = [*call.shape[:axis], len(places), *call.shape[axis + 1 :]]
    out = parts[0] if len(parts) == 1 else c.op("concat", parts, shape, axis=axis)
    return out if index.ndim else c.reshape(out, shape[:axis] + shape[axis + 1 :])


@translates("Pad")
def _pad(call: Call) -> Any:
    amounts, mode = call.integers(1, "pads"), str(call.attribute("mode", "constant"))
    if (mode != "constant" and mode not in _PADDING) or amounts is None:
        raise Untranslated
    axes = call.integers(3, "axes") if len(call.inputs) > 3 else None
    axes = list(range(len(call.shape))) if axes is None else [call.axis(i) for i in axes]
    if len(amounts) != 2 * len(axes):
        raise Untranslated
    before, after = [0] * len(call.shape), [0] * len(call.shape)
    for axis, b, a in zip(axes, amounts[: len(axes)], amounts[len(axes) :], strict=True):
        before[axis], after[axis] = b, a
    if mode != "constant":
        if min(amounts) < 0 or any(
            n < 2 or max(b, a) >= n for n, b, a in zip(call.shape, before, after, strict=True) if b or a
        ):
            raise Untranslated  # reflected more than once, or cut as well
        shape = [n + b + a for n, b, a in zip(call.shape, before, after, strict=True)]
        return call.c.op("pad", (call[0],), shape, before=before, after=after, mode=_PADDING[mode])
    given = call.numbers(2)
    value = given[0] if given else float(call.attribute("value", 0.0))
    if not np.isfinite(value):
        raise Untranslated
    return call.c.pad(call[0], before, after, value)


@translates("DepthToSpace")
def _depth_to_space(call: Call) -> Any:
    c, b = call.c, int(call.attribute("blocksize", 1))
    n, ch, h, w = _image(call)
    if b < 1 or ch % (b * b):
        raise DoesNotFit
    by_column = call.attribute("mode", "DCR") == "CRD"
    cut = (n, ch // (b * b), b, b, h, w) if by_column else (n, b, b, ch // (b * b), h, w)
    order = (0, 1, 4, 2, 5, 3) if by_column else (0, 3, 4, 1, 5, 2)
    return c.reshape(c.permute(c.reshape(call[0], cut), order), (n, ch // (b * b), h * b, w * b))


@translates("SpaceToDepth")
def _space_to_depth(call: Call) -> Any:
    c, b = call.c, int(call.attribute("blocksize", 1))
    n, ch, h, w = _image(call)
    if b < 1 or h % b or w % b:
        raise DoesNotFit
    cut = c.reshape(call[0], (n, ch, h // b, b, w // b, b))
    return c.reshape(c.permute(cut, (0, 3, 5, 1, 2, 4)), (n, ch * b * b, h // b, w // b))


def _image(call: Call) -> tuple[int, ...]:
    if len(call.shape) != 4:
        raise Untranslated
    return call.shape
