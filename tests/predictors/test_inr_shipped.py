"""The shipped classifiers of INRs: what they say of INRs fitted here, on whole orbits, and of what is none of theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from nfn_cli.api import act, classify_inrs, open_model, random_element
from nfn_cli.errors import NfnError, Refused, WrongUsage
from nfn_cli.graph import NameOptions
from nfn_cli.networks.inr import Coordinates
from nfn_cli.predictors.inr_card import inr_card, inr_readme
from nfn_cli.predictors.inr_predictor import InrAnswer, load_inr_predictor
from nfn_cli.predictors.shipped import shipped_folder, shipped_inr_classifiers, shipped_predictors
from nfn_cli.zoo.picture_fit import PictureFit, fit_pictures, write_inr

CARDS = {card.name: card for card in shipped_inr_classifiers()}
SINES = NameOptions(activation="sin", omega="30")


def digit(number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """A ring or a stroke, as people write 0 and 1; (28, 28, 1)."""
    rows, columns = np.mgrid[0:28, 0:28] - 13.5
    distance = np.abs(np.hypot(rows / 9, columns / 6) - 1) * 7 if number == 0 else np.abs(columns + 0.3 * rows)
    ink = np.clip(2.2 - distance, 0, 1) * (np.abs(rows) < 10)
    return np.uint8(255 * ink)[..., None]


@pytest.fixture(scope="module")
def inrs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """INRs of a 0 and a 1, in [−1, 1], with ω = 30."""
    folder = tmp_path_factory.mktemp("inrs")
    how = PictureFit((32, 32), (30.0, 30.0), 250, 5e-3, None, -1.0, 1.0, Coordinates(), 0)
    fitted = fit_pictures([digit(0), digit(1)], how, device="cpu", threads=1, advance=lambda count: None)
    paths = (folder / "0.safetensors", folder / "1.safetensors")
    for path, one in zip(paths, fitted, strict=True):
        write_inr(path, one, False)
    return paths


def ask(path: Any, options: NameOptions = NameOptions(), **how: Any) -> InrAnswer:
    (answer,) = classify_inrs([open_model(path, options)], **how)
    if isinstance(answer, NfnError):
        raise answer
    return answer


def mnist(kind: str) -> str:
    name = next((card.name for card in CARDS.values() if card.data_set == "mnist" and card.model == kind), None)
    return name or pytest.skip(f"no {kind} is shipped")


KINDS = sorted({card.model for card in CARDS.values() if card.data_set == "mnist"})


@pytest.mark.parametrize("number", [0, 1])
def test_digits_fitted_here_are_known_without_options(inrs: tuple[Path, Path], number: int) -> None:
    answer = ask(inrs[number])
    assert (answer.number, answer.label, answer.predictor) == (number, str(number), "inr-mnist")
    assert answer.probability > 0.8
    assert answer.in_distribution


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_member_of_the_orbit_gets_the_same_logits(inrs: tuple[Path, Path], kind: str, seed: int) -> None:
    predictor = load_inr_predictor(mnist(kind))
    model = open_model(inrs[0])
    graph = model.networks[0].graph
    element = random_element(model, seed=seed)
    found = []
    for checkpoint in (model.checkpoint, act(element, model)):
        stacked = {name: np.asarray(checkpoint.tensors[name])[None] for name in graph.parameter_shapes}
        found.append(predictor.logits(predictor.encoder.encode(graph, stacked, Coordinates())))
    assert not np.allclose(checkpoint.tensors["layers.0.bias"], model.checkpoint.tensors["layers.0.bias"])
    assert float((found[0] - found[1]).abs().max()) < 1e-4


def test_what_is_no_digit_is_not_in_distribution(inrs: tuple[Path, Path], tmp_path: Path) -> None:
    tensors = load_file(inrs[0])
    mixed = {name: np.random.default_rng(0).permutation(t.reshape(-1)).reshape(t.shape) for name, t in tensors.items()}
    save_file(mixed, tmp_path / "mixed.safetensors")
    assert not ask(tmp_path / "mixed.safetensors", SINES, predictor="inr-mnist").in_distribution
    if len({card.data_set for card in CARDS.values() if card.channels == 1}) > 1:
        with pytest.raises(Refused, match="--predictor: inr-") as caught:
            ask(tmp_path / "mixed.safetensors", SINES)
        assert caught.value.code == "which-predictor"


def test_files_of_others_need_the_activation_and_omega(inrs: tuple[Path, Path], tmp_path: Path) -> None:
    save_file(load_file(inrs[1]), tmp_path / "bare.safetensors")
    with pytest.raises(Refused, match="the activation is not known"):
        ask(tmp_path / "bare.safetensors")
    assert ask(tmp_path / "bare.safetensors", SINES).number == 1


@pytest.mark.parametrize(("outputs", "inputs"), [(2, 2), (1, 3)])
def test_other_shapes_are_no_inrs(inrs: tuple[Path, Path], tmp_path: Path, outputs: int, inputs: int) -> None:
    tensors = load_file(inrs[0])
    tensors["layers.0.weight"] = np.ones((32, inputs), np.float32)
    tensors["layers.2.weight"], tensors["layers.2.bias"] = (
        np.ones((outputs, 32), np.float32),
        np.ones(outputs, np.float32),
    )
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(Refused) as caught:
        ask(tmp_path / "other.safetensors", SINES)
    assert (caught.value.code, int(caught.value.exit_code)) == ("not-an-inr", 3)


def test_weights_that_are_not_finite_are_refused(inrs: tuple[Path, Path], tmp_path: Path) -> None:
    tensors = load_file(inrs[0])
    tensors["layers.1.bias"][3] = np.nan
    save_file(tensors, tmp_path / "nan.safetensors")
    with pytest.raises(Refused) as caught:
        ask(tmp_path / "nan.safetensors", SINES)
    assert (caught.value.code, int(caught.value.exit_code)) == ("non-finite-weights", 3)


def test_a_refused_one_does_not_stop_the_others(inrs: tuple[Path, Path]) -> None:
    relu = shipped_folder() / "examples" / "cifar10gs-relu.safetensors"
    answers = classify_inrs([open_model(path) for path in (inrs[0], relu, inrs[1])])
    assert [getattr(answer, "number", None) for answer in answers] == [0, None, 1]
    assert isinstance(answers[1], Refused)


def test_colours_are_not_for_a_classifier_of_grey_images(inrs: tuple[Path, Path], tmp_path: Path) -> None:
    tensors = load_file(inrs[0])
    tensors["layers.2.weight"] = np.repeat(tensors["layers.2.weight"], 3, 0)
    tensors["layers.2.bias"] = np.repeat(tensors["layers.2.bias"], 3, 0)
    save_file(tensors, tmp_path / "colour.safetensors")
    with pytest.raises(Refused, match="it shows colours"):
        ask(tmp_path / "colour.safetensors", SINES, predictor="inr-mnist")


def test_unknown_classifiers_and_kinds_are_wrong_usage(inrs: tuple[Path, Path]) -> None:
    for how in ({"predictor": "inr-nothing"}, {"model": "oracle"}, {"predictor": "inr-mnist", "model": "oracle"}):
        with pytest.raises(WrongUsage):
            ask(inrs[0], **how)


@pytest.mark.parametrize("name", sorted(CARDS))
def test_pages_are_made_from_cards_and_folders_are_small(name: str) -> None:
    folder = shipped_folder() / name
    card = inr_card(json.loads((folder / "card.json").read_text()), folder)
    assert (folder / "README.md").read_text() == inr_readme(card)
    assert card.name == name
    assert (folder / "weights.safetensors").stat().st_size < 1_600_000
    assert load_inr_predictor(name).card == card
    assert not {each.name for each in shipped_predictors()} & set(CARDS)


def test_a_damaged_card_is_refused(tmp_path: Path) -> None:
    source = shipped_folder() / "inr-mnist"
    record = json.loads((source / "card.json").read_text())
    for broken in ({**record, "orders": 3}, {**record, "more": 1}, {**record, "model": "x"}, {**record, "labels": []}):
        with pytest.raises(Refused):
            inr_card(broken, tmp_path)
    (tmp_path / "weights.safetensors").write_bytes((source / "weights.safetensors").read_bytes())
    (tmp_path / "card.json").write_text(json.dumps({**record, "architecture": {"blocks": [[3]]}}))
    with pytest.raises(Refused, match="do not fit"):
        load_inr_predictor(str(tmp_path))


def test_answers_are_calibrated_probabilities(inrs: tuple[Path, Path]) -> None:
    answer = ask(inrs[0])
    assert sum(answer.probabilities) == pytest.approx(1)
    assert answer.probability == max(answer.probabilities) == answer.probabilities[answer.number]
    predictor = load_inr_predictor("inr-mnist")
    logits = torch.zeros(1, predictor.card.orders * 10 + 1, dtype=torch.float64)
    logits[0, 3] = 1.0
    flat, _ = predictor.read(logits)
    assert float(flat[0, 3]) < 0.5  # one sure output among many that are not
