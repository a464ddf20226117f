"""graph/likely_shapes.py: input shapes to try on a program whose file does not say which it takes. Knows shapes of weights only."""

from __future__ import annotations

from collections.abc import Iterator

from nfn_cli.checkpoint.model import Array, Checkpoint

_SIDES = (96, 128, 224, 299, 64, 32, 28, *range(4, 64))
_SIDES_OF_VOLUMES = (16, 32, 64, 112)
_BATCHES = (2, 1)
_SMALL = 100  # tensors of a program that may be tried often


def likely_shapes(checkpoint: Checkpoint) -> Iterator[tuple[int, ...]]:
    """Images (volumes, signals) with the channels of a kernel, then rows with the features of a matrix; batch axis first."""
    arrays = [array for array in checkpoint.tensors.values() if is_floating(array)]
    sides = _SIDES if len(arrays) <= _SMALL else _SIDES[:7]
    for batch in _BATCHES:
        for axes in (4, 5, 3):
            # the first tensor is most often that of the first layer; a wrong count fails at once
            for channels in dict.fromkeys(array.shape[1] for array in arrays if array.ndim == axes):
                for side in sides if axes != 5 else _SIDES_OF_VOLUMES:
                    yield (batch, channels, *([side] * (axes - 2)))
        for features in dict.fromkeys(n for array in arrays if array.ndim == 2 for n in array.shape[::-1]):
            yield (batch, features)


def shape_note(shape: tuple[int, ...]) -> str:
    said = "×".join(map(str, shape))
    return f"the file does not name the shape of its input: {said} was taken, which runs through"


def is_floating(array: Array) -> bool:
    return array.dtype.kind not in "iubc"
