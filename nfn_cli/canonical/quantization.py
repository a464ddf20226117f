"""canonical/quantization.py: symmetric integer weights: the rounding, and how much it costs. Arrays only; no graph, no file.

The step of a range [−m, m] in b bits is m / (2^(b−1) − 1); values are rounded to the nearest step, ties to even.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from nfn_cli.symmetry.element import FloatArray

Array = np.ndarray[Any, np.dtype[Any]]
_SLICE_ENTRIES = 1 << 17  # a few temporaries of this size stay in cache


@dataclass(frozen=True, slots=True, eq=False)
class WeightQuality:
    """What rounding a weight to integers costs; decibels of signal over noise, infinite where nothing is lost, NaN for zeros.

    Attributes:
        snr_db: with one step for the whole tensor.
        snr_db_per_channel: with a step for each output channel.
        range_use: (channels,) largest |entry| of each channel over that of the tensor: how much of the tensor's range it uses.
        channel_snr_db: (channels,) of each channel, with the tensor's step.
    """

    snr_db: float
    snr_db_per_channel: float
    range_use: FloatArray
    channel_snr_db: FloatArray


def channels_first(weight: Array, out_axis: int, groups: int = 1) -> Array:
    """(channels, entries of one), a view where the layout allows.

    Args:
        groups: of a transposed convolution (input slots on axis 0, output slots of each group on axis 1): axis 0 is cut into
            so many runs, each with outputs of its own.
    """
    if groups == 1:
        moved = np.moveaxis(weight, out_axis, 0)
        return moved.reshape(moved.shape[0], -1)
    runs = np.swapaxes(weight.reshape(groups, -1, *weight.shape[1:]), 1, 2)
    return runs.reshape(groups * runs.shape[1], -1)


def quantized(weight: Array, bits: int, steps: Any = None) -> Array:
    """The weight after rounding, in its own dtype.

    Args:
        steps: broadcasts against the weight; default: one for the whole tensor.
    """
    if steps is None:
        steps = step_of(np.abs(weight).max(initial=0), bits)
    return np.asarray(_rounded(np.asarray(weight, np.float64), steps).astype(weight.dtype))


def step_of(largest: Any, bits: int) -> FloatArray:
    """The step of a range; 1 for a range of zeros."""
    found = np.asarray(largest, np.float64) / _highest(bits)
    return np.where(found > 0, found, 1.0)


def _highest(bits: int) -> int:
    if not 2 <= bits <= 16:
        raise ValueError(f"{bits} bits")
    return int(2 ** (bits - 1)) - 1


def _rounded(values: Array, steps: Any) -> Array:
    """Steps come from the largest entry, so nothing needs to be clipped."""
    return np.asarray(np.rint(values / steps) * steps)


def quality(channels: Array, bits: int) -> WeightQuality:
    """Quality of a weight given as (channels, entries)."""
    count = channels.shape[0]
    largest = np.concatenate([np.abs(part).max(axis=1, initial=0) for _, part in _parts(channels)] or [np.zeros(0)])
    largest = largest.astype(np.float64)
    whole, each = step_of(largest.max(initial=0.0), bits), step_of(largest, bits)
    signal, noise, noise_each = (np.zeros(count) for _ in range(3))
    for rows, part in _parts(channels):
        values = part.astype(np.float64) if part.dtype != np.float32 else part
        signal[rows] = _squares(values)
        noise[rows] = _squares(_error(values, np.broadcast_to(whole, (count,))[rows]))
        noise_each[rows] = _squares(_error(values, each[rows]))
    top = largest.max(initial=0.0)
    use = largest / top if top > 0 else np.zeros(count)
    return WeightQuality(
        float(_decibels(signal.sum(), noise.sum())),
        float(_decibels(signal.sum(), noise_each.sum())),
        use,
        _decibels(signal, noise),
    )


def _error(values: Array, steps: FloatArray) -> Array:
    """(R, C), (R,) -> (R, C): rounding error, in the dtype of the values."""
    column = steps.astype(values.dtype)[:, None]
    scaled: Array = values / column
    scaled -= np.rint(scaled)
    scaled *= column
    return np.asarray(scaled)


def _squares(values: Array) -> FloatArray:
    """(R, C) -> (R,), scaled by the largest first, so that squares of small numbers do not vanish."""
    top = float(np.abs(values).max(initial=0))
    if top == 0.0:
        return np.zeros(len(values))
    wide = values / values.dtype.type(top)
    return np.asarray(np.einsum("rc,rc->r", wide, wide).astype(np.float64) * top * top)


def _decibels(signal: Any, noise: Any) -> FloatArray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(10.0 * (np.log10(signal) - np.log10(noise)))


def _parts(channels: Array) -> Iterator[tuple[slice, Array]]:
    step = max(1, _SLICE_ENTRIES // max(1, channels.shape[1]))
    for start in range(0, channels.shape[0], step):
        yield slice(start, start + step), channels[start : start + step]
