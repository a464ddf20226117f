"""An audit passes what is invariant, fails what is not at the magnitude where it shows, and judges nothing it cannot know."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nfn_cli.api import open_model
from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import NfnError, Refused
from nfn_cli.graph.model import Network, Op
from nfn_cli.train.audit import Audit, AuditConfig, audit
from nfn_cli.train.audit_generators import Generator
from nfn_cli.train.audit_subjects import subject, untrained_copies
from nfn_cli.train.audit_verdict import Comparison, Movement, movement
from nfn_cli.train.audited import Answer, Audited, Item, trained_predictor
from tests.symmetry.networks import ALL, mlp

State = Mapping[str, np.ndarray]
EXAMPLES = Path(__file__).parents[2] / "models" / "examples"
QUICK = AuditConfig(samples=2)


def item(network: Network, tensors: Mapping[str, Any], path: str = "by hand") -> Item:
    single = {name: np.asarray(array, np.float32) for name, array in tensors.items()}
    return Checkpoint(path, "safetensors", single), (network,)


def items(kind: str, count: int = 2) -> list[Item]:
    return [item(*ALL[kind](seed), f"{kind} {seed}") for seed in range(count)]


def asked(function: Callable[[State], Any], resolution: float = 0.0) -> Audited:
    """A function of a state dict, without the machinery of `module:function`."""

    def ask(some: Any) -> list[Answer | NfnError]:
        answers: list[Answer | NfnError] = []
        for checkpoint, _ in some:
            try:
                answers.append((np.asarray(function(checkpoint.tensors), np.float64),))
            except ValueError as error:
                answers.append(Refused(str(error)))
        return answers

    return Audited("by hand", ask, resolution)


def verdicts(result: Audit) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in result.generators:
        found.setdefault(entry.generator, []).append(entry.verdict)
    return found


def failed(result: Audit) -> set[str]:
    return {entry.generator for entry in result.generators if entry.verdict == "fail"}


def sorted_sizes(state: State) -> np.ndarray:
    """Blind to permutations and signs, not to scales."""
    return np.concatenate([np.sort(np.abs(state[name].astype(np.float64)), axis=None) for name in sorted(state)])


def statistics(state: State) -> list[float]:
    return [f(state[name].astype(np.float64)) for name in sorted(state) for f in (np.mean, np.std)]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_shipped_predictors_pass(activation: str) -> None:
    model = open_model(EXAMPLES / f"cifar10gs-{activation}.safetensors")
    predictor = trained_predictor(f"generalization-cifar10gs-{activation}")
    result = audit(predictor, [(model.checkpoint, model.networks)], AuditConfig(samples=1))
    assert result.verdict == "pass"
    expected = {"relu": {"scale", "power-of-two"}, "tanh": {"sign"}}[activation]
    assert set(verdicts(result)) == {"identity", "permutation", "all"} | expected
    assert max(entry.largest_change for entry in result.generators) <= 1e-5  # answers are rounded


def test_what_is_blind_to_permutations_only_passes_them_and_fails_scales() -> None:
    result = audit(asked(sorted_sizes), items("mlp-relu"), QUICK)
    assert result.verdict == "fail"
    assert verdicts(result)["permutation"] == ["pass"] * 3
    assert failed(result) == {"scale", "power-of-two", "all"}
    scales = [entry for entry in result.generators if entry.generator == "scale"]
    assert [entry.magnitude for entry in scales] == [2, 4, 8, 16, 32, 64]
    assert scales[0].largest_change < scales[-1].largest_change
    assert all("moved by up to" in entry.reason for entry in scales)


def test_the_same_passes_where_the_group_has_signs() -> None:
    assert audit(asked(sorted_sizes), items("mlp-tanh"), QUICK).verdict == "pass"


def test_statistics_fail_scales_and_signs_and_raw_entries_fail_permutations() -> None:
    assert failed(audit(asked(statistics), items("mlp-relu"), QUICK)) == {"scale", "power-of-two", "all"}
    assert failed(audit(asked(statistics), items("mlp-tanh"), QUICK)) == {"sign", "all"}
    raw = audit(asked(lambda state: state["layers.0.weight"]), items("mlp-gelu"), QUICK)
    assert failed(raw) == {"permutation", "all"}


def test_a_slow_drift_with_the_scale_fails_where_it_passes_the_tolerance() -> None:
    def drifting(state: State) -> float:
        return 1.0 + 1e-3 * float(np.log(np.linalg.norm(state["layers.0.weight"].astype(np.float64))))

    result = audit(asked(drifting), items("mlp-relu"), AuditConfig(tolerance=1e-3, samples=4))
    # the log of the norm moves by at most log m: 0.7e-3 at 2, 4.2e-3 at 64
    assert verdicts(result)["scale"][0] == "pass"
    assert verdicts(result)["scale"][-1] == "fail"
    assert audit(asked(drifting), items("mlp-relu"), QUICK).generators[4].verdict == "fail"


def phasors(state: State) -> np.ndarray:
    """Of one hidden layer of sines (ω 3): what flips and shifts of units leave alone, summed over units."""
    w, b = state["layers.0.weight"].astype(np.float64), 3.0 * state["layers.0.bias"].astype(np.float64)
    v = state["layers.1.weight"].astype(np.float64)
    even = (v * np.sin(b)) @ np.sum(w**2, axis=1)
    return np.concatenate([even, ((v * np.cos(b)) @ w).reshape(-1)])


def test_phasors_pass_phases_and_raw_biases_fail_them() -> None:
    networks = [item(*mlp(seed, "sin", (4, 6, 3), omega=3.0)) for seed in range(3)]
    result = audit(asked(phasors), networks, QUICK)
    assert result.verdict == "pass"
    assert verdicts(result)["phase"][0] == "pass"
    assert len(verdicts(result)["phase"]) == 4

    def sizes(state: State) -> np.ndarray:
        return np.sort(np.abs(state["layers.0.bias"].astype(np.float64)))

    assert failed(audit(asked(sizes), networks, QUICK)) == {"phase", "all"}


def test_groups_are_exchanged_apart_from_the_units_in_them() -> None:
    def by_group(state: State) -> np.ndarray:
        return np.abs(state["fc.weight"].astype(np.float64)).sum(axis=0).reshape(3, 4).sum(axis=1)

    result = audit(asked(by_group), items("grouped-tanh"), QUICK)
    assert failed(result) == {"group-exchange", "all"}
    assert verdicts(result)["permutation"] == ["pass"] * 3


def test_powers_of_two_are_exact() -> None:
    result = audit(asked(sorted_sizes), items("mlp-relu"), QUICK)
    changes = {e.generator: e.function_change for e in result.generators if e.magnitude == 64}
    assert changes["power-of-two"] == 0.0
    assert 0.0 < changes["scale"] < 1e-6


def broken(one: Any, count: int, random: np.random.Generator) -> Iterator[Mapping[str, np.ndarray]]:
    """Scales the first weight and forgets the second."""
    for _ in range(count):
        tensors = dict(one.checkpoint.tensors)
        tensors["layers.0.weight"] = tensors["layers.0.weight"] * np.exp(random.standard_normal())
        yield tensors


def test_an_action_that_changes_the_function_gives_no_verdict() -> None:
    generator = Generator("broken", 2.0, lambda one: True, broken)
    count = 0

    def counting(state: State) -> np.ndarray:
        nonlocal count
        count += 1
        return sorted_sizes(state)

    result = audit(asked(counting), items("mlp-relu"), QUICK, generators=[generator])
    entry = result.generators[-1]
    assert (entry.generator, entry.verdict, entry.elements, entry.preserved) == ("broken", "none", 4, 0)
    assert entry.largest_change is None
    assert "changed the network's function" in entry.reason
    assert result.verdict == "none"
    assert count == 6  # two precisions and once again for two networks; never about moved ones


def test_rounding_that_changes_the_function_is_not_held_against_a_predictor() -> None:
    exact = Movement(0.0, True)
    moved = Movement(1e-4, False)
    assert Comparison(0, 1e-16, 1e-7, moved, exact).verdict(1e-6) == "fail"
    assert Comparison(0, 1e-16, 1e-3, moved, exact).verdict(1e-6) == "none"
    assert Comparison(0, 1e-16, 1e-3, moved, moved).verdict(1e-6) == "fail"  # float64 had no rounding to blame
    assert Comparison(0, 1e-16, 1e-3, exact, exact).verdict(1e-6) == "pass"
    assert Comparison(0, 1e-3, 1e-3, moved, moved).verdict(1e-6) == "none"


@pytest.mark.parametrize("failure", ["raises", "nan", "shape"])
def test_no_answer_after_a_move_is_a_failure(failure: str) -> None:
    (first,) = items("mlp-relu", 1)
    weight = first[0].tensors["layers.0.weight"]

    def particular(state: State) -> Any:
        if np.allclose(state["layers.0.weight"], weight):
            return 1.0
        if failure == "raises":
            raise ValueError("never saw such weights")
        return np.nan if failure == "nan" else np.ones(2)

    result = audit(asked(particular), [first], QUICK)
    said = {"raises": "never saw such weights", "nan": "NaN", "shape": "shape"}[failure]
    assert verdicts(result)["scale"] == ["fail"] * 6
    assert all(said in e.reason for e in result.generators if e.generator == "scale")


def test_networks_without_an_answer_are_set_aside_and_counted() -> None:
    def picky(state: State) -> float:
        if state["layers.0.weight"][0, 0] == ALL["mlp-tanh"](1)[1]["layers.0.weight"][0, 0].astype(np.float32):
            raise ValueError("not this one")
        return 1.0

    result = audit(asked(picky), items("mlp-tanh", 3), QUICK)
    assert result.networks == ("mlp-tanh 0", "mlp-tanh 2")
    assert result.refused == (("mlp-tanh 1", "not this one"),)
    assert result.verdict == "pass"
    nothing = audit(asked(lambda state: np.nan), items("mlp-tanh", 1), QUICK)
    assert (nothing.networks, nothing.generators, nothing.verdict) == ((), (), "none")
    assert nothing.refused == (("mlp-tanh 0", "answered NaN or infinity"),)


def test_a_network_that_cannot_be_run_is_set_aside() -> None:
    network, tensors = mlp(0, "relu")
    ops = (*network.graph.ops[:-1], Op("attention", network.graph.ops[-1].inputs, network.graph.outputs[0]))
    strange = replace(network, graph=replace(network.graph, ops=ops))
    nan = tensors | {"layers.0.bias": np.full(7, np.nan)}
    result = audit(asked(lambda state: 1.0), [item(strange, tensors), item(network, nan)], QUICK)
    assert result.verdict == "none"
    assert "cannot be evaluated" in result.refused[0][1]
    assert "not finite" in result.refused[1][1]


def test_what_takes_float32_only_is_judged_on_that() -> None:
    def single(state: State) -> np.ndarray:
        if state["layers.0.weight"].dtype != np.float32:
            raise ValueError("float32 only")
        return sorted_sizes(state)

    result = audit(asked(single), items("mlp-relu"), QUICK)
    assert failed(result) == {"scale", "power-of-two", "all"}
    assert all(entry.largest_change_float64 is None for entry in result.generators)


def test_an_answer_that_changes_by_itself_is_found() -> None:
    random = np.random.default_rng(0)
    result = audit(asked(lambda state: random.random()), items("mlp-gelu"), QUICK)
    assert result.generators[0].generator == "identity"
    assert result.generators[0].verdict == "fail"


def test_the_seed_settles_the_audit() -> None:
    first, second = (audit(asked(statistics), items("cnn-relu"), QUICK).as_json() for _ in range(2))
    other = audit(asked(statistics), items("cnn-relu"), AuditConfig(samples=2, seed=1)).as_json()
    assert first == second
    assert first != other


def test_one_step_of_rounding_is_no_movement() -> None:
    before = (np.array(0.360001),)
    assert movement(before, (np.array(0.360002),), 1e-6, 1e-6).within
    assert not movement(before, (np.array(0.360003),), 1e-6, 1e-6).within
    assert not movement(before, (np.array(0.360002),), 1e-6, 0.0).within


def test_outputs_are_compared_each_by_its_own_size() -> None:
    before = (np.array([1e6, 1.0]), np.array(1e-3))
    after = (np.array([1e6, 1.5]), np.array(1.1e-3))
    assert movement(before[:1], after[:1], 1e-6, 0.0) == Movement(5e-7, True)
    assert movement(before, after, 1e-6, 0.0).change == pytest.approx(0.1)


def test_symmetries_beyond_the_group_are_tried_when_asked_for() -> None:
    def bias(state: State) -> np.ndarray:
        return np.sort(np.abs(state["conv0.bias"].astype(np.float64)))  # a norm takes it up

    without, beyond = (
        audit(asked(bias), items("cnn-silu", 1), AuditConfig(samples=1, extras=e)) for e in (False, True)
    )
    further = set(verdicts(beyond)) - set(verdicts(without))
    assert further
    assert further & failed(beyond)


def test_progress_is_told_of_every_comparison() -> None:
    told: list[tuple[int, int]] = []
    audit(asked(sorted_sizes), items("mlp-tanh"), QUICK, progress=lambda done, total: told.append((done, total)))
    assert [done for done, _ in told] == list(range(1, len(told) + 1))
    assert {total for _, total in told} == {len(told)}


def test_untrained_copies_keep_names_shapes_and_what_must_stay_positive() -> None:
    source = items("cnn-relu", 1)
    copies = untrained_copies(source, 4, seed=3)
    assert len({checkpoint.path for checkpoint, _ in copies}) == 4
    for checkpoint, networks in copies:
        subject((checkpoint, networks))  # it can be run
        assert {n: t.shape for n, t in checkpoint.tensors.items()} == {
            n: t.shape for n, t in source[0][0].tensors.items()
        }
        assert (checkpoint.tensors["bn0.running_var"] > 0).all()
        assert not np.array_equal(checkpoint.tensors["fc0.weight"], source[0][0].tensors["fc0.weight"])
    again = untrained_copies(source, 4, seed=3)
    assert all(
        np.array_equal(a[0].tensors["fc0.weight"], b[0].tensors["fc0.weight"])
        for a, b in zip(copies, again, strict=True)
    )
    shuffled = copies[1][0].tensors["fc0.weight"]
    assert np.array_equal(np.sort(shuffled, axis=None), np.sort(source[0][0].tensors["fc0.weight"], axis=None))
