"""Reduction undoes widening, keeps the function, and leaves alone what only looks redundant."""

from __future__ import annotations

import numpy as np
import pytest

from nfn_cli.canonical.reduction import Reduced, ReduceOptions, reduce
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import AnswerIsNo, Refused
from nfn_cli.graph.model import GraphInput, Network
from nfn_cli.symmetry.check import outputs, relative_change

from ..symmetry.networks import ALL, Builder, Tensors, cnn, concatenation, grouped, mlp, residual
from .widening import moved, widened

PLAIN = ReduceOptions()
# a layer norm's mean is over all units, and the autoencoder's units are its input's: neither can be reduced
REDUCIBLE = [kind for kind in ALL if not kind.startswith(("normalized", "autoencoder"))]


def reduced(network: Network, tensors: Tensors, options: ReduceOptions = PLAIN) -> Reduced:
    result = reduce(Checkpoint("a file", "npz", tensors), [network], options)
    new = {name: np.asarray(array) for name, array in result.checkpoint.tensors.items()}
    assert relative_change(outputs(network, tensors, 7), outputs(result.networks[0], new, 7)) < 1e-9
    return result


def gone(result: Reduced) -> list[tuple[str, int, str]]:
    return sorted((unit.tensor, unit.index, unit.rule) for unit in result.removed)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", REDUCIBLE)
def test_reduction_undoes_widening(kind: str, seed: int) -> None:
    network, tensors = ALL[kind](seed)
    wide, more = widened(network, tensors, seed)
    assert relative_change(outputs(network, tensors, 0), outputs(wide, more, 0)) < 1e-9
    assert any(more[name].size > tensors[name].size for name in tensors)
    result = reduced(wide, moved(wide, more, seed))
    assert {n: a.shape for n, a in result.checkpoint.tensors.items()} == {n: a.shape for n, a in tensors.items()}
    assert {unit.rule for unit in result.removed} == {"duplicate"}


def test_widening_in_float32_with_large_scales_is_undone() -> None:
    for seed in range(5):
        network, tensors = cnn(seed, "relu")
        wide, more = widened(network, tensors, seed)
        more = moved(wide, more, seed, scales=(1e-3, 1e3))
        single = {name: array.astype(np.float32) for name, array in more.items()}
        result = reduce(Checkpoint("a file", "npz", single), [wide])
        assert all(result.checkpoint.tensors[name].shape == array.shape for name, array in tensors.items())
        assert all(array.dtype == np.float32 for array in result.checkpoint.tensors.values())
        assert result.relative_change < 1e-5


@pytest.mark.parametrize("kind", ALL)
def test_random_networks_lose_nothing(kind: str) -> None:
    network, tensors = ALL[kind](5)
    result = reduced(network, tensors)
    assert result.removed == ()
    assert result.checkpoint.tensors == tensors


def twin(tensors: Tensors, factor: float, shift: float = 0.0) -> Tensors:
    """Unit 3 of the first layer made a multiple of unit 1."""
    out = {name: array.copy() for name, array in tensors.items()}
    for name in ("layers.0.weight", "layers.0.bias"):
        out[name][3] = factor * out[name][1]
    out["layers.0.bias"][3] += shift
    return out


@pytest.mark.parametrize(
    ("function", "factor", "shift", "merges"),
    [
        ("relu", 2.5, 0.0, True),
        ("relu", -1.0, 0.0, False),
        ("relu", 2.5, 0.01, False),
        ("squared_relu", 2.5, 0.0, True),
        ("abs", -2.5, 0.0, True),
        ("identity", -2.5, 0.7, True),
        ("tanh", -1.0, 0.0, True),
        ("tanh", 2.5, 0.0, False),
        ("gaussian", -1.0, 0.0, True),
        ("sigmoid", -1.0, 0.0, True),
        ("sigmoid", -1.0, 0.1, False),
        ("gelu", 1.0, 0.0, True),
        ("gelu", -1.0, 0.0, False),
        ("sin", -1.0, np.pi / 3.0, True),
        ("sin", 1.0, 2 * np.pi / 3.0, True),
        ("sin", 1.0, 0.5, False),
    ],
)
def test_units_merge_up_to_what_the_activation_lets_pass(
    function: str, factor: float, shift: float, merges: bool
) -> None:
    network, tensors = mlp(2, function, **({"omega": 3.0} if function == "sin" else {}))
    result = reduced(network, twin(tensors, factor, shift))
    assert gone(result) == ([("layers.0.weight", 3, "duplicate")] if merges else [])
    if merges:
        assert result.removed[0].kept == ("layers.0.weight", 1)
        assert result.removed[0].residual < 1e-12


