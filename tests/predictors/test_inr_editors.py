"""Every shipped editor of INRs: its page is its card, it edits what was fitted to pictures it never saw, in orbits and out of them.

What is tested is found in the folder of shipped predictors, so that a new one is under test as soon as it is there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import WrongUsage
from nfn_cli.graph.stored_graph import network_of
from nfn_cli.networks.inr import Coordinates
from nfn_cli.networks.inr_edit_styles import STYLES
from nfn_cli.predictors.inr_edit import edit_inr, load_editor
from nfn_cli.predictors.inr_edit_card import editor_folder, read_editor_card, readme, shipped_editors
from nfn_cli.symmetry import act, random_element
from nfn_cli.zoo.sine_fit import FitSettings, fit_sines
from nfn_cli.zoo.sine_network import SineNetwork

Array = np.ndarray[Any, np.dtype[Any]]
NAMES = shipped_editors()
SIDE = 28


def drawn(channels: int) -> Array:
    """(channels, side · side) in [0, 1]: a slanted stroke and a blot on dark ground, of other colours in other channels."""
    rows, columns = np.meshgrid(np.arange(SIDE), np.arange(SIDE), indexing="ij")
    stroke = np.exp(-(((rows - 0.7 * columns - 4) / 2.0) ** 2)) * (columns > 5) * (columns < 23)
    blot = 1 / (1 + np.exp(np.hypot(rows - 8, columns - 20) - 4))
    shades = [0.1 + 0.75 * (stroke + (0.4 + 0.3 * channel) * blot).clip(0, 1) for channel in range(channels)]
    return np.stack(shades).reshape(channels, -1).astype(np.float32)


def fitted(hidden: tuple[int, ...], omega: float, channels: int, low: float, high: float) -> tuple[Checkpoint, Any]:
    network = SineNetwork((2, *hidden, channels), (omega,) * len(hidden))
    targets = (low + (high - low) * drawn(channels))[None]
    initial = network.initial(np.array(["siren"]), np.random.default_rng(0))
    settings = FitSettings(np.array([5e-3]), np.array([400]), np.zeros(1))
    flat = fit_sines(network, Coordinates().grid(SIDE, SIDE).T, targets, initial, settings).parameters
    tensors = {name: np.ascontiguousarray(tensor[0]) for name, tensor in network.tensors(flat).items()}
    return Checkpoint("made", "safetensors", tensors), (network_of(network.graph()),)


def channels_of(name: str) -> int:
    return 3 if read_editor_card(editor_folder(name)).style == "contrast" else 1


@pytest.mark.parametrize("name", NAMES)
def test_its_page_is_its_card(name: str) -> None:
    folder = editor_folder(name)
    card = read_editor_card(folder)
    assert (folder / "README.md").read_text() == readme(card)
    assert card.style in STYLES
    assert card.parameters == sum(p.numel() for p in load_editor(name).network.parameters())
    assert all(row["edited"] < 0.5 * row["unedited"] for row in card.test.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("hidden", "omega", "low", "high"), [((32, 32), 30.0, 0, 1), ((24, 40, 24), 20.0, -1, 1)])
def test_it_edits_what_it_never_saw(name: str, hidden: tuple[int, ...], omega: float, low: float, high: float) -> None:
    checkpoint, networks = fitted(hidden, omega, channels_of(name), low, high)
    edited = edit_inr(checkpoint, networks, load_editor(name), size=(SIDE, SIDE))
    assert (edited.low, edited.high) == (low, high)
    assert edited.mse_before > 1e-3
    assert edited.mse_to_target < 0.2 * edited.mse_before
    assert edited.notes == ()


@pytest.mark.parametrize("name", NAMES)
def test_it_is_equivariant_with_its_learned_numbers(name: str) -> None:
    checkpoint, networks = fitted((32, 32), 30.0, channels_of(name), 0, 1)
    exact = checkpoint.with_tensors({n: t.astype(np.float64) for n, t in checkpoint.tensors.items()})
    after = edit_inr(exact, networks, load_editor(name), size=(SIDE, SIDE)).checkpoint
    element = random_element(exact, networks, seed=2)
    both = edit_inr(act(element, exact, networks), networks, load_editor(name), size=(SIDE, SIDE)).checkpoint
    moved = act(element, after, networks).tensors
    assert max(float(np.abs(moved[n] - both.tensors[n]).max()) for n in moved) < 1e-10
    assert max(float(np.abs(after.tensors[n] - both.tensors[n]).max()) for n in moved) > 1.0


def test_unknown_names_tell_the_known_ones() -> None:
    assert "inr-edit-dilate" in NAMES
    with pytest.raises(WrongUsage, match="inr-edit-dilate"):
        load_editor("inr-edit-nothing")
