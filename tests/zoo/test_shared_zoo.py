"""The shared zoo: its networks, run as they are read, are as accurate as the zoo says they are."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nfn_cli.graph.model import Graph
from nfn_cli.graph.reference import evaluate
from nfn_cli.zoo.model import Zoo
from nfn_cli.zoo.open_zoo import open_zoo
from tests.shared_data import shared_data

IMAGES = 400
ROWS = (3, 200)  # test accuracies 0.378 and 0.385


def grey_images(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """(n, 1, 32, 32) in [−1, 1] and labels, as the zoo was trained on."""
    image = pytest.importorskip("PIL.Image")
    with np.load(folder / "test.npz") as file:
        offsets, jpeg, labels = file["offsets"], file["jpeg"].tobytes(), file["labels"]
    pictures = [np.asarray(image.open(io.BytesIO(jpeg[offsets[i] : offsets[i + 1]]))) for i in range(IMAGES)]
    grey = np.stack(pictures).astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return grey[:, None] / 127.5 - 1, labels[:IMAGES]


def accuracies(zoo: Zoo, graphs: list[Graph], images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    found = []
    for row, graph in zip(ROWS, graphs, strict=True):
        (answer,) = evaluate(graph, zoo.checkpoint(row).tensors, {"x0": images})
        found.append((answer.argmax(1) == labels).mean())
    return np.array(found)


@pytest.mark.slow
def test_the_networks_of_the_shared_zoo_are_as_accurate_as_it_says() -> None:
    zoo = open_zoo(shared_data("cnn_zoo_cifar10gs"))
    images, labels = grey_images(shared_data("cifar10"))
    graphs = [zoo.network(row).graph for row in ROWS]
    said = zoo.numbers("test_accuracy")[list(ROWS)]
    deviation = 3 * 0.5 / np.sqrt(IMAGES)
    assert np.abs(accuracies(zoo, graphs, images, labels) - said).max() < deviation
    # the control: with another stride they are other functions, and much worse ones
    unstrided = [
        replace(g, ops=tuple(replace(op, attributes={**op.attributes, "stride": 1}) for op in g.ops)) for g in graphs
    ]
    quarter = images[:, :, ::2, ::2]
    assert (accuracies(zoo, unstrided, quarter, labels) < said - deviation).all()


def test_the_shared_zoo_has_two_families_and_992_last_rows() -> None:
    folder = shared_data("cnn_zoo_cifar10gs")
    zoo = open_zoo(folder)
    assert [(family.name, len(family)) for family in zoo.families] == [("relu", 512), ("tanh", 480)]
    conv = zoo.families[0].graph.ops[0].attributes
    assert (conv["stride"], conv["padding"]) == ([2, 2], [1, 1])
    assert len(open_zoo(folder, activation="tanh", final_only=False)) == 960