@pytest.mark.parametrize("entry", [(3, 0), (3, 4)])
def test_a_unit_that_is_nearly_a_multiple_stays(entry: tuple[int, int]) -> None:
    network, tensors = mlp(2, "relu")
    tensors = twin(tensors, 2.5)
    tensors["layers.0.weight"][entry] *= 1.01
    assert reduced(network, tensors).removed == ()


def test_a_small_entry_behind_a_large_one_is_not_rounding() -> None:
    """The other input may be large: entries are compared one by one, not by the length of the row."""
    network, tensors = mlp(2, "relu")
    tensors = twin(tensors, 1.0)
    tensors["layers.0.weight"][[1, 3], 0] = 1e12
    tensors["layers.0.weight"][3, 1] *= 1.01
    assert reduced(network, tensors).removed == ()


def test_a_stated_tolerance_merges_more_but_outputs_must_agree() -> None:
    network, tensors = mlp(2, "relu")
    tensors = twin(tensors, 2.5)
    tensors["layers.0.weight"][3, 0] *= 1 + 1e-12
    assert len(reduced(network, tensors, ReduceOptions(tolerance=1e-11)).removed) == 1
    tensors["layers.0.weight"][3, 0] *= 1.01
    assert reduced(network, tensors).removed == ()
    with pytest.raises(AnswerIsNo) as refused:
        reduced(network, tensors, ReduceOptions(tolerance=0.1))
    assert refused.value.code == "verification-failed"


def test_units_that_nothing_reads_go_and_so_does_what_only_fed_them() -> None:
    network, tensors = mlp(0, "tanh")
    tensors["layers.2.weight"][:, 4] = 0
    tensors["layers.1.weight"][np.arange(6) != 4, 2] = 0  # read by a unit that nobody reads
    assert gone(reduced(network, tensors)) == [("layers.0.weight", 2, "unread"), ("layers.1.weight", 4, "unread")]


def test_what_becomes_equal_only_after_a_merge_is_merged_too() -> None:
    """Two units of the second layer read two equal units of the first in opposite order."""
    network, tensors = mlp(0, "relu")
    tensors = twin(tensors, 1.0)
    tensors["layers.1.weight"][2] = tensors["layers.1.weight"][0][[0, 3, 2, 1, 4, 5, 6]]
    tensors["layers.1.bias"][2] = tensors["layers.1.bias"][0]
    assert [(tensor, index) for tensor, index, _ in gone(reduced(network, tensors))] == [
        ("layers.0.weight", 3),
        ("layers.1.weight", 2),
    ]


def test_a_network_keeps_one_unit_of_a_layer_that_does_nothing() -> None:
    network, tensors = mlp(0, "relu")
    tensors["layers.1.weight"][:] = 0
    result = reduced(network, tensors)
    assert result.checkpoint.tensors["layers.0.weight"].shape == (1, 5)
    assert result.checkpoint.tensors["layers.1.weight"].shape == (1, 1)


def stream(**edit: float) -> tuple[Network, Tensors]:
    network, tensors = residual(3, "relu")
    zero = lambda *names: [tensors[name].__setitem__(2, 0.0) for name in names]  # noqa: E731
    if "stem" in edit:
        zero("stem_bn.weight", "stem_bn.bias")
    if "blocks" in edit:
        zero("b0.n2.weight", "b0.n2.bias", "b1.n2.weight", "b1.n2.bias")
    if "readers" in edit:
        for name in ("b0.c1.weight", "b1.c1.weight", "fc.weight"):
            tensors[name][:, 2] = 0
    return network, tensors


@pytest.mark.parametrize(
    ("edit", "goes"),
    [({"stem": 1}, False), ({"blocks": 1}, False), ({"stem": 1, "blocks": 1}, True), ({"readers": 1}, True)],
    ids=str,
)
def test_a_residual_unit_goes_only_when_all_that_it_is_tied_to_can(edit: dict[str, float], goes: bool) -> None:
    network, tensors = stream(**edit)
    result = reduced(network, tensors)
    assert len(result.removed) == int(goes)
    if goes:
        assert result.removed[0].index == 2
        for name, axis in (("b0.c1.weight", 1), ("b0.c2.weight", 0), ("b1.n2.running_var", 0), ("fc.weight", 1)):
            assert result.checkpoint.tensors[name].shape[axis] == 5


