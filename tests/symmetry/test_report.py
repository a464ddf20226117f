"""What a report says about groups, sizes and degenerate units."""

from __future__ import annotations

from dataclasses import replace
from math import factorial, log10

import numpy as np
import pytest

from nfn_cli.canonical import CanonicalOptions, canonicalize
from nfn_cli.checkpoint import Checkpoint
from nfn_cli.errors import Refused
from nfn_cli.graph.model import Network
from nfn_cli.symmetry import act, random_element, read_element, symmetry_report, write_element
from nfn_cli.symmetry.element_file import GroupElement
from nfn_cli.symmetry.report import _Trial
from nfn_cli.symmetry.solve import find_symmetry

from .networks import ALL, Tensors, autoencoder, cnn, mlp


def checkpoint(tensors: Tensors) -> Checkpoint:
    return Checkpoint("x", "safetensors", tensors)


NOTATION = {
    "mlp-relu": "R>0^7 ⋊ S_7 × R>0^6 ⋊ S_6",
    "mlp-tanh": "{±1}^7 ⋊ S_7 × {±1}^6 ⋊ S_6",
    "mlp-sin": "D∞ ≀ S_7 × D∞ ≀ S_6",
    "mlp-gelu": "S_7 × S_6",
    "mlp-identity": "(R>0 × {±1})^7 ⋊ S_7 × (R>0 × {±1})^6 ⋊ S_6",
    "autoencoder-relu": "1",
}


@pytest.mark.parametrize("kind", NOTATION)
def test_groups_are_written_in_standard_notation(kind: str) -> None:
    network, tensors = ALL[kind](0)
    assert symmetry_report(checkpoint(tensors), [network]).as_json()["networks"][0]["group"] == NOTATION[kind]


def test_sizes_are_those_of_the_group() -> None:
    network, tensors = mlp(0, "tanh")
    report = symmetry_report(checkpoint(tensors), [network]).as_json()
    assert report["log10_group_order"] == pytest.approx(log10(factorial(7) * factorial(6) * 2**13))
    assert report["parameters"] == report["effective_parameters"] == sum(a.size for a in tensors.values())
    network, tensors = cnn(0, "relu")
    report = symmetry_report(checkpoint(tensors), [network]).as_json()
    assert report["continuous_dimension"] == 2 * 5 + 2 * 6 + 8
    trained = sum(array.size for name, array in tensors.items() if "running" not in name)
    assert report["parameters"] == trained


def test_degenerate_units_are_named() -> None:
    network, tensors = mlp(1, "relu")
    tensors["layers.1.weight"][:, 2] = 0  # nothing reads unit 2
    tensors["layers.0.weight"][4] = 0  # nothing feeds unit 4
    for name in ("layers.0.weight", "layers.0.bias"):
        tensors[name][6] = 3 * tensors[name][1]  # unit 6 repeats unit 1 up to scale
    first = symmetry_report(checkpoint(tensors), [network]).as_json()["networks"][0]["unit_sets"][0]
    assert (first["dead"], first["constant"], first["duplicate"]) == ([2], [4], [[1, 6]])


def test_a_weight_with_one_input_column_feeds_its_units() -> None:
    """It has as many entries as the bias; without it, nothing feeds them."""
    network, tensors = mlp(1, "relu", (1, 6, 2))
    sets = symmetry_report(checkpoint(tensors), [network]).as_json()["networks"][0]["unit_sets"]
    assert sets[0]["constant"] == []
    assert sets[0]["norm_imbalance"] is not None
    tensors["layers.0.weight"][[1, 4]] = 0
    sets = symmetry_report(checkpoint(tensors), [network]).as_json()["networks"][0]["unit_sets"]
    assert sets[0]["constant"] == [1, 4]


def test_twins_up_to_scale_are_no_twins_for_tanh() -> None:
    network, tensors = mlp(1, "tanh")
    for name in ("layers.0.weight", "layers.0.bias"):
        tensors[name][6] = 3 * tensors[name][1]
        tensors[name][5] = -tensors[name][2]
    first = symmetry_report(checkpoint(tensors), [network]).as_json()["networks"][0]["unit_sets"][0]
    assert first["duplicate"] == [[2, 5]]


def test_weights_that_are_not_finite_are_refused_by_name() -> None:
    network, tensors = mlp(0, "relu")
    tensors["layers.1.bias"][0] = np.nan
    with pytest.raises(Refused, match=r"layers\.1\.bias"):
        symmetry_report(checkpoint(tensors), [network])


