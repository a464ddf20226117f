"""cli/digest.py: `nfn digest`."""

from __future__ import annotations

from typing import Annotated

import typer

from nfn_cli.cli import options as o


def digest(
    inputs: o.Inputs,
    modulo_symmetry: Annotated[
        bool, typer.Option("--modulo-symmetry", help="Digest the rounded canonical form, in no order of units.")
    ] = False,
    names: Annotated[bool, typer.Option("--names/--no-names", help="Whether the tensors' names count.")] = True,
    check: Annotated[bool, typer.Option("--check", help="Exit code 1 if not all digests are equal.")] = False,
    manifest: Annotated[
        bool, typer.Option("--manifest", help="Print the lines that are hashed: one for each tensor.")
    ] = False,
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
    """Print a SHA-256 of the tensors alone: the same for safetensors, shards, torch and numpy files of the same tensors.

    Hashed is one line for each tensor, NAME DTYPE SHAPE DATA: its name as a JSON string, element type (F32, BF16, I64, …),
    shape ([3,4]) and the SHA-256 of its entries in C order, little-endian; the lines are sorted, each ends with a newline.
    With --manifest they are printed, and sha256sum of that gives the digest. With --no-names lines begin with DTYPE.

    Not hashed: metadata, order, container, shards, nesting that holds everything, the prefixes module. and _orig_mod., the
    counter n_averaged, optimizer state and all that is no tensor. Tied tensors count under each name. float16, bfloat16 and
    float32 are different types: the same values in another type have another digest.

    --modulo-symmetry needs to know the network, as symmetry-report does. It hashes NAME SHAPE SIZE SUM for each tensor the
    network uses, in balanced scale with signs settled and every entry rounded; element types do not count. Permuted,
    rescaled or flipped copies in float32 or float64 agree nearly always. But float noise can move it: an entry close to a
    border rounds up in one copy and down in the other. Equal digests mean equal rounded forms; different ones prove nothing.
    In doubt nfn equivalent decides, which matches one network onto the other, and nfn fingerprint, whose codes stay near
    each other under noise. Changes of single weights below the rounding go unseen.

    Examples:

      nfn digest model.safetensors model.pth --check

      nfn digest model.safetensors --modulo-symmetry --activation relu --json

      nfn digest model.safetensors --manifest | sha256sum
    """
    from nfn_cli.api import digest as digest_of
    from nfn_cli.cli import render
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session, expanded
    from nfn_cli.errors import ExitCode, WrongUsage

    session = Session("digest", json)
    how = o.name_options(activation, layers, pooling, omega, concat, residual, arch, trust_code)
    inputs = list(expanded(inputs))
    if check and len(inputs) < 2:
        raise WrongUsage("--check compares two or more inputs", code="wrong-usage")
    if manifest and json:
        raise WrongUsage("--manifest prints lines, --json objects: choose one", code="wrong-usage")
    found: set[str] = set()

    def handle(path: str) -> None:
        answer = digest_of(path, how, modulo_symmetry=modulo_symmetry, names=names)
        found.add(answer.hexdigest)
        for note in answer.notes:
            session.note(note)
        if json:
            write_object(answer.as_json())
        elif manifest:
            render.as_they_are(answer.lines)
        else:
            render.as_they_are([f"{answer.hexdigest}  {path}"])

    session.each(inputs, handle)
    if check and len(found) > 1:
        session.note(f"{len(found)} different digests")
        session.code = max(session.code, int(ExitCode.ANSWER_IS_NO))
    session.end()
