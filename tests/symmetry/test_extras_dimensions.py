"""Nothing is missing and nothing is counted twice: the group and the extras together are all redundancy that there is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nfn_cli.checkpoint import Checkpoint
from nfn_cli.symmetry import symmetry_report

from .extras_networks import CASES, Case, batch_norm
from .networks import ALL
from .null_space import null_dimension


def counted(case: Case) -> int:
    """Monomial dimension plus that of the extras."""
    network, tensors = case
    (report,) = symmetry_report(Checkpoint("x", "safetensors", tensors), [network], elements=1).networks
    return report.continuous_dimension + report.extras.dimension


# seed 1: where the numerical rank is clear for all
@pytest.mark.parametrize("name", CASES)
def test_group_and_extras_are_the_null_space_of_the_jacobian(name: str) -> None:
    case = CASES[name][0](1)
    assert counted(case) == null_dimension(*case)


@pytest.mark.parametrize("kind", ["normalized-tanh"])
def test_so_it_is_for_networks_of_the_other_tests(kind: str) -> None:
    case = ALL[kind](1)
    assert counted(case) == null_dimension(*case)


def test_the_oracle_sees_directions_that_no_symmetry_explains() -> None:
    """Negative control: a unit that is never on has redundant weights, which are not counted."""
    network, tensors = batch_norm(1, "relu")
    tensors["n.bias"][0] = -1e3
    assert null_dimension(network, tensors) > counted((network, tensors))


def test_the_oracle_sees_fewer_directions_where_a_claim_is_wrong() -> None:
    """Negative control: with the norm read elsewhere too, the count of the network without is too large."""
    network, tensors = CASES["softmax"][0](1)
    graph = network.graph
    outputs = (*graph.outputs, graph.ops[-2].output)
    observed = replace(network, graph=replace(graph, outputs=outputs))
    assert null_dimension(observed, tensors) < counted((network, tensors))
    assert counted((observed, tensors)) == null_dimension(observed, tensors)
