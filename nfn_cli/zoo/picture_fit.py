"""zoo/picture_fit.py: pictures as INRs, many of one size at once, and the files they are kept in. No command line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nfn_cli.checkpoint.atomic_write import atomic_output
from nfn_cli.checkpoint.safetensors_file import entry_of, read_header, write_tensors
from nfn_cli.errors import NfnError
from nfn_cli.networks.inr import Coordinates
from nfn_cli.zoo.sine_fit import FitSettings, fit_sines
from nfn_cli.zoo.sine_network import SineNetwork

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class PictureFit:
    """How pictures are fitted.

    Attributes:
        hidden: widths of the sine layers; omegas: ω of each.
        steps: at most; rate: the first learning rate of Adam; psnr: dB at which to stop, or None.
        low, high: what black and white become.
        coordinates: where pixels lie.
        seed: of the initial weights, which also depend on the picture, not on those beside it.
    """

    hidden: tuple[int, ...] = (32, 32)
    omegas: tuple[float, ...] = (30.0, 30.0)
    steps: int = 500
    rate: float = 0.005
    psnr: float | None = None
    low: float = 0.0
    high: float = 1.0
    coordinates: Coordinates = field(default_factory=Coordinates)
    seed: int = 0


@dataclass(frozen=True)
class FittedPicture:
    """Attributes: network, tensors: the INR; psnr: in dB; steps: that were taken; metadata: of its file."""

    network: SineNetwork
    tensors: dict[str, Array]
    psnr: float
    steps: int
    metadata: dict[str, str]


def fit_pictures(
    pictures: Sequence[Array],
    how: PictureFit,
    *,
    device: str = "cpu",
    threads: int = 1,
    advance: Callable[[int], None] | None = None,
) -> list[FittedPicture]:
    """INRs of n pictures of one size.

    Args:
        pictures: (height, width, channels) uint8 or uint16 each.
        advance: is told how many more are done.
    """
    height, width, channels = pictures[0].shape
    network = SineNetwork((2, *how.hidden, channels), how.omegas)
    targets = np.stack([_target(picture, how) for picture in pictures])
    styles = np.array(["siren"])
    initial = np.concatenate([network.initial(styles, _generator(picture, how.seed)) for picture in pictures])
    spread, count = abs(how.high - how.low), len(pictures)
    enough = 0.0 if how.psnr is None else spread**2 * 10 ** (-how.psnr / 10)
    settings = FitSettings(np.full(count, how.rate), np.full(count, how.steps), np.full(count, enough))
    grid = how.coordinates.grid(height, width).T
    fitted = fit_sines(network, grid, targets, initial, settings, device=device, threads=threads, advance=advance)
    tensors = network.tensors(fitted.parameters)
    found = []
    for row, picture in enumerate(pictures):
        psnr = 20 * np.log10(spread) - 10 * np.log10(max(float(fitted.errors[row]), 1e-20))
        metadata = metadata_of(picture, how) | {"psnr": f"{psnr:.2f}"}
        own = {name: tensor[row] for name, tensor in tensors.items()}
        found.append(FittedPicture(network, own, float(psnr), int(fitted.steps[row]), metadata))
    return found


def metadata_of(picture: Array, how: PictureFit) -> dict[str, str]:
    """What a file says of its picture and of how it was fitted, all but the outcome."""
    height, width = picture.shape[:2]
    return {
        "activation": "sin",
        "omega": ",".join(f"{omega:g}" for omega in how.omegas),
        "height": str(height),
        "width": str(width),
        "range": f"{how.low:g},{how.high:g}",
        "coordinates": how.coordinates.as_text(),
        "picture": hashlib.sha256(repr(picture.shape).encode() + picture.tobytes()).hexdigest(),
        "fit": json.dumps(asdict(how), sort_keys=True),
    }


def write_inr(path: Path, fitted: FittedPicture, force: bool) -> None:
    """One safetensors file, whole or not at all."""
    layout = {name: (name, entry_of(array)) for name, array in fitted.tensors.items()}
    with atomic_output(path, force) as handle:
        write_tensors(handle, layout, fitted.metadata, fitted.tensors)


def kept_psnr(path: Path, picture: Array, how: PictureFit) -> float | None:
    """The PSNR of a file that was made of this picture in this way, or None where there is no such file."""
    try:
        with path.open("rb") as handle:
            metadata = dict(read_header(handle, path.stat().st_size).metadata)
        psnr = float(metadata.pop("psnr"))
    except (OSError, NfnError, KeyError, ValueError):
        return None
    return psnr if metadata == metadata_of(picture, how) else None


def _target(picture: Array, how: PictureFit) -> Array:
    white = np.iinfo(picture.dtype).max
    values = how.low + (how.high - how.low) * (picture.reshape(-1, picture.shape[-1]).T / white)
    return np.asarray(values, np.float32)


def _generator(picture: Array, seed: int) -> np.random.Generator:
    digest = hashlib.sha256(picture.tobytes()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])
