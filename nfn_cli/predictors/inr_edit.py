"""predictors/inr_edit.py: INRs edited by a trained editor: load it, use it, write it. Knows cards; no command line.

Editing is done in float64 whatever the file has, so that the orbit member given does not show but for what its numbers were
rounded to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from nfn_cli.checkpoint.atomic_write import atomic_folder
from nfn_cli.checkpoint.finite import check_finite
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused, SurroundingsFailed
from nfn_cli.graph.model import Network
from nfn_cli.networks.inr import Coordinates, before_constants, inr_channels
from nfn_cli.networks.inr_edit import EditorShape, InrEditor
from nfn_cli.networks.inr_edit_chain import Frame, Layers, moved, sine_chain, to_layers, values_at
from nfn_cli.networks.inr_edit_styles import STYLES
from nfn_cli.predictors.inr_edit_card import FILE, EditorCard, editor_folder, read_editor_card, readme
from nfn_cli.zoo.inr_picture import alone, only_inr, rendered
from nfn_cli.zoo.inr_stated import Stated, stated

Array = np.ndarray[Any, np.dtype[Any]]
_SIDES = {1: 28, 3: 32}  # of the image sets that INRs without a word about it are mostly of
_FAR = 0.5


@dataclass(frozen=True)
class Editor:
    """A card and the network that it is about."""

    card: EditorCard
    network: InrEditor


@dataclass(frozen=True)
class Edited:
    """An edited INR.

    Attributes:
        checkpoint: the input with other numbers.
        before, after, target: (height, width, channels) uint8: what it showed, shows, and the operator applied to the former.
        mse_before, mse_to_target: mean squared distances of the given and of the edited INR from that operator applied to what
            the given one shows; the distance from black to white is 1.
        low, high: values of black and white.
        notes: what the user should know.
    """

    checkpoint: Checkpoint
    before: Array
    after: Array
    target: Array
    mse_before: float
    mse_to_target: float
    low: float
    high: float
    notes: tuple[str, ...]


def load_editor(name_or_folder: str) -> Editor:
    """A shipped editor by name, or one in a folder.

    Raises:
        WrongUsage: there is no such editor.
        Refused: its files do not fit together.
    """
    folder = editor_folder(name_or_folder)
    return _loaded(folder, (folder / FILE).stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _loaded(folder: Path, _written: int) -> Editor:
    card = read_editor_card(folder)
    path = folder / "weights.safetensors"
    try:
        tensors = load_file(path)
        network = InrEditor(EditorShape(**card.shape))
        network.load_state_dict(tensors)
    except OSError as error:
        raise SurroundingsFailed(f"cannot read the editor's weights ({error})", where=str(path)) from None
    except (SafetensorError, RuntimeError, KeyError, ValueError, TypeError):
        raise Refused(f"{FILE} and weights.safetensors do not fit", where=str(folder), code="bad-predictor") from None
    return Editor(card, network.double().eval())


def write_editor(folder: Path, card: EditorCard, network: InrEditor) -> None:
    """Writes weights.safetensors, README.md and editor.json; what else the folder holds stays."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder, keep=True) as made:
        tensors = {name: tensor.float().contiguous() for name, tensor in network.state_dict().items()}
        (made / "weights.safetensors").write_bytes(save(tensors))
        (made / "README.md").write_text(readme(card))
        (made / FILE).write_text(card.to_json())


def edit_inr(
    checkpoint: Checkpoint,
    networks: tuple[Network, ...],
    editor: Editor,
    *,
    size: tuple[int, int] | None = None,
    coordinates: Coordinates | None = None,
    pixels: tuple[float, float] | None = None,
) -> Edited:
    """Edit the picture of an INR by editing its weights. Nothing is written.

    Args:
        size: (height, width) of the pixel grid that the operator works on; None as the file or the zoo says, else 28 × 28 for grey
            values and 32 × 32 for colours.
        coordinates, pixels: where pixels lie, and values of black and white; None as for `nfn_cli.api.render_inr`.

    Raises:
        Refused: no INR, or none of sines; weights or results that are not finite.
    """
    network = only_inr(networks)
    channels = inr_channels(network.graph)
    graph, multiply, add = before_constants(network.graph)
    chain = sine_chain(graph)
    said = stated(checkpoint)
    asked = size or said.size or (_SIDES[channels], _SIDES[channels])
    before = rendered(checkpoint, networks, size=asked, coordinates=coordinates, pixels=pixels)
    height, width = before.picture.shape[:2]
    where = coordinates or said.coordinates or Coordinates()
    low, high = ((bound - add) / multiply for bound in (before.low, before.high))
    points, frame = _frame(where, low, high, height, width)
    names = [name for layer in chain for name in (layer.weight, layer.bias) if name is not None]
    stacked = alone(checkpoint, names)
    layers = to_layers(chain, stacked, frame)
    edited = editor.network(layers, points, height, width)
    change = tuple((w - v, b - a) for (w, b), (v, a) in zip(edited, layers, strict=True))
    with torch.no_grad():
        changed = _written_back(checkpoint, moved(chain, stacked, change, frame), said)
        new = alone(changed, names)
        shown = _shown(layers, points, height, width)
        target = STYLES[editor.card.style](shown)
        result = _shown(to_layers(chain, new, frame), points, height, width)
    if not bool(torch.isfinite(result).all()):
        raise Refused("the edited INR's values are not finite", code="not-finite")
    mse_before, mse = float((shown - target).square().mean()), float((result - target).square().mean())
    known = size is not None or said.size is not None
    notes = [] if known else [f"the file does not say its size: edited as {height}×{width} (--size)"]
    if mse > _FAR * mse_before and mse_before > 1e-6:
        notes.append("the edit went less than half of the way: the INR is unlike those that the editor was trained on")
    return Edited(
        changed,
        before.picture,
        _bytes(result),
        _bytes(target),
        mse_before,
        mse,
        before.low,
        before.high,
        tuple(notes),
    )


def _frame(where: Coordinates, low: float, high: float, height: int, width: int) -> tuple[Tensor, Frame]:
    """The pixels' points in [−1, 1]², and what brings them there and values to 0 and 1."""
    middle, half = (where.low + where.high) / 2, (where.high - where.low) / 2
    points = torch.from_numpy((where.grid(height, width) - middle) / half).T[None]
    numbers = (torch.full((2,), middle), torch.full((2,), half), torch.tensor([low]), torch.tensor([high]))
    return points, Frame(*(tensor.double() for tensor in numbers))


def _shown(layers: Layers, points: Tensor, height: int, width: int) -> Tensor:
    parts = [values_at(layers, part) for part in torch.split(points, 1 << 14, -1)]
    return torch.cat(parts, -1).reshape(1, -1, height, width)


def _bytes(picture: Tensor) -> Array:
    """(1, channels, height, width) -> (height, width, channels) uint8."""
    scaled: Array = (255 * picture[0].permute(1, 2, 0).clamp(0, 1)).round().to(torch.uint8).numpy()
    return scaled


def _written_back(checkpoint: Checkpoint, tensors: dict[str, Tensor], said: Stated) -> Checkpoint:
    """The checkpoint with new numbers, in the types that it has; a row of a zoo takes along what the zoo says of it."""
    with np.errstate(over="ignore"):
        changed = checkpoint.with_tensors(
            {name: tensor[0].numpy().astype(checkpoint.tensors[name].dtype) for name, tensor in tensors.items()}
        )
    check_finite(changed, tensors)
    if checkpoint.container != "zoo-row":
        return changed
    return replace(changed, metadata=MappingProxyType({**said.as_metadata(), **changed.metadata}))