def test_a_residual_unit_that_one_reader_needs_stays() -> None:
    network, tensors = stream(readers=1)
    tensors["b1.c1.weight"][:, 2] = 1
    assert reduced(network, tensors).removed == ()


def test_twins_in_two_branches_of_a_concatenation_merge() -> None:
    network, tensors = concatenation(0, "relu")
    names = [name for name in tensors if tensors[name].ndim == 2]
    before = {name: tensors[name].shape for name in names}
    wide, more = widened(network, tensors, 0)
    result = reduced(wide, more)
    assert {name: result.checkpoint.tensors[name].shape for name in names} == before


def test_groups_shrink_only_together() -> None:
    network, tensors = grouped(0, "relu")  # 6 channels in 3 groups of 2, then 12
    one = {name: array.copy() for name, array in tensors.items()}
    for name in ("a.weight", "a.bias"):
        one[name][1] = 2 * one[name][0]
    assert reduced(network, one).removed == ()
    for name in ("a.weight", "a.bias"):
        one[name][3], one[name][5] = 2 * one[name][2], 3 * one[name][4]
    result = reduced(network, one)
    assert gone(result) == [("a.weight", index, "duplicate") for index in (1, 3, 5)]
    assert result.checkpoint.tensors["g.weight"].shape == (12, 1, 3, 3)


def test_a_reshape_that_cuts_channels_pins_them() -> None:
    b = Builder(0, [GraphInput("x", (2, 3, 4, 4))], side=4)
    x = b.act(b.conv("x", "a", 6, 3), "relu")
    x = b.reshape(b.permute(b.reshape(x, 2, 2, 3, 4, 4), 0, 2, 1, 3, 4), 2, 6, 4, 4)
    network, tensors = b.network(b.head(b.act(b.conv(x, "c", 4, 6), "relu"), 4))
    for name in ("a.weight", "a.bias"):
        tensors[name][1] = tensors[name][0]
    for name in ("c.weight", "c.bias"):
        tensors[name][1] = tensors[name][0]
    assert gone(reduced(network, tensors)) == [("c.weight", 1, "duplicate")]


def test_a_weight_that_two_layers_share_is_not_rewritten() -> None:
    b = Builder(0, [GraphInput("x", (None, 4))])
    x = b.act(b.linear("x", "a", 6, 4), "relu")
    y = b.act(b.linear("x", "b", 6, 4), "relu")
    first = b.linear(x, "out", 3, 6)
    second = b.op("linear", [y], {"weight": "out.weight", "bias": "out.bias"}, out_axis=0, in_axis=1)
    network, tensors = b.network(b.op("add", [first, second]), family="mlp")
    for name in ("a.weight", "a.bias"):
        tensors[name][1] = 2 * tensors[name][0]
    assert reduced(network, tensors).removed == ()
    tensors["out.weight"][:, 1] = 0
    assert len(reduced(network, tensors).removed) == 1


def test_the_certificate_counts_in_the_numbers_of_the_original_file() -> None:
    """Unit 5 repeats unit 4 and goes; 4 then repeats nothing, but nothing reads it and it goes in the same or a later round."""
    network, tensors = mlp(0, "relu", (5, 7, 6, 3))
    for name in ("layers.0.weight", "layers.0.bias"):
        tensors[name][0] = 0
        tensors[name][5] = 3 * tensors[name][4]
    result = reduced(network, tensors)
    assert gone(result) == [("layers.0.weight", 0, "constant"), ("layers.0.weight", 5, "duplicate")]
    assert result.removed[1].factor == pytest.approx(3.0)
    kept = [u for u in range(7) if u not in (0, 5)]
    assert np.array_equal(result.checkpoint.tensors["layers.0.weight"], tensors["layers.0.weight"][kept])


def test_weights_that_are_not_finite_are_refused() -> None:
    network, tensors = mlp(0, "relu")
    tensors["layers.0.weight"][0, 0] = np.nan
    with pytest.raises(Refused) as refused:
        reduce(Checkpoint("a file", "npz", tensors), [network])
    assert refused.value.code == "non-finite-weights"
