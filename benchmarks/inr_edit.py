"""Editing INRs: mean squared error of `nfn edit-inr`'s editors, beside doing nothing and beside plain refitting with as many steps.

    python benchmarks/inr_edit.py ZOO --images DIR --predictor inr-edit-dilate [--count 256]

ZOO is of `nfn zoo fit-inrs`, DIR holds its images; only INRs of test images are used. An error is the mean over pixels, channels
and INRs of the squared distance between what the edited INR shows and the operator applied to the original image, the distance from
black to white being 1. Plain refitting is Adam on the weights towards *that very image* (which the editor never sees), from the
same weights, with as many steps and a learning rate that falls along a cosine; the best of several rates is shown for each number.

Published for MNIST dilation, on other INRs of the same images, in [0, 1] (for orientation): 0.0189 ScaleGMN-B, 0.0106 best known.
Editors that look at weights alone are not measured here.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import torch
from figures import figure

from nfn_cli.networks.inr_edit_chain import Layers, values_at
from nfn_cli.networks.inr_edit_styles import STYLES
from nfn_cli.predictors.inr_edit import load_editor
from nfn_cli.train.inr_edit import errors
from nfn_cli.train.inr_edit_data import InrPictures, read_inrs

RATES = (0.002, 0.004, 0.008)
AT_ONCE = 16


def refitted(layers: Layers, points: torch.Tensor, aim: torch.Tensor, steps: int, rate: float) -> Layers:
    """Layers after Adam; rates are those of a weight behind ω = 30."""
    leaves = [tensor.clone().requires_grad_() for layer in layers for tensor in layer]
    groups = [{"params": leaves[:-2], "lr": 30 * rate}, {"params": leaves[-2:], "lr": rate}]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        shown = values_at(tuple(zip(leaves[::2], leaves[1::2], strict=True)), points)
        loss = (shown - aim).square().mean((1, 2)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    done = [leaf.detach() for leaf in leaves]
    return tuple(zip(done[::2], done[1::2], strict=True))


def measured(inrs: InrPictures, name: str) -> dict[str, Any]:
    """Everything on these INRs."""
    editor = load_editor(name).network.float()
    style, steps = editor.shape.style, editor.shape.steps
    found: dict[str, list[torch.Tensor]] = {}
    spent = 0.0
    for rows in torch.split(torch.arange(len(inrs)), AT_ONCE):
        batch = inrs[rows]
        height, width = batch.pictures.shape[2:]
        layers, points = batch.framed(batch.low, batch.high), batch.points()
        aim = STYLES[style](batch.pictures).flatten(2)
        start = time.process_time()
        edited = editor(layers, points, height, width)
        spent += time.process_time() - start
        ways = {"unedited": layers, f"editor, {steps} steps": edited}
        for count in (steps, 5 * steps):
            for rate in RATES:
                ways[f"refit to the exact image, {count} steps, {rate}"] = refitted(layers, points, aim, count, rate)
        with torch.no_grad():
            for way, result in ways.items():
                error = errors(values_at(result, points), batch, batch.low, batch.high, style)
                found.setdefault(way, []).append(error)
    means = {way: float(torch.cat(parts).mean()) for way, parts in found.items()}
    return {"predictor": name, "count": len(inrs), "mse": means, "seconds_an_inr": spent / len(inrs)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("zoo")
    parser.add_argument("--images", required=True)
    parser.add_argument("--predictor", required=True)
    parser.add_argument("--count", type=int, default=256)
    given = parser.parse_args()
    torch.set_num_threads(1)
    answer = measured(read_inrs([given.zoo], [given.images], "test", given.count), given.predictor)
    print(json.dumps(answer, indent=2))
    (edited,) = (error for way, error in answer["mse"].items() if way.startswith("editor"))
    figure(given.predictor.removeprefix("inr-edit-"), edited)


if __name__ == "__main__":
    main()