def test_a_check_that_rounding_alone_would_fail_refutes_nothing() -> None:
    """Of a sine whose argument is 1e20 not even the sign of the result is known in float64."""
    network, tensors = mlp(0, "sin")
    passed = []
    for size in (1.0, 1e20):
        wild = {**tensors, "layers.1.weight": tensors["layers.1.weight"] * size}
        passed.append(symmetry_report(checkpoint(wild), [network], seed=3).networks[0].check.passed)
    assert passed == [True, None]


def test_outputs_that_are_no_numbers_refute_nothing() -> None:
    network, tensors = cnn(0, "relu")
    variance = next(name for name in tensors if name.endswith("running_var"))
    report = symmetry_report(checkpoint({**tensors, variance: -np.abs(tensors[variance])}), [network])
    assert report.networks[0].check.passed is None
    assert report.passed


def test_a_wrong_symmetry_is_refuted() -> None:
    """The control: the check can fail. Scales of relu do not keep a network of tanh."""
    network, tensors = mlp(0, "tanh")
    claimed = find_symmetry([mlp(0, "relu")[0]])
    trial = _Trial(checkpoint(tensors), claimed, [], 0, 3)
    assert trial.run(network, [])[0].passed is False


def test_weights_whose_squares_are_not_finite_are_refused() -> None:
    network, tensors = mlp(0, "relu")
    tensors["layers.1.weight"] = tensors["layers.1.weight"] * 1e200
    with pytest.raises(Refused, match="squares"):
        canonicalize(checkpoint(tensors), [network], CanonicalOptions())


def test_tensors_that_two_ops_share_are_kept_consistent() -> None:
    network, tensors = autoencoder(0, "relu")
    report = symmetry_report(checkpoint(tensors), [network]).as_json()
    assert report["check"]["passed"]


def test_tied_tensors_change_together() -> None:
    network, tensors = mlp(0, "relu", (6, 6, 6, 3))
    tied = tensors | {"layers.1.weight": tensors["layers.0.weight"]}
    source = Checkpoint("x", "safetensors", tied, aliases={"layers.1.weight": "layers.0.weight"})
    moved = act(random_element(source, [network], seed=1), source, [network])
    assert np.array_equal(moved.tensors["layers.1.weight"], moved.tensors["layers.0.weight"])


def one_tensor_as(*roles: str) -> tuple[Network, Tensors]:
    """A CNN in which one tensor has several roles in the first batch norm."""
    network, tensors = cnn(0, "relu")
    norm = next(op for op in network.graph.ops if op.kind == "batch_norm")
    shared = norm.parameters["running_var"]
    changed = replace(norm, parameters={**norm.parameters, **dict.fromkeys(roles, shared)})
    ops = tuple(changed if op is norm else op for op in network.graph.ops)
    return replace(network, graph=replace(network.graph, ops=ops)), tensors


@pytest.mark.parametrize("role", ["bias", "weight", "running_mean"])
def test_a_tensor_with_two_roles_in_one_op_changes_in_one_way(role: str) -> None:
    """A variance goes with c² and with ε, a bias and a gain with a magnitude of their own, a mean with a sign."""
    network, tensors = one_tensor_as(role)
    report = symmetry_report(checkpoint(tensors), [network])
    apart = symmetry_report(checkpoint(tensors), [cnn(0, "relu")[0]])
    assert report.passed
    assert report.networks[0].continuous_dimension < apart.networks[0].continuous_dimension


@pytest.mark.parametrize("kind", ["cnn-relu", "mlp-sin", "normalized-tanh"])
def test_elements_survive_a_file(tmp_path, kind: str) -> None:
    network, tensors = ALL[kind](2)
    source = checkpoint(tensors)
    element = random_element(source, [network], seed=4)
    write_element(element, tmp_path / "g.safetensors")
    one, two = (act(e, source, [network]) for e in (element, read_element(tmp_path / "g.safetensors")))
    assert all(np.array_equal(one.tensors[name], two.tensors[name]) for name in tensors)


def test_a_foreign_element_is_refused() -> None:
    network, tensors = mlp(0, "relu")
    other, other_tensors = mlp(0, "relu", (5, 8, 6, 3))
    element = random_element(checkpoint(other_tensors), [other])
    with pytest.raises(Refused, match="does not fit"):
        act(element, checkpoint(tensors), [network])
    with pytest.raises(Refused, match="does not fit"):
        act(GroupElement({}), checkpoint(tensors), [network])
