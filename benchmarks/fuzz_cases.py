"""fuzz_cases.py: what is done with one changed input, and what counts as a defect. Runs in a process of its own."""

from __future__ import annotations

import random
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fuzz_mutations import changed, changed_bytes
from fuzz_seeds import Seed

import nfn_cli
from nfn_cli.cli.jsonl import text_of
from nfn_cli.errors import NfnError

MEMORY = 300 << 20  # bytes beyond four times the input
_ACTIVATIONS = ("relu", "tanh", "gelu", "sin", "sigmoid", "relu,tanh")


@dataclass(frozen=True)
class Outcome:
    """How it ended: "analysed", "refused CODE", or a defect, with the place it can be told by."""

    word: str
    defect: str = ""
    details: str = ""


def files_of(number: int, run_seed: int, seeds: list[Seed]) -> tuple[Seed, dict[str, bytes]]:
    """The seed and the changed files of case `number`: always the same."""
    draw = random.Random(run_seed * 1_000_003 + number)
    kinds = sorted({seed.container for seed in seeds})
    kind = draw.choice(kinds)
    seed = draw.choice([s for s in seeds if s.container == kind])
    return seed, changed_files(seed.files, seed.entry, draw)


def changed_files(files: dict[str, bytes], entry: str, draw: random.Random) -> dict[str, bytes]:
    """One to three changes, mostly of what the user names."""
    files = dict(files)
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        name = draw.choice(sorted(files)) if entry == "" or draw.random() < 0.2 else entry
        name = name if name in files else draw.choice(sorted(files))
        files[name] = changed(files[name], draw)
        if draw.random() < 0.01:
            files.pop(name)
        if not files:
            files = {name: changed_bytes(b"", draw)}
    return files


def run(number: int, run_seed: int, seed: Seed, folder: Path, out: Path) -> Outcome:
    """Read what lies in the folder, as far as it goes; outputs belong in `out`."""
    draw = random.Random(run_seed + number)
    before = _listing(folder)
    try:
        READERS[seed.reads](folder / seed.entry if seed.entry else folder, out, draw)
        outcome = Outcome("analysed")
    except _Wrong as wrong:
        outcome = Outcome("wrong", str(wrong).split(":")[0], str(wrong))
    except NfnError as error:
        outcome = _judged(error)
    except Exception as error:
        outcome = Outcome("crash", _place(error), traceback.format_exc()[-3000:])
    left = sorted(path.name for path in out.iterdir())
    if outcome.word != "analysed" and left:
        return Outcome("wrong", "output left behind a refusal", f"{outcome}: {left}")
    if _listing(folder) != before:
        return Outcome("wrong", "input folder changed", str(_listing(folder)))
    return outcome


class _Wrong(Exception):
    """An answer that must not be."""


def _judged(error: NfnError) -> Outcome:
    text = str(error)
    if not text.isprintable():
        return Outcome("wrong", f"unprintable message {error.code}", repr(text))
    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", error.code):
        return Outcome("wrong", "no code", text)
    return Outcome(f"refused {error.code}")


def _model(path: Path, out: Path, draw: random.Random) -> None:
    checkpoint = nfn_cli.load(path)
    known = checkpoint.hints.activation
    try:
        model = nfn_cli.open_model(checkpoint)
    except NfnError as error:
        if known or error.code != "activation-unknown":
            raise
        model = nfn_cli.open_model(checkpoint, nfn_cli.NameOptions(activation=draw.choice(_ACTIVATIONS)))
    report = nfn_cli.symmetry_report(model, elements=1)
    text_of(report.as_json())
    if not report.passed:
        raise _Wrong(f"check refuted the group: {report.as_json()['networks']}")
    if draw.random() < 0.5:
        return
    form = nfn_cli.canonicalize(model)
    target = out / ("o.json" if checkpoint.container == "safetensors-sharded" else "o")
    saved = nfn_cli.save(form.checkpoint, target)
    again = nfn_cli.load(saved.path)
    if set(again.tensors) != set(checkpoint.tensors):
        raise _Wrong(f"output incomplete: {sorted(set(again.tensors) ^ set(checkpoint.tensors))[:5]}")


def _element(path: Path, out: Path, draw: random.Random) -> None:
    from nfn_cli.symmetry.element_file import read_element

    moved = nfn_cli.act(read_element(path), path.parent / "m.safetensors", inverse=draw.random() < 0.5)
    nfn_cli.save(moved, out / "o.safetensors")


def _zoo(path: Path, out: Path, draw: random.Random) -> None:
    from nfn_cli.zoo.open_zoo import open_zoo

    if draw.random() < 0.4 and not (path / "table.csv").exists():
        _model(Path(f"{path}#{draw.randrange(3)}"), out, draw)
        return
    zoo = open_zoo(path, final_only=draw.random() < 0.7)
    for family in zoo.families:
        family.tensors()
    if len(zoo):
        nfn_cli.symmetry_report(zoo.checkpoint(0), elements=1)


def _predictor(path: Path, out: Path, draw: random.Random) -> None:
    del out, draw
    root = Path(nfn_cli.__file__).parents[1] / "models"
    if (path / "editor.json").exists():
        from nfn_cli.predictors.inr_edit import load_editor

        load_editor(str(path))
    elif "inr" in (path / "card.json").read_text("utf-8", "replace")[:200] if (path / "card.json").exists() else False:
        from nfn_cli.predictors.inr_predictor import load_inr_predictor

        load_inr_predictor(str(path))
    else:
        nfn_cli.predict_generalization(root / "examples" / "cifar10gs-relu.safetensors", predictor=str(path))


def _images(path: Path, out: Path, draw: random.Random) -> None:
    from nfn_cli.zoo.images import read_images

    del out
    read_images(path, grey=draw.choice([None, True, False])).digest()


def _picture(path: Path, out: Path, draw: random.Random) -> None:
    from nfn_cli.zoo.pictures import read_picture

    del out
    read_picture(path, grey=draw.choice([None, True, False]))


READERS: dict[str, Callable[[Path, Path, random.Random], None]] = {
    "model": _model,
    "element": _element,
    "zoo": _zoo,
    "predictor": _predictor,
    "images": _images,
    "picture": _picture,
}


def _listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path.relative_to(folder)), path.stat().st_size) for path in folder.rglob("*") if path.is_file())


def _place(error: BaseException) -> str:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/nfn_cli/" in f.filename]
    where = f"{frames[-1].filename.rpartition('/nfn_cli/')[2]}:{frames[-1].lineno}" if frames else "?"
    return f"{type(error).__name__} at {where}"
