"""predictors/inr_edit_card.py: the page of facts of an editor of INRs, as JSON and for people. Knows folders; no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from nfn_cli.errors import Refused, SurroundingsFailed, WrongUsage
from nfn_cli.predictors.shipped import shipped_folder

SCHEMA = "nfn.inr-editor/1"
FILE = "editor.json"
_NUMBERS = ("steps", "channels", "convolutions", "hidden")
_LARGEST = 4096


@dataclass(frozen=True)
class EditorCard:
    """Attributes: name; style: what it does to pictures; operator: that in words; shape: fields of `EditorShape`; parameters:
    learned numbers; data, training: what it was fitted to and how; test: mean squared errors on INRs of test pictures, by
    image set; reproduce: the command that makes the folder again."""

    name: str
    style: str
    operator: str
    shape: Mapping[str, Any]
    parameters: int
    data: Mapping[str, Any]
    training: Mapping[str, Any]
    test: Mapping[str, Any]
    reproduce: str

    @property
    def takes(self) -> str:
        """What it edits, in words."""
        return "fully connected sine INRs of any width, depth and ω, with one or three channels"

    def squared_errors(self) -> tuple[float, float]:
        """Mean over all test INRs before and after the edit, from the picture that is wanted."""
        parts = list(self.test.values())
        count = sum(part["count"] for part in parts)
        before, after = (sum(part[key] * part["count"] for part in parts) / count for key in ("unedited", "edited"))
        return before, after

    def to_json(self) -> str:
        """Text of editor.json."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2, allow_nan=False) + "\n"


def editor_folder(name_or_folder: str) -> Path:
    """Folder of an editor: a shipped name, or a folder with an editor.json.

    Raises:
        WrongUsage: neither; the message lists the shipped names.
    """
    shipped = shipped_folder() / name_or_folder
    if "/" not in name_or_folder and (shipped / FILE).is_file():
        return shipped
    folder = Path(name_or_folder)
    if (folder / FILE).is_file():
        return folder
    raise WrongUsage(
        f"no editor {name_or_folder!r}",
        fix=f"shipped: {', '.join(shipped_editors()) or 'none'}; or name a folder with {FILE}",
        code="unknown-predictor",
    )


def shipped_editors() -> tuple[str, ...]:
    """Names of the editors that come with the package."""
    return tuple(sorted(path.parent.name for path in shipped_folder().glob(f"*/{FILE}")))


def read_editor_card(folder: Path) -> EditorCard:
    """Reads editor.json of an editor's folder.

    Raises:
        SurroundingsFailed: it cannot be read.
        Refused: it is not a card of this version.
    """
    path = folder / FILE
    try:
        record = json.loads(path.read_text())
    except OSError as error:
        raise SurroundingsFailed(f"no editor here ({error.strerror})", where=str(path)) from None
    except (ValueError, RecursionError):
        raise Refused(f"{FILE} is not JSON", where=str(path), code="bad-card") from None
    names = {field.name for field in fields(EditorCard)}
    good = isinstance(record, dict) and record.pop("schema", None) == SCHEMA and set(record) == names
    if not good or not _is_shape(record["shape"], record["style"]):
        raise Refused(f"{FILE} does not follow {SCHEMA}", where=str(path), code="bad-card")
    return EditorCard(**record)


def _is_shape(shape: Any, style: Any) -> bool:
    if not isinstance(shape, dict) or set(shape) != {"style", *_NUMBERS} or shape["style"] != style:
        return False
    return all(type(shape[name]) is int and 0 < shape[name] <= _LARGEST for name in _NUMBERS)


def readme(card: EditorCard) -> str:
    """The card for people, in Markdown; made from editor.json alone."""
    lines = [
        f"# {card.name}",
        "",
        f"Changes the weights of a sine INR so that its picture is edited: {card.operator}",
        "",
        "* **What it is.** The INR is drawn on its pixel grid; the operator, with a learned correction for the errors of fits, "
        f"makes the wanted picture; {card.shape['steps']} learned steps then change the weights. A step follows the gradient of "
        "the distance from the wanted picture with respect to the weights, smoothed and divided by its usual size, times a step "
        "size that a small network reads off invariants. So it needs to run the network: it is no function of the weights alone "
        "that never looks at the picture, and much like a fit that was taught to arrive in few steps.",
        "* **Equivariant** under D∞ ≀ S_n of every sine layer (signs, shifts of biases by multiples of π/ω, permutations), "
        "exactly: the group acts by isometries, and nothing but gradients of functions of the picture and invariants is used.",
        f"* **Takes** {card.takes}.",
        f"* **Parameters** {card.parameters:,}, kept in float32.",
        f"* **Data** {card.data['description']}",
        "",
        "Mean squared error on INRs of test pictures, from the operator applied to the original picture (not to what the INR "
        "shows); the distance from black to white is 1:",
        "",
        "| INRs of | count | unedited | edited | edited, black and white told from the values |",
        "| --- | --- | --- | --- | --- |",
    ]
    for name, row in card.test.items():
        lines.append(
            f"| {name} | {row['count']} | {row['unedited']:.5f} | {row['edited']:.5f} | {row['edited_range_seen']:.5f} |"
        )
    lines += ["", "By PSNR of the fit (dB):", "", "| INRs of | PSNR | count | edited |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {name} | {part['from']}–{part['to']} | {part['count']} | {part['edited']:.5f} |"
        for name, row in card.test.items()
        for part in row["by_psnr"]
    ]
    lines += ["", "Reproduce:", "", f"    {card.reproduce}", "", f"This page is written from {FILE}."]
    return "\n".join(lines) + "\n"
