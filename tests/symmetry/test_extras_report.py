"""Extras in the report: counted apart, proved in the same runs, refuted and not counted where a rule is wrong."""

from __future__ import annotations

import json
from importlib.resources import files

import jsonschema
import numpy as np
import pytest

from nfn_cli.checkpoint import Checkpoint
from nfn_cli.cli import render
from nfn_cli.graph.model import Graph, GraphInput, Network, Op
from nfn_cli.symmetry import report as report_module
from nfn_cli.symmetry import symmetry_report
from nfn_cli.symmetry.extras import EXTRA_RULES, Extra, Survey

from .extras_networks import CASES, Case, residual
from .networks import mlp


def reported(case: Case, **options):
    network, tensors = case
    return symmetry_report(Checkpoint("x", "safetensors", tensors), [network], **options)


def check_schema(answer: dict) -> None:
    schema = json.loads((files("nfn_cli") / "schemas" / "symmetry-report.json").read_text())
    jsonschema.validate(json.loads(json.dumps(answer, allow_nan=False)), schema)


@pytest.mark.parametrize("name", ["chain", "residual-projected", "stream"])
def test_extras_stand_beside_the_group_and_leave_its_numbers_alone(name: str) -> None:
    case = CASES[name][0](0)
    answer = reported(case).as_json()
    check_schema(answer)
    (network,) = answer["networks"]
    extras = network["extras"]
    statistics = sum(a.size for tensor, a in case[1].items() if "running" in tensor)
    total = sum(a.size for a in case[1].values())
    assert extras["statistics"] == statistics
    assert network["parameters"] == total - statistics
    assert network["effective_parameters"] == network["parameters"] - network["continuous_dimension"]
    assert extras["dimension"] == sum(CASES[name][1].values()) == sum(e["dimension"] for e in extras["found"])
    assert extras["effective_parameters"] == total - network["continuous_dimension"] - extras["dimension"]
    assert extras["check"]["passed"]
    assert answer["extras"]["dimension"] == extras["dimension"]


def test_without_extras_all_is_zero() -> None:
    answer = reported(mlp(0, "tanh")).as_json()
    check_schema(answer)
    assert answer["extras"]["dimension"] == answer["extras"]["log10_order"] == 0
    assert answer["extras"]["effective_parameters"] == answer["effective_parameters"]
    assert answer["networks"][0]["extras"]["found"] == []


def test_the_proof_takes_no_run_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    outputs = report_module.outputs
    monkeypatch.setattr(report_module, "outputs", lambda *args: runs.append(1) or outputs(*args))
    assert reported(residual(0, "conv"), elements=3).passed
    assert len(runs) == 1 + 3


def test_without_random_elements_the_extras_are_still_tried() -> None:
    answer = reported(residual(0, "conv"), elements=0).as_json()["networks"][0]
    assert answer["check"] == {"elements": 0, "relative_change": 0.0, "passed": True}
    assert 0 < answer["extras"]["check"]["relative_change"] < 1e-9


def wrong_rule(survey: Survey) -> list[Extra]:
    """Claims that any number may be added to the first tensor."""
    name = next(iter(survey.tensors))

    def member(tensors, random):
        return {name: np.asarray(tensors[name]) + random.standard_normal(tensors[name].shape)}

    return [Extra("wrong", (name,), 17, 0.0, "no symmetry at all", member)]


@pytest.fixture
def with_a_wrong_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(EXTRA_RULES, "wrong_rule", wrong_rule)


@pytest.mark.usefixtures("with_a_wrong_rule")
@pytest.mark.parametrize("elements", [0, 2])
def test_a_wrong_claim_is_refuted_shown_and_not_counted(elements: int, capsys: pytest.CaptureFixture[str]) -> None:
    case = residual(0, "conv")
    report = reported(case, elements=elements)
    answer = report.as_json()
    check_schema(answer)
    network = answer["networks"][0]
    assert [extra["kind"] for extra in network["extras"]["refuted"]] == ["wrong"]
    assert network["extras"]["dimension"] == sum(CASES["residual-projected"][1].values())
    assert network["extras"]["check"]["passed"] is False
    assert network["extras"]["check"]["relative_change"] < 1e-9
    assert network["check"]["passed"]  # the group itself is not in doubt
    render.symmetry(answer)
    assert "refuted, not counted" in " ".join(capsys.readouterr().out.split())


