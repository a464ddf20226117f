"""`nfn train generalization` and `nfn evaluate`: from a zoo on disk to a folder that predicts, and how well it does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nfn_cli.cli.main import app
from nfn_cli.errors import NfnError
from nfn_cli.predictors.card import read_card
from tests.train.made_zoo import MIXED, RELU, write_made_zoo
from tests.zoo.making import image_file

from .running import Run, nfn
from .test_commands import check_schema


def called(*arguments: object) -> Run:
    """The command in this process, which has torch already; errors end it as `process()` would."""
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    if isinstance(done.exception, NfnError):
        return Run(int(done.exception.exit_code), done.stdout, f"error: {done.exception}\n")
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Run(done.exit_code, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A mixed zoo, one of another run of making, images, and a predictor trained by the installed command."""
    folder = tmp_path_factory.mktemp("made")
    write_made_zoo(folder / "zoo", RELU, MIXED, runs=24)
    write_made_zoo(folder / "relu", RELU, runs=30, seed=1)
    image_file(folder / "images")
    return folder


def train(made: Path, out: Path, *more: object, zoo: str = "zoo", model: str = "probe") -> list[object]:
    quick = ("--epochs", 2, "--folds", 2, "--test-fraction", 0.3, "--probes", 12)
    return ["train", "generalization", "--zoo", made / zoo, "--model", model, *quick, "-o", out, *more]


@pytest.fixture(scope="module")
def predictor(made: Path) -> Path:
    run = nfn(*train(made, made / "mine", "--images", made / "images", "--json"))
    assert (run.code, run.err) == (0, "")
    (line,) = run.json()
    check_schema("train-generalization", line)
    assert line["path"] == str(made / "mine")
    assert line["predictor"] == "mine"
    return made / "mine"


def test_the_folder_holds_what_was_asked_for(predictor: Path, made: Path) -> None:
    card = read_card(predictor)
    assert (card.name, card.model, card.members) == ("mine", "probe", 2)
    assert card.training["epochs"] == 2
    assert card.split["test_fraction"] == 0.3
    assert card.reproduce == (
        "nfn train generalization --zoo ZOO_DIR --model probe --images IMAGES --probes 12 --epochs 2 --folds 2 "
        f"--test-fraction 0.3 -o {made / 'mine'}"
    )
    assert {path.name for path in predictor.iterdir()} == {"README.md", "card.json", "weights.safetensors"}


def test_a_second_training_gives_the_same_bytes_and_says_for_people_how_it_went(
    predictor: Path, made: Path, tmp_path: Path
) -> None:
    out = tmp_path / "mine"
    run = called(*train(made, out, "--images", made / "images"))
    assert run.code == 0
    assert f"{out}: written" in run.out.replace("\n  ", " ")
    assert max(map(len, run.out.splitlines()[:-1])) <= 80
    assert (out / "weights.safetensors").read_bytes() == (predictor / "weights.safetensors").read_bytes()
    cards = [json.loads((folder / "card.json").read_text()) for folder in (out, predictor)]
    for card in cards:
        del card["reproduce"]
    assert cards[0] == cards[1]


def test_a_predictor_is_not_replaced_unasked(predictor: Path, made: Path) -> None:
    before = (predictor / "card.json").read_bytes()
    run = called(*train(made, predictor, "--images", made / "images"))
    assert run.code == 2
    assert "--force" in run.err
    assert (predictor / "card.json").read_bytes() == before
    again = called(*train(made, predictor, "--images", made / "images", "--force"))
    assert again.code == 0
    assert (predictor / "card.json").read_bytes() == before


