"""Editing INRs: exactly equivariant, in the units it works in, towards the operator's picture; other networks are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import Refused
from nfn_cli.graph.model import Graph, Network
from nfn_cli.graph.stored_graph import network_of
from nfn_cli.networks.inr import Coordinates, render
from nfn_cli.networks.inr_edit import EditorShape, InrEditor
from nfn_cli.networks.inr_edit_chain import Frame, moved, sine_chain, to_layers, values_at
from nfn_cli.networks.inr_edit_styles import STYLES
from nfn_cli.symmetry import GroupElement, act, random_element
from nfn_cli.zoo.sine_network import SineNetwork

Array = np.ndarray[Any, np.dtype[Any]]
WHERE = Coordinates(0.0, 2.0)


def siren(widths: tuple[int, ...], omegas: tuple[float, ...], seed: int = 0) -> tuple[Graph, dict[str, Array]]:
    network = SineNetwork(widths, omegas)
    flat = network.initial(np.array(["siren"]), np.random.default_rng(seed)).astype(np.float64)
    return network.graph(), {name: tensor[0] for name, tensor in network.tensors(flat).items()}


def editor(style: str = "dilate") -> InrEditor:
    """As if trained: every learned number away from where it begins."""
    torch.manual_seed(0)
    made = InrEditor(EditorShape(style, steps=8)).double().eval()
    with torch.no_grad():
        for number in made.parameters():
            number += 0.05 * torch.randn_like(number)
    return made


def edited(graph: Graph, tensors: Any, network: InrEditor, side: int = 9) -> dict[str, Array]:
    chain, points = sine_chain(graph), torch.from_numpy(Coordinates().grid(side, side)).T[None]
    numbers = ((1.0, 1.0), (1.0, 1.0), (-0.5,), (0.5,))  # WHERE's middle and half, black and white
    frame = Frame(*(torch.tensor(entries, dtype=torch.float64) for entries in numbers))
    stacked = {name: torch.from_numpy(np.asarray(tensors[name], np.float64))[None] for name in graph.parameter_shapes}
    layers = to_layers(chain, stacked, frame)
    after = network(layers, points, side, side)
    change = tuple((w - v, b - a) for (w, b), (v, a) in zip(after, layers, strict=True))
    return {name: tensor[0].detach().numpy() for name, tensor in moved(chain, stacked, change, frame).items()}


def checkpoint(tensors: Any, dtype: Any = np.float64) -> Checkpoint:
    return Checkpoint("made", "safetensors", {name: np.asarray(tensor, dtype) for name, tensor in tensors.items()})


def wound(element: GroupElement, turns: int) -> GroupElement:
    """The same element with every bias wound by up to `turns` further half turns."""
    generator = np.random.default_rng(turns)
    return GroupElement(
        {
            name: replace(part, shift=part.shift + generator.integers(-turns, turns + 1, part.shift.shape))
            for name, part in element.sets.items()
        }
    )


def furthest(left: Any, right: Any) -> float:
    return max(float(np.abs(np.asarray(left[name], np.float64) - right[name]).max()) for name in left)


@pytest.mark.parametrize(("widths", "omegas", "style"), [
    ((2, 14, 11, 1), (30.0, 20.0), "dilate"),
    ((2, 7, 1), (12.5,), "erode"),
    ((2, 6, 9, 6, 8, 3), (30.0, 30.0, 10.0, 45.0), "contrast"),
])  # fmt: skip
def test_members_of_an_orbit_become_members_of_an_orbit_moved_in_the_same_way(
    widths: tuple[int, ...], omegas: tuple[float, ...], style: str
) -> None:
    graph, tensors = siren(widths, omegas)
    networks: tuple[Network, ...] = (network_of(graph),)
    network, given = editor(style), checkpoint(tensors)
    after = edited(graph, tensors, network)
    assert furthest(after, tensors) > 1e-3
    for seed in range(3):
        element = wound(random_element(given, networks, seed=seed), 40)
        there = act(element, given, networks)
        assert furthest(there.tensors, tensors) > 1.0
        both = edited(graph, there.tensors, network)
        assert furthest(act(element, checkpoint(after), networks).tensors, both) < 1e-10


def test_the_law_holds_for_files_in_float32_as_far_as_their_rounding_goes() -> None:
    graph, tensors = siren((2, 16, 16, 1), (30.0, 30.0))
    networks: tuple[Network, ...] = (network_of(graph),)
    given = checkpoint(tensors, np.float32)
    element = wound(random_element(given, networks, seed=5), 40)
    there = act(element, given, networks)
    assert there.tensors["layers.0.bias"].dtype == np.float32
    after = edited(graph, given.tensors, editor())
    back = act(element, checkpoint(edited(graph, there.tensors, editor())), networks, inverse=True)
    assert furthest(after, back.tensors) < 1e-4
    shown = [
        render(graph, {n: torch.from_numpy(t)[None] for n, t in f.items()}, 9, 9, WHERE) for f in (after, back.tensors)
    ]
    assert float((shown[0] - shown[1]).abs().max()) < 1e-3


def test_a_change_that_is_not_equivariant_is_caught() -> None:
    graph, tensors = siren((2, 8, 8, 1), (30.0, 30.0))
    networks: tuple[Network, ...] = (network_of(graph),)
    element = random_element(checkpoint(tensors), networks, seed=1)

    def drawn_to_zero(given: Any) -> dict[str, Array]:
        """Weight decay of the biases too: it respects signs and permutations and not the shifts."""
        return {name: np.asarray(tensor) * (0.9 if name.endswith("bias") else 1.0) for name, tensor in given.items()}

    there = act(element, checkpoint(tensors), networks).tensors
    apart = furthest(act(element, checkpoint(drawn_to_zero(tensors)), networks).tensors, drawn_to_zero(there))
    assert apart > 1e-3


def test_what_is_edited_is_what_is_rendered() -> None:
    graph, tensors = siren((2, 5, 6, 3), (30.0, 20.0))
    stacked = {name: torch.from_numpy(tensor)[None] for name, tensor in tensors.items()}
    numbers = ((1.0, 1.0), (1.0, 1.0), (-1.0,), (3.0,))
    frame = Frame(*(torch.tensor(entries, dtype=torch.float64) for entries in numbers))
    layers = to_layers(sine_chain(graph), stacked, frame)
    shown = values_at(layers, torch.from_numpy(Coordinates().grid(4, 6)).T[None])[0].T.reshape(4, 6, 3)
    assert torch.allclose(shown, (render(graph, stacked, 4, 6, WHERE)[0] + 1) / 4, atol=1e-12)
    still = tuple((torch.zeros_like(w), torch.zeros_like(b)) for w, b in layers)
    assert furthest({n: t[0] for n, t in moved(sine_chain(graph), stacked, still, frame).items()}, tensors) == 0


@pytest.mark.parametrize("style", sorted(STYLES))
def test_steps_come_nearer_to_the_wanted_picture_and_never_go_away_from_it(style: str) -> None:
    graph, tensors = siren((2, 32, 32, 1), (30.0, 30.0), seed=3)
    network = InrEditor(EditorShape(style)).double().eval()  # the operator itself: corrections begin at 0
    unit = Frame(torch.zeros(2), torch.ones(2), torch.zeros(1), torch.ones(1))
    layers = to_layers(sine_chain(graph), {n: torch.from_numpy(t)[None] for n, t in tensors.items()}, unit)
    points = torch.from_numpy(Coordinates().grid(10, 10)).T[None]
    wanted = network.wanted(layers, points, 10, 10)
    assert torch.equal(wanted, STYLES[style](values_at(layers, points).reshape(1, 1, 10, 10)).flatten(2))
    wanted = wanted.detach()
    before = float((values_at(layers, points) - wanted).square().mean())
    assert float((values_at(network(layers, points, 10, 10), points) - wanted).square().mean()) < 0.1 * before
    with torch.no_grad():
        network.steps.log_sizes += 6.0  # steps far too long: the best weights seen are those given
    assert float((values_at(network(layers, points, 10, 10), points) - wanted).square().mean()) <= before


def test_operators_by_hand() -> None:
    picture = torch.zeros(1, 1, 4, 4)
    picture[0, 0, 1, 1] = 1.0
    assert STYLES["dilate"](picture)[0, 0].tolist() == [[1, 1, 1, 0]] * 3 + [[0, 0, 0, 0]]
    assert STYLES["erode"](1 - picture)[0, 0].tolist() == [[0, 0, 0, 1]] * 3 + [[1, 1, 1, 1]]
    halves = torch.tensor([0.25, 0.75, 0.5, 1.0, 0.0]).reshape(1, 1, 1, 5)
    assert STYLES["contrast"](halves).flatten().tolist() == [0.125, 0.875, 0.5, 1.0, 0.0]


def test_other_networks_are_refused() -> None:
    graph, _ = siren((2, 4, 1), (30.0,))
    relu = tuple(replace(op, attributes={"function": "relu"}) if op.kind == "pointwise" else op for op in graph.ops)
    with pytest.raises(Refused, match="activation relu") as refusal:
        sine_chain(replace(graph, ops=relu))
    assert refusal.value.code == "not-sines"
    tied = tuple(replace(op, parameters=graph.ops[0].parameters) if op.kind == "linear" else op for op in graph.ops)
    with pytest.raises(Refused, match="share weights"):
        sine_chain(replace(graph, ops=tied))
    with pytest.raises(Refused, match="does not end"):
        sine_chain(replace(graph, ops=graph.ops[:2]))
