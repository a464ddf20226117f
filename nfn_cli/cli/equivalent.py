"""cli/equivalent.py: `nfn equivalent`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from nfn_cli.cli import options as o

if TYPE_CHECKING:
    from nfn_cli.match.equivalent import Equivalence
    from nfn_cli.symmetry import GroupElement, SetElement


def equivalent(
    left: Annotated[str, typer.Argument(metavar="A", help="A checkpoint: a file, DIR#row of a zoo, hf://….")],
    right: Annotated[str, typer.Argument(metavar="B", help="The checkpoint to compare it with.")],
    tolerance: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            "--tol",
            metavar="X",
            help="Largest residual that counts as equal; default: what rounding to their element types does.",
            show_default=False,
        ),
    ] = None,
    element: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--element", help="Write the element that leads from A to B, for nfn act.", show_default=False),
    ] = None,
    activation: o.Activation = None,
    layers: o.Layers = None,
    pooling: o.Pooling = None,
    omega: o.Omega = None,
    concat: o.Concat = None,
    residual: o.Residual = None,
    arch: o.Arch = None,
    trust_code: o.TrustCode = False,
    force: o.Force = False,
    json: o.Json = False,
) -> None:
    """Tell whether two checkpoints are the same network up to its whole group: permutations, scales, signs, phases.

    Units are matched, nothing is compared in sorted form. Exit code 0: some group element leads from A to B; --element
    writes it, and nfn act applies it. Exit code 1: not related by the group. That does not say that the functions differ:
    repeated, constant or always-on units can make one function of unrelated weights, so the outputs of both on random
    inputs are compared too.

    The residual is the largest difference of one weight after matching, over its size plus a tenth of its tensor's root mean
    square (without --tol and float16: of what its units have of that); the distance is the Euclidean distance relative to the
    norm. What feeds units that nothing reads is not compared. Rounding to bfloat16 moves a weight by up to 0.4 %, twice where
    both were rounded: there one weight that was changed by 1 % cannot be told from rounding, and counts as equal.
    A file of weights does not tell strides, pooling or ε. Where all that weights show agrees, such a file is compared with one
    that tells: as if both had the same, with the group that is certain for both, and the answer says so (assumed_alike).

    For copies that were trained on a little, read the distance or raise --tol.

    Examples:

      nfn equivalent model.safetensors disguised.safetensors

      nfn equivalent a.pth b.pth --activation relu --tol 0.05 --element g.safetensors --json
    """
    from nfn_cli.api import equivalent as compare
    from nfn_cli.api import open_model
    from nfn_cli.checkpoint.atomic_write import check_output
    from nfn_cli.cli import render
    from nfn_cli.cli.jsonl import write_object
    from nfn_cli.cli.session import Session
    from nfn_cli.errors import ExitCode
    from nfn_cli.match.common_reading import assumption
    from nfn_cli.symmetry import write_element

    session = Session("equivalent", json)
    with session.watched(left):
        if element is not None:
            check_output(element, force)
        how = o.name_options(activation, layers, pooling, omega, concat, residual, arch, trust_code)
        models = open_model(left, how), open_model(right, how)
        answer = compare(*models, tolerance=tolerance)
        written = element if element is not None and answer.element is not None and answer.equivalent else None
        if written is not None and answer.element is not None:
            write_element(answer.element, written, force=force)
        for note in dict.fromkeys(note for model in models for network in model.networks for note in network.notes):
            session.note(note)
        if not answer.equivalent:
            session.code = int(ExitCode.ANSWER_IS_NO)
        if json:
            write_object(_answer(left, right, answer, written))
        else:
            render.line("; ".join([_sentence(answer), *([assumption(answer.assumed)] if answer.assumed else [])]))
    session.end()


def _answer(left: str, right: str, answer: Equivalence, written: Path | None) -> dict[str, Any]:
    return {
        "schema": "nfn.equivalent/1",
        "path": left,
        "other": right,
        "equivalent": answer.equivalent,
        "reason": answer.reason or None,
        "residual": answer.residual,
        "worst_tensor": answer.worst_tensor or None,
        "distance": answer.distance,
        "tolerance": answer.tolerance,
        "element": str(written) if written is not None else _inline(answer) if answer.equivalent else None,
        "output_difference": answer.original_output_difference,
        "output_difference_after": answer.output_difference,
        "dead_units_left_out": answer.dead_left_out,
        "assumed_alike": list(answer.assumed),
    }


def _inline(answer: Equivalence) -> dict[str, Any] | None:
    """What `write_element` writes, as lists."""
    if answer.element is None:
        return None
    parts = ("permutation", "scale", "sign", "shift", "shift_sign")
    return {
        name: {part: getattr(values, part).tolist() for part in parts} for name, values in answer.element.sets.items()
    }


def _sentence(answer: Equivalence) -> str:
    if answer.residual is None or answer.distance is None:
        return f"not equivalent: {answer.reason}"
    if answer.equivalent:
        left_out = "; what feeds dead units was not compared" if answer.dead_left_out else ""
        moved = _moved(answer.element) if answer.element is not None else ""
        return f"same network{moved} (residual {answer.residual:.1e}, allowed {answer.tolerance:.1e}){left_out}"
    said = (
        f"{answer.reason} (residual {answer.residual:.1e} in {answer.worst_tensor}, allowed {answer.tolerance:.1e}; "
        f"distance {answer.distance:.1e})"
    )
    if answer.original_output_difference is None:
        return said
    return f"{said}; outputs differ by {answer.original_output_difference:.1e} on random inputs"


def _moved(element: GroupElement) -> str:
    """How the element differs from the identity, set by set."""
    import numpy as np

    kinds: dict[str, Callable[[SetElement], bool]] = {
        "permutations": lambda e: not np.array_equal(e.permutation, np.arange(len(e.permutation))),
        "scales": lambda e: bool((np.abs(e.scale - 1.0) > 1e-5).any()),
        "signs": lambda e: bool((e.sign < 0).any()),
        "phases": lambda e: bool(e.shift.any()),
    }
    found = []
    for kind, moves in kinds.items():
        names = [name for name, part in element.sets.items() if moves(part)]
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            found.append(f"{kind} of {', '.join(names[:3])}{more}")
    return f" up to {'; '.join(found)}" if found else ": the same weights"
