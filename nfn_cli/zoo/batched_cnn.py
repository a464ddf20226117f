"""zoo/batched_cnn.py: many CNNs of one architecture, run and trained at once. Knows tensors (torch); no file.

Parameters lie flat, (m, p), so that an update is a few operations however many tensors there are; the network along m
never mixes with another: a network that diverges leaves its group untouched.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nfn_cli.zoo.batched_convolution import convolve
from nfn_cli.zoo.group_optimizer import GroupOptimizer
from nfn_cli.zoo.layer_end import Norm, end_layer
from nfn_cli.zoo.population import Architecture, Array, Settings

_NORM_MOMENTUM = 0.1
_EVALUATED_AT_ONCE = 256  # images


class CnnGroup:
    """m networks in training.

    Args:
        architecture: of all of them.
        settings: of each.
        tensors: initial values, name -> (m, *shape).
        device: where they train.
        dtype: of parameters, optimizer and statistics.
        compute: type of the convolutions; None is `dtype`.
    """

    def __init__(
        self,
        architecture: Architecture,
        settings: Settings,
        tensors: Mapping[str, Array],
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        compute: torch.dtype | None = None,
    ) -> None:
        self.architecture, self.compute = architecture, compute or dtype
        # kernels are kept as the convolution takes them, (k, k, i, o), not as a file holds them, (o, i, k, k)
        self.shapes = {
            name: (*shape[2:], shape[1], shape[0]) if len(shape) == 4 else shape
            for name, shape in architecture.tensor_shapes().items()
        }
        models = len(settings)
        laid = (
            tensors[name].transpose(0, 3, 4, 2, 1) if tensors[name].ndim == 5 else tensors[name] for name in self.shapes
        )
        flat = np.concatenate([tensor.reshape(models, -1) for tensor in laid], axis=1)
        self.parameters = torch.tensor(flat, dtype=dtype, device=device)
        decayed = [
            torch.full((int(np.prod(shape)),), float(len(shape) > 1), dtype=dtype) for shape in self.shapes.values()
        ]
        self.optimizer = GroupOptimizer(settings, torch.cat(decayed), self.parameters)
        self.kept = 1.0 - torch.tensor(settings.dropout, dtype=dtype, device=device)
        self.buffers = {
            name: torch.full((models, *shape), float(name.endswith("var")), dtype=dtype, device=device)
            for name, shape in architecture.buffer_shapes().items()
        }
        self.alive = torch.ones(models, dtype=torch.bool, device=device)

    def train_step(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """One update of every network that has not diverged, on one minibatch for all.

        Args:
            images: (n, height, width, channels) uint8.
            labels: (n,) int64.
            generator: of the dropout masks.

        Returns:
            (m,) losses before the update, without L2.
        """
        flat = self.parameters.detach().requires_grad_()
        statistics: dict[str, Tensor] = {}
        features = self._features(self._views(flat), images, statistics)
        logits = _head(self._views(flat), _dropped(features, self.kept, generator))
        losses = _losses(logits, labels)
        (gradient,) = torch.autograd.grad(losses.sum(), flat)
        updated = self.optimizer.step(self.parameters, gradient)
        # a network that leaves the numbers keeps its last finite weights and never moves again
        self.alive &= torch.isfinite(updated).all(1) & torch.isfinite(losses.detach())
        for value in statistics.values():
            self.alive &= torch.isfinite(value).all(1)
        keep = self.alive[:, None]
        self.parameters = torch.where(keep, updated, self.parameters)
        for name, value in statistics.items():
            self.buffers[name] = torch.where(
                keep, torch.lerp(self.buffers[name], value, _NORM_MOMENTUM), self.buffers[name]
            )
        return losses.detach()

    @torch.no_grad()
    def scores(self, images: Tensor, labels: Tensor) -> tuple[Array, Array]:
        """Accuracy and mean loss of every network in evaluation mode: (n, h, w, c), (n,) -> (m,), (m,) float64."""
        right = torch.zeros(len(self.alive), dtype=torch.float64, device=labels.device)
        loss = torch.zeros_like(right)
        for start in range(0, len(images), _EVALUATED_AT_ONCE):
            part = slice(start, start + _EVALUATED_AT_ONCE)
            logits = self.logits(images[part])
            right += (logits.argmax(-1) == labels[part]).sum(1)
            loss += _losses(logits, labels[part]).double() * len(logits[0])
        return (right / len(images)).cpu().numpy(), (loss / len(images)).cpu().numpy()

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Evaluation mode: (n, h, w, c) uint8 -> (m, n, classes)."""
        views = self._views(self.parameters)
        return _head(views, self._features(views, images, None))

    def tensors(self) -> dict[str, Array]:
        """Everything a checkpoint holds, name -> (m, *shape) float32."""
        views = self._views(self.parameters)
        trained = {name: view.permute(0, 4, 3, 1, 2) if view.ndim == 5 else view for name, view in views.items()}
        return {
            name: value.float().contiguous().cpu().numpy().copy() for name, value in (trained | self.buffers).items()
        }

    def _views(self, flat: Tensor) -> dict[str, Tensor]:
        parts = torch.split(flat, [int(np.prod(shape)) for shape in self.shapes.values()], dim=1)
        return {name: part.view(-1, *shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def _features(self, views: Mapping[str, Tensor], images: Tensor, statistics: dict[str, Tensor] | None) -> Tensor:
        """(n, h, w, c) -> (m, n, width): training where `statistics` takes those of the batch, else evaluation."""
        x = scaled(images, self.compute)[None]
        activation = self.architecture.activation
        for index, layer in enumerate(self.architecture.layers):
            bias = views.get(f"convs.{index}.bias")
            # what stands between a convolution and its activation keeps them from being one operation
            alone = not self.architecture.batch_norm and not (self.architecture.residual and index)
            fused = activation if alone else "identity"
            y = convolve(x, views[f"convs.{index}.weight"].to(self.compute), bias, layer.stride, fused)
            if not alone:
                norm = (
                    self._norm(f"norms.{index}.", views, statistics is None) if self.architecture.batch_norm else None
                )
                shortcut = self._shortcut(x, index, layer.stride, views)
                y, used = end_layer(y, norm, shortcut, activation)
                if used is not None and statistics is not None:
                    count = y[0, ..., 0].numel()
                    statistics[f"norms.{index}.running_mean"] = used[0]
                    statistics[f"norms.{index}.running_var"] = used[1] * (count / max(1, count - 1))
            x = y
        return x.flatten(2, 3).mean(2, dtype=self.parameters.dtype)

    def _shortcut(self, x: Tensor, index: int, stride: int, views: Mapping[str, Tensor]) -> Tensor | None:
        if not self.architecture.residual or index == 0:
            return None
        if not self.architecture.has_projection(index):
            return x
        return convolve(x, views[f"shortcuts.{index}.weight"].to(self.compute), None, stride)

    def _norm(self, name: str, views: Mapping[str, Tensor], evaluation: bool) -> Norm:
        running = self.buffers[name + "running_mean"], self.buffers[name + "running_var"]
        return Norm(views[name + "weight"], views[name + "bias"], running if evaluation else None)


def scaled(images: Tensor, dtype: torch.dtype) -> Tensor:
    """uint8 -> [−1, 1]."""
    return images.to(dtype) / 127.5 - 1.0


def _head(views: Mapping[str, Tensor], features: Tensor) -> Tensor:
    return torch.baddbmm(views["head.bias"][:, None], features, views["head.weight"].transpose(1, 2))


def _dropped(features: Tensor, kept: Tensor, generator: torch.Generator) -> Tensor:
    """(m, n, c): every network has a mask of its own for every image."""
    drawn = torch.rand(features.shape, generator=generator, dtype=features.dtype, device=features.device)
    return features * ((drawn < kept[:, None, None]) / kept[:, None, None])


def _losses(logits: Tensor, labels: Tensor) -> Tensor:
    """(m, n, classes), (n,) -> (m,) mean cross-entropy."""
    chosen: Any = labels.expand(len(logits), -1)[..., None]
    return -functional.log_softmax(logits, -1).gather(-1, chosen).mean((1, 2))