def test_a_killed_training_goes_on_where_it_was(
    predictor: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nfn_cli.train import generalization

    more = ("--images", made / "images", "--work", tmp_path / "work", "--epochs", 20)
    fit, calls = generalization.fit, []

    def killed_in_the_second(*arguments: Any, **named: Any) -> Any:
        calls.append(named)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit(*arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(generalization, "fit", killed_in_the_second)
        CliRunner().invoke(app, [str(each) for each in train(made, tmp_path / "out", *more)])
    assert len(calls) == 2
    assert not (tmp_path / "out").exists()
    assert called(*train(made, tmp_path / "out", *more)).code == 0
    assert (tmp_path / "work" / "log.jsonl").read_text().count('"train_loss"') == 2 * 20  # no member was trained twice
    unbroken = ("--images", made / "images", "--epochs", 20)
    assert called(*train(made, tmp_path / "unbroken", *unbroken)).code == 0
    weights = [(tmp_path / folder / "weights.safetensors").read_bytes() for folder in ("out", "unbroken")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ({"model": "monomial-nfn"}, 2, "these networks differ"),
        ({"model": "probe"}, 2, "name them with --images"),
        ({"model": "transformer"}, 2, "models: monomial-nfn, "),
        ({"model": "unit-graph", "more": ["--folds", 40]}, 2, "too few runs for 40 folds"),
        ({"model": "unit-graph", "more": ["--activation", "gelu"]}, 2, "it has: "),
        ({"model": "unit-graph", "more": ["--probe-epochs", 1]}, 2, "shows no inputs to networks"),
        ({"zoo": "nowhere"}, 4, "no such file or folder"),
        ({"zoo": "images"}, 3, "no zoo"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_one_line_and_nothing_written(
    made: Path, tmp_path: Path, arguments: dict[str, Any], code: int, said: str
) -> None:
    more = arguments.pop("more", [])
    run = called(*train(made, tmp_path / "out", *more, "--json", **arguments))
    assert run.code == code
    assert run.err.startswith("error: ")
    assert run.err.count("\n") == 1
    assert said in run.err
    assert not (tmp_path / "out").exists()
    (line,) = run.json()
    check_schema("train-generalization", line)
    assert line["error"]["message"]


def test_monomial_nfn_is_trained_where_all_networks_have_one_shape(made: Path, tmp_path: Path) -> None:
    run = called(*train(made, tmp_path / "out", "--json", zoo="relu", model="monomial-nfn"))
    assert run.code == 0
    (line,) = run.json()
    check_schema("train-generalization", line)
    asked = called("predict-generalization", f"{made / 'relu'}#3", "--predictor", tmp_path / "out", "--json")
    assert asked.json()[0]["predictor"] == "out"


def test_an_evaluation_tells_scores_and_how_far_answers_move(predictor: Path, made: Path) -> None:
    run = called("evaluate", predictor, "--zoo", made / "zoo", "--json")
    assert (run.code, run.err) == (0, "")
    (line,) = run.json()
    check_schema("evaluate", line)
    assert (line["split"], line["networks"], line["not_taken"]) == ("all", 48, 0)
    untouched, *moved = line["results"]
    assert untouched["move"] == "untouched"
    assert untouched["largest_change"] == 0.0
    assert [(m["move"], m["magnitude"]) for m in moved if m["move"] == "uniform-scale"] == [
        ("uniform-scale", 10.0**power) for power in range(1, 5)
    ]
    assert "permutation" in {m["move"] for m in moved}
    for result in moved:  # what rounding the moved weights to float32 does
        assert result["largest_change"] < 1e-4
        assert result["kendall_tau"] == pytest.approx(untouched["kendall_tau"], abs=0.02)


def test_sides_of_the_split_are_the_predictors_own(predictor: Path, made: Path) -> None:
    def evaluated(*more: object) -> dict[str, Any]:
        run = called("evaluate", predictor, "--zoo", made / "zoo", "--no-moves", "--json", *more)
        assert run.code == 0
        (line,) = run.json()
        check_schema("evaluate", line)
        assert len(line["results"]) == 1
        return dict(line)

    card = read_card(predictor)
    test, train_side = evaluated("--split", "test"), evaluated("--split", "train")
    assert test["networks"] == card.test["count"]
    for name in ("kendall_tau", "r2", "mae"):
        assert test["results"][0][name] == pytest.approx(card.test[name], abs=1e-6)
    assert test["results"][0]["coverage"] == pytest.approx(card.measured["coverage"])
    assert test["networks"] + train_side["networks"] == evaluated()["networks"] == 48
    assert evaluated("--all")["networks"] == 96
    assert train_side["results"][0]["mae"] != test["results"][0]["mae"]  # the control


def test_networks_that_are_not_taken_are_counted_and_said(predictor: Path, tmp_path: Path) -> None:
    write_made_zoo(tmp_path / "zoo", RELU, replace(RELU, classes=4), runs=10)
    run = called("evaluate", predictor, "--zoo", tmp_path / "zoo", "--no-moves", "--json")
    assert run.code == 0
    assert run.err == "note: 10 networks not taken: it has 4 outputs, not 3\n"
    (line,) = run.json()
    assert (line["networks"], line["not_taken"]) == (10, 10)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nowhere", "--zoo", "zoo"], 2, "no predictor 'nowhere'"),
        (["mine", "--zoo", "zoo", "--split", "both"], 2, "one of all, test, train"),
        (["mine", "--zoo", "zoo", "--activation", "gelu"], 2, "it has: "),
        (["generalization-cifar10gs-relu", "--zoo", "zoo"], 3, "the predictor takes none of these networks"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_with_one_line(
    predictor: Path, made: Path, arguments: list[str], code: int, said: str
) -> None:
    paths = [str(made / each) if each in ("mine", "zoo") else each for each in arguments]
    run = called("evaluate", *paths, "--json")
    assert run.code == code
    assert run.err.count("\n") == 1
    assert said in run.err
    (line,) = run.json()
    check_schema("evaluate", line)


def test_an_evaluation_for_people_fits_80_columns(predictor: Path, made: Path) -> None:
    run = called("evaluate", predictor, "--zoo", made / "zoo", "--activation", "relu")
    assert run.code == 0
    assert max(map(len, run.out.splitlines())) <= 80
    assert "scales U[1, 10000]" in " ".join(run.out.split())
    assert "24 networks" in run.out
