"""Learned probes: they move where the loss falls, stay images, keep their roles, and see no run that is judged by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nfn_cli.errors import WrongUsage
from nfn_cli.networks.probing import answer_statistics
from nfn_cli.predictors.kinds.probe import ProbeEncoder
from nfn_cli.train import generalization
from nfn_cli.train.generalization import GeneralizationConfig, encode_zoo, encoded_rows, train_members
from nfn_cli.train.harness import Examples, TrainConfig, evaluate, fit
from nfn_cli.train.probe_inputs import blended_probes
from nfn_cli.train.probe_learning import ProbeLearning, learned_probes
from nfn_cli.train.recipes import Sources, probe_encoder
from nfn_cli.train.zoo_data import ZooData, load_zoos
from tests.train.made_zoo import MIXED, RELU, write_made_zoo
from tests.zoo.making import image_file


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_file(tmp_path_factory.mktemp("images") / "blocks")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> ZooData:
    folder = tmp_path_factory.mktemp("zoo")
    return load_zoos([write_made_zoo(folder, RELU, MIXED, runs=24)], test_fraction=0.3, folds=4)


def started(data: ZooData, images: Path, epochs: int = 10) -> tuple[ProbeEncoder, Any, Examples]:
    """The encoder, a head fitted to answers to its probes, and these answers."""
    encoder, _ = probe_encoder(data, Sources(images, probes=12))
    answers = Examples(encoded_rows(encoder, data).to(torch.float32), torch.from_numpy(data.target).float())
    head = fit(
        lambda: encoder.network(answers.prepared, {"width": 16, "depth": 1, "dropout": 0.0}),
        TrainConfig(epochs=epochs, patience=0),
        answers,
    )
    return encoder, head, answers


def test_probes_are_blends_of_images_of_their_class(images: Path) -> None:
    probes = blended_probes(images, 1, 30, seed=0)
    assert probes.inputs.shape == (30, 1, 8, 8)
    assert probes.roles.tolist() == [0, 1, 2] * 10
    assert float(probes.inputs.abs().max()) <= 1.0
    brightness = [float(probes.inputs[probes.roles == role].mean()) for role in range(3)]
    assert brightness[0] < brightness[1] < brightness[2]  # as the images of these classes are
    with np.load(images / "train.npz") as file:
        training = torch.from_numpy(file["images"].reshape(len(file["images"]), -1) / 127.5 - 1.0)
    nearest = torch.cdist(probes.inputs.reshape(30, -1).double(), torch.cat([training, training.flip(1)])).min()
    assert nearest > 0.5  # a picture of nothing in the data
    again, other = blended_probes(images, 1, 30, seed=0), blended_probes(images, 1, 30, seed=1)
    assert torch.equal(probes.inputs, again.inputs)
    assert not torch.equal(probes.inputs, other.inputs)


def test_learning_moves_probes_and_lowers_the_loss(data: ZooData, images: Path) -> None:
    encoder, head, answers = started(data, images)
    before = evaluate(head, answers)
    records: list[dict[str, Any]] = []
    config = ProbeLearning(epochs=4, head_rate=0.0)  # the head stays: what is gained the probes have gained
    learned = learned_probes(encoder.probes, head, data, encoder.answers, config, records.append)
    assert [record["probe_epoch"] for record in records] == [1, 2, 3, 4]
    assert torch.equal(learned.roles, encoder.probes.roles)
    assert float(learned.inputs.abs().max()) <= 1.0
    moved = (learned.inputs - encoder.probes.inputs.float()).abs()
    assert 0.01 < float(moved.max()) < 0.5
    after = evaluate(head, Examples(encoded_rows(encoder.showing(learned), data).to(torch.float32), answers.target))
    assert after < before
    # the control: a step of no length, and the same probes again
    still = learned_probes(
        encoder.probes, head, data, encoder.answers, ProbeLearning(epochs=1, probe_rate=0.0, head_rate=0.0)
    )
    assert torch.equal(still.inputs, encoder.probes.inputs.float())


def test_learning_is_deterministic_and_depends_on_its_seed(data: ZooData, images: Path) -> None:
    def learned(seed: int) -> torch.Tensor:
        encoder, head, _ = started(data, images, epochs=2)
        return learned_probes(encoder.probes, head, data, encoder.answers, ProbeLearning(epochs=1, seed=seed)).inputs

    assert torch.equal(learned(0), learned(0))
    assert not torch.equal(learned(0), learned(1))


def test_each_network_is_learned_from_with_its_own_score(data: ZooData, images: Path) -> None:
    """Over several graphs at once: the loss of one step over all networks is that of the whole zoo asked at once."""
    encoder, head, answers = started(data, images)
    records: list[dict[str, Any]] = []
    config = ProbeLearning(epochs=1, batch_size=len(data), probe_rate=0.0, head_rate=0.0)
    head.eval()
    learned_probes(encoder.probes, head, data, encoder.answers, config, records.append)
    predicted = head.forward_prepared(answers.prepared)[:, 0].detach()
    whole = torch.nn.functional.binary_cross_entropy_with_logits(predicted, answers.target)
    shuffled = torch.nn.functional.binary_cross_entropy_with_logits(predicted, answers.target.flip(0))
    assert records[0]["train_loss"] == pytest.approx(float(whole), abs=1e-5)
    assert records[0]["train_loss"] != pytest.approx(float(shuffled), abs=1e-4)  # the control


def test_gradients_reach_a_probe_through_every_network(data: ZooData, images: Path) -> None:
    encoder, _, _ = started(data, images, epochs=1)
    for part in data.parts:
        inputs = encoder.probes.inputs.float().requires_grad_(True)
        stacked = {name: torch.from_numpy(array[:2]) for name, array in part.tensors.items()}
        statistics = answer_statistics(encoder.answers(part.graph, stacked, inputs), encoder.probes.roles)
        for row in range(2):
            (gradient,) = torch.autograd.grad(statistics[row].sum(), inputs, retain_graph=True)
            assert gradient.flatten(1).abs().amax(1).min() > 0


def test_no_run_calibrates_that_probes_were_learned_from(
    data: ZooData, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = GeneralizationConfig("probe", images=images, probes=12, probe_epochs=1, epochs=1, folds=4)
    shown: list[set[str]] = []
    learn = generalization.learned_probes

    def spy(probes: Any, head: Any, learned_from: ZooData, *rest: Any) -> Any:
        shown.append(set(learned_from.runs.tolist()))
        return learn(probes, head, learned_from, *rest)

    monkeypatch.setattr(generalization, "learned_probes", spy)
    encoded = encode_zoo(data, config)
    _, out_of_fold = train_members(encoded, config)
    calibrating = set(data.runs[np.isfinite(out_of_fold)].tolist())
    (runs,) = shown
    assert runs
    assert calibrating
    assert not runs & calibrating
    assert not (runs | calibrating) & set(data.runs[data.test].tolist())
    assert runs | calibrating == set(data.runs[~data.test].tolist())


def test_models_that_show_nothing_learn_no_probes(data: ZooData, images: Path) -> None:
    with pytest.raises(WrongUsage, match="shows no inputs"):
        encode_zoo(data, GeneralizationConfig("unit-graph", probe_epochs=1))
