"""cli/fingerprint.py: `nfn fingerprint`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from nfn_cli.cli import options as o

if TYPE_CHECKING:
    from nfn_cli.graph import NameOptions
    from nfn_cli.match.fingerprint import Judged
    from nfn_cli.match.fingerprint_code import Fingerprint

UNRELIABLE = "weights are too small for float16: a copy in that type has another code, and is another network"

To = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--to", metavar="CODE|CKPT", help="Compare every input with this one; exit code 1 if one differs."),
]
Radius = Annotated[
    int, typer.Option("--radius", min=0, max=127, help="Codes that differ in at most so many bits are one network.")
]


def fingerprint(
    inputs: o.Inputs,
    to: To = None,
    radius: Radius = 24,
    activation: o.Activation = None,
    layers: o.Layers = None,
    pooling: o.Pooling = None,
    omega: o.Omega = None,
    concat: o.Concat = None,
    residual: o.Residual = None,
    arch: o.Arch = None,
    trust_code: o.TrustCode = False,
    json: o.Json = False,
) -> None:
    """Print a short code that permutations, scales, signs and phases of hidden units leave alone.

    VERSION-ARCHITECTURE-BITS: a hash of the shapes, groups and functions of the network, without names, then 256 bits.
    Two codes of one architecture are compared by the number of bits that differ (--to does it). Copies by a group element
    in float32 differ in no bit as a rule, copies in float16 or bfloat16 in a few, unrelated networks in about 128. Noise
    on the weights moves more bits the larger it is: about 13 at 1 % of each weight, 35 at 3 %, 100 at 10 %. So equality is not
    equality of text: codes mean one network where at most --radius bits differ.

    What the code does not see: changes of single weights too small to matter among all, and weights far smaller than others
    that they meet. What it cannot help: where most of a layer that counts is too small for float16, a copy in that type is
    another network; then a note says so, and "reliable" is false. A match is no proof; nfn equivalent finds the group element
    that proves it.

    Examples:

      nfn fingerprint model.safetensors model-fp16.safetensors

      nfn fingerprint copy.pth --to model.safetensors --activation relu

      nfn fingerprint 'zoo#0' 'zoo#1' --json
    """
    from nfn_cli.cli import render
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session
    from nfn_cli.errors import ExitCode

    session = Session("fingerprint", json)
    how = o.name_options(activation, layers, pooling, omega, concat, residual, arch, trust_code)
    other = None if to is None else _fingerprint_or_code(to, how)

    def handle(path: str) -> None:
        judged, container, notes = _of(path, how)
        code = judged.code
        for note in notes:
            session.note(note)
        distance = None if other is None else code.distance(other)
        same = None if other is None else code.same_network(other, radius)
        if json:
            write_object(_object(path, container, judged, distance, same, notes))
        else:
            verdict = "" if other is None else f"  {_words(distance, same)}"
            render.as_they_are([f"{code}  {path}{verdict}"])
        if same is False:
            session.code = max(session.code, int(ExitCode.ANSWER_IS_NO))

    session.each(inputs, handle)
    session.end()


def _of(path: str, how: NameOptions) -> tuple[Judged, str, tuple[str, ...]]:
    """The code, the container, and notes on how the network was read and on the code."""
    from nfn_cli import api

    model = api.open_model(path, how)
    judged = api.fingerprint(model)
    notes = tuple(note for network in model.networks for note in network.notes)
    return judged, model.checkpoint.container, notes if judged.reliable else (*notes, UNRELIABLE)


def _fingerprint_or_code(text: str, how: NameOptions) -> Fingerprint:
    from nfn_cli.match.fingerprint_code import fingerprint_from, looks_like_one

    return fingerprint_from(text) if looks_like_one(text) else _of(text, how)[0].code


def _object(
    path: str, container: str, judged: Judged, distance: int | None, same: bool | None, notes: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "schema": "nfn.fingerprint/1",
        "path": path,
        "container": container,
        "fingerprint": str(judged.code),
        "architecture": judged.code.architecture,
        "reliable": judged.reliable,
        "distance": distance,
        "same_network": same,
        "notes": list(notes),
    }


def _words(distance: int | None, same: bool | None) -> str:
    if distance is None:
        return "other architecture"
    return f"{'same' if same else 'different'} (distance {distance})"