def test_a_wrong_group_element_is_not_blamed_on_the_extras(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control of the blame: where the group itself is wrong, no extra is refuted."""
    random_flat = report_module.random_flat

    def scaled_wrongly(symmetry, seed):
        element = random_flat(symmetry, seed)
        element.permutation[:2] = element.permutation[:2][::-1] if len(element.permutation) else 0
        element.permutation[:3] = element.permutation[0]
        return element

    monkeypatch.setattr(report_module, "random_flat", scaled_wrongly)
    network = reported(residual(0, "conv")).as_json()["networks"][0]
    assert network["check"]["passed"] is False
    assert network["extras"]["refuted"] == []
    assert network["extras"]["check"]["passed"]


def test_a_network_that_cannot_be_run_keeps_its_extras_unproved() -> None:
    ops = (
        Op("linear", ("x",), "a", {"weight": "a.weight", "bias": "a.bias"}, {"out_axis": 0, "in_axis": 1}),
        Op("linear", ("a",), "c", {"weight": "c.weight", "bias": "c.bias"}, {"out_axis": 0, "in_axis": 1}),
        Op("unheard-of", ("c",), "y", {}, {"shape": (None, 3)}),
    )
    random = np.random.default_rng(0)
    shapes = {"a.weight": (3, 3), "a.bias": (3,), "c.weight": (3, 3), "c.bias": (3,)}
    tensors = {name: random.standard_normal(shape) for name, shape in shapes.items()}
    network = Network("", "mlp", Graph((GraphInput("x", (None, 3)),), ops, ("y",), shapes))
    answer = reported((network, tensors)).as_json()
    check_schema(answer)
    assert answer["networks"][0]["extras"]["check"] == {"relative_change": None, "passed": None}
    assert answer["extras"]["dimension"] == 6 + 3


def test_people_get_one_line_a_kind(capsys: pytest.CaptureFixture[str]) -> None:
    render.symmetry(reported(residual(0, "conv")).as_json())
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= 80
    for kind in CASES["residual-projected"][1]:
        assert sum(line.startswith(kind) for line in out.splitlines()) == 1
    assert "further dimension 18" in " ".join(out.split())
    render.symmetry(reported(mlp(0, "sigmoid")).as_json())
    assert "2^13" in capsys.readouterr().out
    render.symmetry(reported(mlp(0, "tanh")).as_json())
    assert "beyond" not in capsys.readouterr().out


def test_two_networks_that_share_tensors_move_only_their_own() -> None:
    network, tensors = CASES["chain"][0](0)
    twin = Network("twin", network.family, network.graph)
    report = symmetry_report(Checkpoint("x", "safetensors", tensors), [network, twin])
    assert all(one.extras.dimension == 0 for one in report.networks)
    assert report.passed


def test_a_negative_variance_and_empty_layers_are_taken_as_they_come() -> None:
    network, tensors = CASES["inverted-residual"][0](0)
    tensors["pn.running_var"][0] = -3.0
    report = reported((network, tensors))
    assert report.networks[0].check.passed is None  # outputs that are no numbers refute nothing
    assert report.networks[0].extras.passed is None
    assert not report.networks[0].extras.refuted
    check_schema(report.as_json())
    empty = CASES["chain"][0](0)
    shapes = {"l0.weight": (0, 3), "l0.bias": (0,), "l1.weight": (3, 0), "l1.bias": (3,)}
    graph = empty[0].graph
    network = Network("", "mlp", Graph(graph.inputs, graph.ops, graph.outputs, shapes))
    report = reported((network, {name: np.zeros(shape) for name, shape in shapes.items()}))
    assert report.networks[0].extras.dimension == 0
