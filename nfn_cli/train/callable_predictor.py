"""train/callable_predictor.py: a function of the user's as a predictor. Knows Python's import system and state dicts.

Importing runs the user's code; nothing here is reached unless the user wrote `module:function`.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from functools import partial
from typing import Any

import numpy as np

from nfn_cli.checkpoint.model import Array
from nfn_cli.errors import NfnError, Refused, SurroundingsFailed, WrongUsage
from nfn_cli.printable import printable
from nfn_cli.train.audited import Answer, Audited, FloatArray, Item

_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def is_reference(text: str) -> bool:
    """Whether a text is `module:function`; what exists as a file or folder never is."""
    return _REFERENCE.fullmatch(text) is not None and not os.path.exists(text)


def callable_predictor(reference: str, framework: str = "numpy") -> Audited:
    """Import `module:function`, the current folder first on the path.

    The function takes a mapping name -> array, a copy of its own each time, and returns a number, an array, or a tuple,
    list or mapping of these. What it prints goes to standard error.

    Args:
        framework: "numpy" or "torch": what its arrays are.

    Raises:
        WrongUsage: no such module or function, or importing it fails (code "bad-callable"); no such framework.
    """
    if framework not in FRAMEWORKS:
        raise WrongUsage(f"unknown framework {framework!r}", fix=f"known: {', '.join(FRAMEWORKS)}", code="wrong-usage")
    with _printing_to_standard_error():
        function = _imported(reference)
        convert = FRAMEWORKS[framework]()
    return Audited(reference, partial(_ask, function, convert))


def _imported(reference: str) -> Callable[[Mapping[str, Any]], Any]:
    module, _, path = reference.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except (Exception, SystemExit) as error:
        raise WrongUsage(
            f"cannot be imported ({_said(error)})", where=printable(reference), code="bad-callable"
        ) from None
    if not callable(found):
        raise WrongUsage(
            f"is a {type(found).__name__}, not a function", where=printable(reference), code="bad-callable"
        )
    function: Callable[[Mapping[str, Any]], Any] = found
    return function


def _ask(
    function: Callable[[Mapping[str, Any]], Any], convert: Callable[[Array], Any], items: Sequence[Item]
) -> list[Answer | NfnError]:
    answers: list[Answer | NfnError] = []
    with _printing_to_standard_error():
        for checkpoint, _ in items:
            try:
                given = {name: convert(np.array(array)) for name, array in checkpoint.tensors.items()}
                answers.append(tuple(_arrays(function(given))))
            except NfnError as error:
                answers.append(error)
            except (Exception, SystemExit) as error:
                answers.append(Refused(f"raised {_said(error)}", where=checkpoint.path, code="callable-failed"))
    return answers


def _arrays(value: Any) -> Iterator[FloatArray]:
    """Every output as float64; mappings in the order of their names."""
    if isinstance(value, Mapping):
        for name in sorted(value, key=str):
            yield from _arrays(value[name])
        return
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value
    if isinstance(value, (tuple, list)) and not all(isinstance(entry, (int, float)) for entry in value):
        for entry in value:
            yield from _arrays(entry)
        return
    array = np.asarray(value)
    if array.dtype.kind == "c":
        array = np.stack([array.real, array.imag])
    if array.dtype.kind not in "biuf":
        raise Refused(f"returned {type(value).__name__}, not a number or an array", code="callable-failed")
    yield array.astype(np.float64)


def _said(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return printable(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__, limit=200)


@contextmanager
def _printing_to_standard_error() -> Iterator[None]:
    """Whatever writes to standard output meanwhile, by Python or by file descriptor, writes to standard error."""
    streams = [stream for stream in (sys.stdout, sys.__stdout__) if stream is not None]
    for stream in streams:
        stream.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        for stream in streams:
            with suppress(ValueError):  # a stream that the function closed
                stream.flush()
        os.dup2(kept, 1)
        os.close(kept)


def _as_numpy() -> Callable[[Array], Any]:
    return lambda array: array


def _as_torch() -> Callable[[Array], Any]:
    try:
        import torch
    except ImportError:
        raise SurroundingsFailed("torch is not installed", fix="pip install torch") from None
    return torch.from_numpy


FRAMEWORKS: dict[str, Callable[[], Callable[[Array], Any]]] = {"numpy": _as_numpy, "torch": _as_torch}
