"""graph/aten/shapes.py: what moves entries about: views, permutations, parts, concatenation, padding, copies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from nfn_cli.graph.aten.capture import Capture, Shape
from nfn_cli.graph.aten.registry import Untranslated, translates


@translates("dropout", "feature_dropout", "alpha_dropout", "contiguous", "alias", "detach", "clone", "lift_fresh_copy", "to",
            "type_as", "_to_copy", "identity")  # fmt: skip
def _same(c: Capture, out: Shape, x: Any, *_: Any, **__: Any) -> Any:
    return x


@translates("flatten", "view", "reshape", "squeeze", "unsqueeze", "unflatten", "view_as", "reshape_as", "_unsafe_view")
def _reshape(c: Capture, out: Shape, x: Any, *_: Any, **__: Any) -> Any:
    return c.reshape(x, out)


@translates("permute")
def _permute(c: Capture, out: Shape, x: Any, order: Sequence[int]) -> Any:
    return c.permute(x, order)


@translates("transpose")
def _transpose(c: Capture, out: Shape, x: Any, a: int, b: int) -> Any:
    order = list(range(len(x.shape)))
    a, b = a % len(order), b % len(order)
    order[a], order[b] = order[b], order[a]
    return c.permute(x, order)


@translates("t")
def _t(c: Capture, out: Shape, x: Any) -> Any:
    return _transpose(c, out, x, 0, 1)


@translates("expand", "expand_as")
def _expand(c: Capture, out: Shape, x: Any, *_: Any, **__: Any) -> Any:
    full = (1,) * (len(out) - len(x.shape)) + tuple(x.shape)
    x = c.reshape(x, full)
    return x if tuple(out) == full else c.op("expand", (x,), out, shape=list(out))


@translates("slice")
def _slice(
    c: Capture, out: Shape, x: Any, axis: int = 0, start: int | None = None, stop: int | None = None, step: int = 1
) -> Any:
    return c.slice(x, axis, start or 0, x.shape[axis] if stop is None else stop, step)


@translates("narrow")
def _narrow(c: Capture, out: Shape, x: Any, axis: int, start: int, length: int) -> Any:
    return c.slice(x, axis, start, start + length)


@translates("select")
def _select(c: Capture, out: Shape, x: Any, axis: int, index: int) -> Any:
    axis %= len(x.shape)
    index %= x.shape[axis]
    part = c.slice(x, axis, index, index + 1)
    return c.reshape(part, [n for position, n in enumerate(part.shape) if position != axis])


@translates("unbind")
def _unbind(c: Capture, out: Shape, x: Any, axis: int = 0) -> list[Any]:
    return [_select(c, out, x, axis, i) for i in range(x.shape[axis])]


@translates("split", "split_with_sizes")
def _split(c: Capture, out: Shape, x: Any, sizes: int | Sequence[int], axis: int = 0) -> list[Any]:
    n = x.shape[axis]
    if isinstance(sizes, int):
        sizes = [min(sizes, n - start) for start in range(0, n, sizes)]
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return [c.slice(x, axis, start, start + size) for start, size in zip(starts, sizes, strict=True)]


@translates("chunk")
def _chunk(c: Capture, out: Shape, x: Any, count: int, axis: int = 0) -> list[Any]:
    return _split(c, out, x, -(-x.shape[axis] // count), axis)


@translates("cat", "concat")
def _cat(c: Capture, out: Shape, parts: Sequence[Any], axis: int = 0) -> Any:
    parts = [part for part in parts if math.prod(part.shape)]
    return c.op("concat", parts, out, axis=axis % len(out))


@translates("stack")
def _stack(c: Capture, out: Shape, parts: Sequence[Any], axis: int = 0) -> Any:
    axis %= len(out)
    shape = [1 if position == axis else n for position, n in enumerate(out)]
    return _cat(c, out, [c.reshape(part, shape) for part in parts], axis)


@translates("pad")
def _pad(
    c: Capture, out: Shape, x: Any, amounts: Sequence[int], mode: str = "constant", value: float | None = None
) -> Any:
    if mode != "constant":
        raise Untranslated
    return _constant_pad(c, out, x, amounts, value)


@translates("constant_pad_nd")
def _constant_pad(c: Capture, out: Shape, x: Any, amounts: Sequence[int], value: float | None = 0.0) -> Any:
    rank = len(x.shape)
    before, after = [0] * rank, [0] * rank
    for step in range(len(amounts) // 2):
        before[rank - 1 - step], after[rank - 1 - step] = int(amounts[2 * step]), int(amounts[2 * step + 1])
    shape = [n + b + a for n, b, a in zip(x.shape, before, after, strict=True)]
    return c.op("pad", (x,), shape, before=before, after=after, value=float(value or 0.0))
