"""`module:function` as a predictor: what is imported, what it is given, what it may return, and where its printing goes."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from nfn_cli.checkpoint.model import Checkpoint
from nfn_cli.errors import NfnError, WrongUsage
from nfn_cli.train.callable_predictor import callable_predictor, is_reference

MODULE = """
import os, sys, numpy as np
given = []
def keep(state):
    given.append(state)
    state["w"] *= 0
    return 1
def outputs(state):
    import torch
    return {"b": torch.ones(2, dtype=torch.bfloat16, requires_grad=True), "a": (3, [1.5, 2.5]), "c": np.True_, "d": 1j}
def leaving(state):
    sys.exit(0)
def text(state):
    return "high"
def ragged(state):
    return [[1, 2], [3]]
def nothing(state):
    return None
def loud(state):
    print("by print")
    sys.__stdout__.write("by the stream\\n")
    os.write(1, b"by the descriptor\\n")
    os.system("echo by a child")
    return 0
class Model:
    def score(self, state):
        return 2
    class Inner:
        value = staticmethod(lambda state: 7)
number = 5
"""
NUMBERS = count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of its own for each test, in the current folder."""
    name = f"module_of_test_{next(NUMBERS)}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # so that what the import adds to the path is taken back as well
    return name


TENSORS = {"w": np.arange(4, dtype=np.float32).reshape(2, 2)}
ITEM = (Checkpoint("a file", "safetensors", TENSORS), ())


def answer(reference: str, **how: Any) -> Any:
    (given,) = callable_predictor(reference, **how).ask([ITEM])
    return given


def reason(reference: str) -> str:
    given = answer(reference)
    assert isinstance(given, NfnError)
    return given.what


def test_it_may_write_into_what_it_is_given(module: str) -> None:
    predictor = callable_predictor(f"{module}:keep")
    predictor.ask([ITEM, ITEM])
    assert TENSORS["w"].sum() == 6


def test_outputs_are_flattened_in_a_fixed_order(module: str) -> None:
    given = answer(f"{module}:outputs")
    assert [output.tolist() for output in given] == [3.0, [1.5, 2.5], [1.0, 1.0], 1.0, [0.0, 1.0]]
    assert all(output.dtype == np.float64 for output in given)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("leaving", "raised SystemExit: 0"),
        ("text", "returned str, not a number or an array"),
        ("nothing", "returned NoneType, not a number or an array"),
    ],
)
def test_what_is_no_answer_is_said(module: str, name: str, said: str) -> None:
    assert reason(f"{module}:{name}") == said


def test_lists_of_different_lengths_are_several_outputs(module: str) -> None:
    assert [output.tolist() for output in answer(f"{module}:ragged")] == [[1.0, 2.0], [3.0]]


def test_nested_names_are_followed(module: str) -> None:
    assert answer(f"{module}:Model.Inner.value")[0] == 7
    assert "missing 1 required positional argument" in reason(f"{module}:Model.score")


def test_torch_tensors_on_request(module: str) -> None:
    predictor = callable_predictor(f"{module}:keep", "torch")
    item = (Checkpoint("a file", "safetensors", TENSORS | {"h": np.ones(2, np.int64)}), ())
    predictor.ask([item])
    import sys

    seen = sys.modules[module].given[-1]
    assert {name: str(tensor.dtype) for name, tensor in seen.items()} == {"w": "torch.float32", "h": "torch.int64"}
    assert TENSORS["w"].sum() == 6


def test_an_element_type_that_torch_lacks_is_a_reason_not_a_traceback(module: str) -> None:
    item = (Checkpoint("a file", "safetensors", TENSORS | {"b": np.ones(2, ml_dtypes.bfloat16)}), ())
    (given,) = callable_predictor(f"{module}:keep", "torch").ask([item])
    assert isinstance(given, NfnError)
    assert given.what.startswith("raised TypeError")


def test_all_printing_goes_to_standard_error(module: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert answer(f"{module}:loud")[0] == 0
    print("after")
    out, err = capfd.readouterr()
    assert out == "after\n"
    for way in ("by print", "by the descriptor", "by a child"):
        assert way in err


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("absent:predict", "ModuleNotFoundError"),
        ("{}:absent", "AttributeError"),
        ("{}:number", "int, not a function"),
        ("{}:Model.absent", "AttributeError"),
    ],
)
def test_what_cannot_be_imported_is_wrong_usage(module: str, name: str, said: str) -> None:
    with pytest.raises(WrongUsage, match=said):
        callable_predictor(name.format(module))


def test_an_unknown_framework_is_wrong_usage_before_anything_is_run(module: str) -> None:
    import sys

    with pytest.raises(WrongUsage, match="known: numpy, torch"):
        callable_predictor(f"{module}:keep", "jax")
    assert module not in sys.modules


@pytest.mark.parametrize("text", ["trap", "a/b:f", ":f", "a:", "a:f()", "a;b:f", "a:b:c", "1a:f", "a..b:f", "a: f"])
def test_what_is_no_reference_to_a_function(text: str) -> None:
    assert is_reference("package.module:Class.method")
    assert not is_reference(text)


def test_what_exists_as_a_folder_is_no_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trap:predict").mkdir()
    assert not is_reference("trap:predict")
