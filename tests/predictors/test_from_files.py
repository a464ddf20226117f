"""From a file on disk to an answer: whatever the tensors are called, one network gets one answer."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from nfn_cli.api import open_model, predict_generalization
from nfn_cli.graph import NameOptions
from nfn_cli.predictors.predictor import Prediction
from tests.predictors.networks_by_hand import ACTIVATIONS, EXAMPLES, LAYERS, channels_last, example

KINDS = (None, "monomial-nfn")  # whatever is best, and the one that reads chains alone


def answer(source: str, activation: str | None = None, model: str | None = None) -> Prediction:
    return predict_generalization(open_model(source, NameOptions(activation=activation)), model=model)


def numbers(prediction: Prediction) -> list[float]:
    return [prediction.predicted_test_accuracy, *prediction.interval, float(prediction.in_distribution)]


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_shipped_examples_say_their_activation_themselves(activation: str) -> None:
    path = str(EXAMPLES / f"cifar10gs-{activation}.safetensors")
    assert answer(path, model="monomial-nfn").predictor == f"generalization-cifar10gs-{activation}"
    assert answer(path).path == path
    assert answer(path).in_distribution


@pytest.mark.parametrize("model", KINDS)
def test_other_names_give_the_same_answer(tmp_path: Path, model: str | None) -> None:
    names = {"conv1": "features.0", "conv2": "features.2", "conv3": "features.4", "fc": "classifier"}
    renamed = {".".join([names[k.split(".")[0]], k.split(".")[1]]): v for k, v in example("relu").items()}
    save_file(renamed, tmp_path / "renamed.safetensors")
    there = answer(str(tmp_path / "renamed.safetensors"), "relu", model)
    here = answer(str(EXAMPLES / "cifar10gs-relu.safetensors"), model=model)
    assert numbers(there) == pytest.approx(numbers(here), abs=1e-9)


def published(folder: Path, activation: str) -> Path:
    """The example in the published layout, as row 1: bias before kernel, (h, w, in, out), TensorFlow's names, step 86."""
    tensors = channels_last(example(activation))
    keras = {"conv1": "conv2d", "conv2": "conv2d_1", "conv3": "conv2d_2", "fc": "dense"}
    columns, lines, start = [], [], 0
    for layer in LAYERS:
        for role, name in (("bias", "bias"), ("weight", "kernel")):
            values = tensors[f"{layer}.{role}"]
            lines.append((f"sequential/{keras[layer]}/{name}:0", start, start + values.size, values.size, values.shape))
            columns.append(values.reshape(-1))
            start += values.size
    row = np.concatenate(columns)
    np.save(folder / "weights.npy", np.stack([row * np.float32(2.0), row]))
    with open(folder / "layout.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", "varname", "start_idx", "end_idx", "size", "shape"])
        writer.writerows([i, *line] for i, line in enumerate(lines))
    with open(folder / "metrics.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", "config.activation", "config.dataset", "modeldir", "step", "test_accuracy"])
        writer.writerows([i, activation, "cifar10", f"/cns/{i}", 86, 0.4] for i in range(2))
    return folder


@pytest.mark.parametrize("model", KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_row_of_the_published_layout_is_taken_by_its_row(tmp_path: Path, activation: str, model: str | None) -> None:
    published(tmp_path, activation)
    (tmp_path / "architecture.json").write_text('{"stride": 2, "padding": 1}')  # as the example is run
    there = numbers(answer(f"{tmp_path}#1", model=model))
    here = numbers(answer(str(EXAMPLES / f"cifar10gs-{activation}.safetensors"), model=model))
    assert there == pytest.approx(here, abs=1e-9)
    assert numbers(answer(f"{tmp_path}#0", model=model)) != pytest.approx(there, abs=1e-4)


def test_how_a_row_is_run_counts_for_predictors_that_run_it_alone(tmp_path: Path) -> None:
    published(tmp_path, "relu")
    found: dict[tuple[str, int], list[float]] = {}
    for padding in (0, 1):
        (tmp_path / "architecture.json").write_text(f'{{"stride": 2, "padding": {padding}}}')
        for model in ("probe", "monomial-nfn"):
            found[model, padding] = numbers(answer(f"{tmp_path}#1", model=model))
    assert found["monomial-nfn", 0] == pytest.approx(found["monomial-nfn", 1], abs=1e-9)
    assert found["probe", 0] != pytest.approx(found["probe", 1], abs=1e-4)
