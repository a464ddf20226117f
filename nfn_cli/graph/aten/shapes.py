"""graph/aten/shapes.py: what moves entries about: views, permutations, parts, concatenation, padding, copies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nfn_cli.graph.aten.capture import Capture, Shape
from nfn_cli.graph.aten.registry import Untranslated, translates

_MOST_PARTS = 4096


@translates("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout", memory="same")
def _dropout(c: Capture, out: Shape, x: Any, p: float = 0.5, training: bool = True) -> Any:
    if training and p:
        raise Untranslated
    return x


@translates("native_dropout")
def _native_dropout(c: Capture, out: Shape, x: Any, p: float, training: bool | None) -> Any:
    return [_dropout(c, out, x, p, training is not False), None]


@translates("detach", "alias", "identity", memory="same")
@translates("contiguous", "to", "type_as", "float", "double", memory="shared")
@translates("clone", "lift_fresh_copy", "_to_copy")
def _same(c: Capture, out: Shape, x: Any, *_: Any, **__: Any) -> Any:
    return x


@translates("view", "reshape", "_unsafe_view", memory="shared")
def _reshape(c: Capture, out: Shape, x: Any, shape: Sequence[int], *_: Any) -> Any:
    if any(n not in (-1, m) for n, m in zip(shape, out, strict=True)) or math.prod(x.shape) != math.prod(out):
        raise Untranslated
    return c.reshape(x, out)


@translates("view_as", "reshape_as", memory="shared")
def _like(c: Capture, out: Shape, x: Any, other: Any) -> Any:
    return _reshape(c, out, x, other.shape)


@translates("flatten", memory="shared")
def _flatten(c: Capture, out: Shape, x: Any, first: int = 0, last: int = -1) -> Any:
    rank = len(x.shape)
    first, last = first % rank, last % rank
    return c.reshape(x, (*x.shape[:first], math.prod(x.shape[first : last + 1]), *x.shape[last + 1 :]))


@translates("unflatten", memory="shared")
def _unflatten(c: Capture, out: Shape, x: Any, axis: int, sizes: Sequence[int]) -> Any:
    axis %= len(x.shape)
    rest = x.shape[axis] // math.prod(n for n in sizes if n != -1)
    return _reshape(c, out, x, (*x.shape[:axis], *(rest if n == -1 else n for n in sizes), *x.shape[axis + 1 :]))


@translates("squeeze", memory="shared")
def _squeeze(c: Capture, out: Shape, x: Any, axes: int | Sequence[int] | None = None) -> Any:
    rank = len(x.shape)
    listed = range(rank) if axes is None else [axes] if isinstance(axes, int) else axes
    gone = {axis % rank for axis in listed}
    return c.reshape(x, [n for axis, n in enumerate(x.shape) if n != 1 or axis not in gone])


@translates("unsqueeze", memory="shared")
def _unsqueeze(c: Capture, out: Shape, x: Any, axis: int) -> Any:
    axis %= len(x.shape) + 1
    return c.reshape(x, (*x.shape[:axis], 1, *x.shape[axis:]))


@translates("permute", memory="shared")
def _permute(c: Capture, out: Shape, x: Any, order: Sequence[int]) -> Any:
    return c.permute(x, order)


@translates("transpose", "swapaxes", "swapdims", memory="shared")
def _transpose(c: Capture, out: Shape, x: Any, a: int, b: int) -> Any:
    order = list(range(len(x.shape)))
    a, b = a % len(order), b % len(order)
    order[a], order[b] = order[b], order[a]
    return c.permute(x, order)


@translates("t", memory="shared")
def _t(c: Capture, out: Shape, x: Any) -> Any:
    return _transpose(c, out, x, 0, 1) if len(x.shape) > 1 else x


@translates("pixel_shuffle")
def _pixel_shuffle(c: Capture, out: Shape, x: Any, factor: int) -> Any:
    """(…, C r², H, W) -> (…, C, H r, W r)."""
    *lead, channels, height, width = x.shape
    parts = c.reshape(x, [*lead, channels // factor**2, factor, factor, height, width])
    n = len(lead)
    return c.reshape(c.permute(parts, [*range(n), n, n + 3, n + 1, n + 4, n + 2]), out)


@translates("pixel_unshuffle")
def _pixel_unshuffle(c: Capture, out: Shape, x: Any, factor: int) -> Any:
    """(…, C, H r, W r) -> (…, C r², H, W)."""
    *lead, channels, height, width = x.shape
    parts = c.reshape(x, [*lead, channels, height // factor, factor, width // factor, factor])
    n = len(lead)
    return c.reshape(c.permute(parts, [*range(n), n, n + 2, n + 4, n + 1, n + 3]), out)


@translates("channel_shuffle", "native_channel_shuffle")
def _channel_shuffle(c: Capture, out: Shape, x: Any, groups: int) -> Any:
    """(N, g · C, S) -> (N, C · g, S)."""
    batch, channels, *spatial = x.shape
    parts = c.reshape(x, [batch, groups, channels // groups, *spatial])
    return c.reshape(c.permute(parts, [0, 2, 1, *range(3, len(spatial) + 3)]), out)


@translates("expand", "expand_as", memory="shared")
def _expand(c: Capture, out: Shape, x: Any, *_: Any, **__: Any) -> Any:
    full = (1,) * (len(out) - len(x.shape)) + tuple(x.shape)
    if any(n not in (1, m) for n, m in zip(full, out, strict=True)):
        raise Untranslated
    x = c.reshape(x, full)
    return x if tuple(out) == full else c.op("expand", (x,), out, shape=list(out))


@translates("slice", memory="shared")
def _slice(
    c: Capture, out: Shape, x: Any, axis: int = 0, start: int | None = None, stop: int | None = None, step: int = 1
) -> Any:
    return c.slice(x, axis, start or 0, x.shape[axis] if stop is None else stop, step)


@translates("narrow", memory="shared")
def _narrow(c: Capture, out: Shape, x: Any, axis: int, start: int, length: int) -> Any:
    return c.slice(x, axis, start, start + length)


@translates("select", memory="shared")
def _select(c: Capture, out: Shape, x: Any, axis: int, index: int) -> Any:
    axis %= len(x.shape)
    index %= x.shape[axis]
    part = c.slice(x, axis, index, index + 1)
    return c.reshape(part, [n for position, n in enumerate(part.shape) if position != axis])


@translates("unbind", memory="shared")
def _unbind(c: Capture, out: Shape, x: Any, axis: int = 0) -> list[Any]:
    return [_select(c, out, x, axis, i) for i in range(_few(x.shape[axis]))]


@translates("split", "split_with_sizes", "unsafe_split", memory="shared")
def _split(c: Capture, out: Shape, x: Any, sizes: int | Sequence[int], axis: int = 0) -> list[Any]:
    n = x.shape[axis]
    if isinstance(sizes, int):
        sizes = [min(sizes, n - start) for start in range(0, _few(-(-n // sizes)) * sizes, sizes)]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [c.slice(x, axis, start, start + size) for start, size in zip(starts, sizes, strict=True)]


@translates("chunk", "unsafe_chunk", memory="shared")
def _chunk(c: Capture, out: Shape, x: Any, count: int, axis: int = 0) -> list[Any]:
    made: list[Any] = _split(c, out, x, -(-x.shape[axis] // count), axis)
    return made


def _few(count: int) -> int:
    if count > _MOST_PARTS:
        raise Untranslated
    return count


@translates("cat", "concat", "concatenate")
def _cat(c: Capture, out: Shape, parts: Sequence[Any], axis: int = 0) -> Any:
    parts = [part for part in parts if part.shape != (0,)]
    shape, axis = list(parts[0].shape), axis % len(out)
    shape[axis] = sum(part.shape[axis] for part in parts)
    return c.op("concat", parts, shape, axis=axis)


@translates("stack")
def _stack(c: Capture, out: Shape, parts: Sequence[Any], axis: int = 0) -> Any:
    axis %= len(out)
    shape = [1 if position == axis else n for position, n in enumerate(out)]
    return _cat(c, out, [c.reshape(part, shape) for part in parts], axis)


@translates("pad")
def _pad(
    c: Capture, out: Shape, x: Any, amounts: Sequence[int], mode: str = "constant", value: float | None = None
) -> Any:
    before, after, shape = _widths(x, amounts)
    if mode == "constant":
        return c.op("pad", (x,), shape, before=before, after=after, value=float(value or 0.0))
    if mode not in ("reflect", "replicate", "circular") or min(*before, *after) < 0:
        raise Untranslated
    return c.op("pad", (x,), shape, before=before, after=after, mode=mode)


@translates("constant_pad_nd")
def _constant_pad(c: Capture, out: Shape, x: Any, amounts: Sequence[int], value: float | None = 0.0) -> Any:
    return _pad(c, out, x, amounts, "constant", value)


def _widths(x: Any, amounts: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """(before, after, new shape) by axis; torch lists the last axis first."""
    rank = len(x.shape)
    before, after = [0] * rank, [0] * rank
    for step in range(len(amounts) // 2):
        before[rank - 1 - step], after[rank - 1 - step] = int(amounts[2 * step]), int(amounts[2 * step + 1])
    return before, after, [n + b + a for n, b, a in zip(x.shape, before, after, strict=True)]
