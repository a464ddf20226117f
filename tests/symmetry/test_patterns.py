"""Every pattern of convolutional networks: its unit sets, elements that keep the function, and one canonical form per orbit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from nfn_cli.canonical import CanonicalOptions
from nfn_cli.canonical.canonicalize import canonical_element
from nfn_cli.graph.model import Network
from nfn_cli.symmetry.action import TransformedTensors
from nfn_cli.symmetry.element import FlatElement, random_flat, to_flat
from nfn_cli.symmetry.solve import Symmetry, find_symmetry

from . import patterns_of_amounts  # noqa: F401 — fills the table
from .brute_force import random_inputs
from .networks import Tensors
from .patterns import PATTERNS, made
from .torch_evaluator import run

# for each unit set: size, permutable, scales and signs a unit, units in a block
EXPECTED: dict[str, list[tuple[int, bool, int, int, int]]] = {
    "residual": [(4, True, 1, 0, 0), (4, True, 1, 0, 0)],
    "residual_with_projection": [(4, True, 1, 0, 0), (5, True, 1, 0, 0)],
    "batch_normed_residual": [(4, True, 3, 2, 0)],
    "dense_block": [(4, True, 3, 0, 0), (4, True, 2, 0, 0), (4, True, 1, 0, 0)],
    "inception": [(4, True, 1, 0, 0), (4, True, 1, 0, 0), (5, True, 1, 0, 0)],
    "resnext": [(2, True, 1, 0, 0), (8, True, 1, 0, 4), (8, True, 1, 0, 4)],
    "batch_normed_groups": [(8, True, 2, 1, 4), (8, True, 2, 1, 4)],
    "chained_groups": [(8, True, 1, 0, 4), (8, True, 1, 0, 4), (8, True, 1, 0, 4)],
    "nested_groups": [
        (8, True, 1, 0, 0),
        (8, True, 1, 0, 0),
        (4, True, 1, 0, 0),
        (4, True, 1, 0, 0),
        (4, True, 1, 0, 0),
        (4, True, 1, 0, 0),
        (4, True, 1, 0, 0),
        (4, True, 1, 0, 0),
        (4, True, 1, 0, 0),
        (4, True, 1, 0, 0),
    ],
    "inverted_residual": [(4, True, 3, 3, 0), (4, True, 1, 1, 0)],
    "depthwise_multiplier": [(4, True, 1, 0, 1), (8, True, 1, 0, 2)],
    "shuffle_unit": [(4, True, 1, 0, 0), (4, True, 1, 0, 0), (4, True, 1, 0, 0), (4, True, 1, 0, 0)],
    "shuffled_groups": [
        (4, True, 1, 0, 0),
        (4, True, 1, 0, 0),
        (2, True, 1, 0, 0),
        (2, True, 1, 0, 0),
        (2, True, 1, 0, 0),
        (2, True, 1, 0, 0),
        (4, True, 1, 0, 0),
        (4, True, 1, 0, 0),
    ],
    "pixel_shuffle": [(4, True, 1, 0, 0)],
    "pixel_unshuffle": [(4, True, 1, 0, 0), (4, True, 1, 0, 0)],
    "flattened": [(4, True, 1, 0, 0), (4, True, 0, 1, 0)],
    "flattened_by_reshape": [(4, True, 0, 1, 0)],
    "split_of_unequal_parts": [(4, True, 1, 0, 0), (5, True, 1, 0, 0), (4, True, 1, 0, 0)],
    "same_module_twice": [(4, True, 0, 1, 0)],
    "shared_between_branches": [(4, True, 1, 0, 0), (4, True, 1, 0, 0)],
    "transposed": [(4, True, 1, 0, 0), (5, True, 1, 0, 0)],
    "transposed_groups": [(8, True, 1, 0, 4), (8, True, 1, 0, 4)],
    "transposed_depthwise": [(4, True, 2, 0, 0)],
    "auxiliary_head": [(4, True, 1, 0, 0), (4, True, 0, 1, 0)],
    "channels_as_output": [(4, True, 1, 0, 0)],
    "unknown_op": [(4, True, 1, 0, 0), (4, True, 1, 0, 0)],
    "group_norm": [(8, True, 1, 1, 4)],
    "group_norm_without_gain": [(8, True, 0, 1, 4)],
    "layer_norm_of_channels": [(4, True, 0, 2, 0)],
    "instance_norm": [(4, True, 1, 1, 0)],
    "instance_norm_without_gain": [(4, True, 0, 1, 0)],
    "layer_norm_of_maps": [(4, True, 1, 1, 0)],
    "rms_norm": [(4, True, 1, 2, 0), (4, True, 1, 0, 0)],
    "batch_norm_without_gain": [(4, True, 1, 1, 0)],
    "batch_norm_before_relu": [(4, True, 2, 1, 0)],
    "squeeze_excite": [(4, True, 1, 0, 0), (4, True, 1, 0, 0)],
    "hard_squeeze_excite": [(4, True, 1, 0, 0), (4, True, 1, 0, 0)],
    "gated_linear_unit": [(4, True, 1, 1, 0)],
    "efficient_channel_attention": [(4, False, 1, 0, 0), (1, True, 1, 0, 0)],
    "spatial_attention": [(4, True, 1, 0, 0), (1, True, 1, 0, 0), (1, True, 1, 0, 0), (1, True, 0, 0, 0)],
    "spatial_gate": [(4, True, 0, 1, 0), (1, True, 0, 0, 0)],
    "linear_spatial_gate": [(4, True, 2, 1, 0), (1, True, 1, 1, 0)],
    "weight_standardization": [(4, True, 1, 0, 0), (4, True, 1, 0, 0)],
    "weight_standardization_with_gain": [(4, True, 1, 0, 0), (4, True, 2, 1, 0)],
    "computed_weight": [(4, True, 1, 0, 0), (4, True, 1, 0, 0)],
    "layer_scale": [(4, True, 2, 1, 0), (4, True, 0, 0, 0)],
    "one_prelu_slope": [(4, True, 1, 0, 0)],
    "prelu_slopes": [(4, True, 1, 0, 0)],
    "relu6": [(4, True, 0, 0, 0)],
    "hardswish": [(4, True, 0, 0, 0)],
    "pools": [(4, True, 0, 1, 0), (4, True, 0, 0, 0)],
    "adaptive_pools": [(4, True, 0, 1, 0), (4, True, 1, 0, 0)],
    "mean_over_positions": [(4, True, 0, 1, 0)],
    "blur": [(4, True, 1, 0, 0), (4, True, 1, 0, 0)],
    "normalized_inputs": [(4, True, 1, 0, 0)],
    "stochastic_depth": [(4, True, 1, 0, 0)],
    "convnext": [(4, True, 3, 4, 0), (4, True, 0, 0, 0)],
    "channels_last": [(4, True, 1, 0, 0), (4, True, 1, 0, 0)],
    "attention": [(4, True, 1, 0, 0)],
    "broadcast_add": [(4, True, 1, 0, 0), (1, True, 1, 0, 0)],
    "degrees": [(4, True, 1, 1, 0), (4, True, 1, 1, 0)],
    "two_magnitudes_multiplied": [(4, True, 2, 1, 0)],
    "mean_over_batch": [(4, True, 1, 0, 0), (4, True, 1, 0, 0)],
}


def acted(tensors: Tensors, symmetry: Symmetry, element: FlatElement) -> Tensors:
    view = TransformedTensors(tensors, {}, symmetry, element)
    return {name: np.asarray(view[name]) for name in view}


def change(network: Network, before: Mapping[str, Any], after: Mapping[str, Any], seed: int = 0) -> float:
    """Largest relative change of an output, by the evaluator in torch."""
    inputs = random_inputs(network.graph, seed)
    old, new = (
        run(network.graph, {name: torch.tensor(array) for name, array in some.items()}, inputs)
        for some in (before, after)
    )
    return float((new - old).abs().max() / old.abs().max())


def canon(network: Network, tensors: Tensors) -> Tensors:
    symmetry = find_symmetry([network])
    return acted(tensors, symmetry, to_flat(symmetry, canonical_element(symmetry, tensors, CanonicalOptions())))


def distance(left: Tensors, right: Tensors) -> float:
    return max(float(np.max(np.abs(left[n] - right[n])) / (1e-9 + np.max(np.abs(left[n])))) for n in left)


def test_every_pattern_has_its_unit_sets_written_down() -> None:
    assert set(EXPECTED) == set(PATTERNS)


@pytest.mark.parametrize("name", PATTERNS)
def test_unit_sets_are_those_that_the_wiring_leaves(name: str) -> None:
    network, _ = made(name)
    found = [
        (s.size, s.permutable, s.families["scale"], s.families["sign"], s.block_size)
        for s in find_symmetry([network]).unit_sets
    ]
    assert found == EXPECTED[name]


@pytest.mark.parametrize("name", PATTERNS)
def test_random_elements_keep_the_function(name: str) -> None:
    network, tensors = made(name, seed=1)
    symmetry = find_symmetry([network])
    for seed in range(2):
        moved = acted(tensors, symmetry, random_flat(symmetry, seed, scales=(0.2, 5)))
        assert change(network, tensors, moved, seed) < 1e-10


@pytest.mark.parametrize("name", PATTERNS)
def test_no_tensor_may_be_left_behind(name: str) -> None:
    """Negative control: an element that forgets one of the tensors it moves changes the function."""
    network, tensors = made(name, seed=1)
    symmetry = find_symmetry([network])
    moved = acted(tensors, symmetry, random_flat(symmetry, 3, scales=(0.2, 5)))
    for tensor in tensors:
        if not np.allclose(moved[tensor], tensors[tensor]):
            assert change(network, tensors, {**moved, tensor: tensors[tensor]}) > 1e-6, tensor


@pytest.mark.parametrize("name", PATTERNS)
def test_the_canonical_form_is_one_per_orbit(name: str) -> None:
    network, tensors = made(name, seed=2)
    symmetry = find_symmetry([network])
    once = canon(network, tensors)
    assert change(network, tensors, once) < 1e-9
    assert distance(once, canon(network, once)) < 1e-8
    moved = acted(tensors, symmetry, random_flat(symmetry, 5, scales=(1e-2, 1e2)))
    assert distance(once, canon(network, moved)) < 1e-6
