"""networks/inr_edit.py: a network that takes the weights of sine INRs to weights, exactly equivariant. Torch; no file, no graph.

The picture that an INR shows is brought to the wanted one by a known operator with a learned correction; then a fixed number
of learned steps changes the weights. A step follows the gradient of the distance from the wanted picture with respect to the
weights, smoothed and divided entry by entry by its usual size, times a step size that a small network reads off invariants.

Why that is equivariant: the group acts on the weights (in the units of networks/inr_edit_chain.py) by signed permutations and
translations, and does not change the picture. The gradient of a function of the picture then turns with the weights and does not
see the translation; so do moving averages of it and its quotients by roots of averaged squares; norms of it are invariant.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nfn_cli.networks.inr_edit_chain import Layers, values_at
from nfn_cli.networks.inr_edit_styles import STYLES

_ROLES = 6  # weight and bias of the first, a middle, the last layer
_FEATURES = 7
_LEAST = 1e-12
_POINTS_AT_ONCE = 1 << 14


@dataclass(frozen=True)
class EditorShape:
    """Attributes: style: of inr_edit_styles.STYLES; steps: of the weights; channels, convolutions: of the learned correction
    before and after the operator; hidden: of the network that says step sizes."""

    style: str
    steps: int = 20
    channels: int = 16
    convolutions: int = 3
    hidden: int = 16

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class Correction(nn.Module):
    """Pictures (m, given, height, width) -> what is added to one channel, 0 before training."""

    def __init__(self, given: int, channels: int, convolutions: int) -> None:
        super().__init__()
        widths = [given, *[channels] * (convolutions - 1), 1]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1, padding_mode="replicate") for a, b in pairwise(widths)
        )
        last = self.convolutions[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, picture: Tensor) -> Tensor:
        for number, convolution in enumerate(self.convolutions):
            picture = convolution(functional.gelu(picture) if number else picture)
        return picture


class WantedPicture(nn.Module):
    """Pictures (n, channels, height, width) as INRs show them -> as they are wanted.

    Fits are not exact, and an operator such as the maximum makes more of their errors: so the picture is corrected before and
    after. Channels are corrected alone, so that there may be any number of them.
    """

    def __init__(self, shape: EditorShape) -> None:
        super().__init__()
        self.operator = STYLES[shape.style]
        self.before = Correction(1, shape.channels, shape.convolutions)
        self.after = Correction(2, shape.channels, shape.convolutions)

    def forward(self, picture: Tensor) -> Tensor:
        one = picture.flatten(0, 1)[:, None]
        clean = (one + self.before(one)).reshape(picture.shape)
        wanted = self.operator(clean)
        pair = torch.stack([picture.flatten(0, 1), wanted.flatten(0, 1)], 1)
        corrected: Tensor = wanted + self.after(pair).reshape(picture.shape)
        return corrected


class Steps(nn.Module):
    """Learned steps of the weights towards a wanted picture."""

    def __init__(self, shape: EditorShape) -> None:
        super().__init__()
        self.count = shape.steps
        fraction = (torch.arange(shape.steps) + 0.5) / shape.steps
        fade = (0.5 * (1 + torch.cos(torch.pi * fraction))).clamp(min=0.05).log()
        first = torch.tensor([0.15, 0.15, 0.15, 0.15, 0.008, 0.008]).log()
        self.log_sizes = nn.Parameter(fade[:, None] + first[None])
        self.memory = nn.Parameter(torch.tensor([2.0, 4.0]).expand(_ROLES, 2).clone())  # of the mean, of the squares
        self.floor = nn.Parameter(torch.full((_ROLES,), -2.5))
        self.reader = nn.Sequential(nn.Linear(_FEATURES + _ROLES, shape.hidden), nn.GELU(), nn.Linear(shape.hidden, 1))
        nn.init.zeros_(self.reader[2].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.reader[2].bias)  # type: ignore[arg-type]

    def forward(self, layers: Layers, points: Tensor, wanted: Tensor, *, keep_best: bool = True) -> Layers:
        """Layers after all steps.

        Args:
            points: (n or 1, 2, p); wanted: (n, channels, p).
            keep_best: of each network the weights that came nearest to the wanted picture, not the last ones.
        """
        flat = [tensor for layer in layers for tensor in layer]
        roles = [_role(number, len(layers), kind) for number in range(len(layers)) for kind in range(2)]
        sizes = [self._sizes_known(tensor, layers[place // 2][0]) for place, tensor in enumerate(flat)]
        mean = [torch.zeros_like(tensor) for tensor in flat]
        square = [torch.zeros_like(tensor) for tensor in flat]
        decay = torch.sigmoid(self.memory.to(flat[0]))
        floor = functional.softplus(self.floor.to(flat[0])) + 0.01
        best, least = flat, None
        start: Tensor | None = None
        for step in range(self.count):
            error, slope = _slope(flat, points, wanted, self.training)
            if keep_best:
                best, least = _better(best, least, flat, error)
            start = error if start is None else start
            moved = []
            for place, (tensor, gradient, role) in enumerate(zip(flat, slope, roles, strict=True)):
                remember, settle = decay[role]
                mean[place] = remember * mean[place] + (1 - remember) * gradient
                square[place] = settle * square[place] + (1 - settle) * gradient.square()
                average = mean[place] / (1 - remember ** (step + 1))
                usual = square[place] / (1 - settle ** (step + 1))
                whole = _over_entries(usual).add(_LEAST**2).sqrt()
                direction = average / (usual.add(_LEAST**2).sqrt() + floor[role] * _like(whole, tensor))
                agreement = _over_entries(average.square()).add(_LEAST**2).sqrt() / whole
                told = torch.stack(
                    [whole.log() / 4, agreement, error.add(_LEAST).log() / 4, (error / (start + _LEAST))], 1
                )
                size = self._step_size(torch.cat([told, sizes[place]], 1), role, step)
                moved.append(tensor - _like(size, tensor) * direction)
            flat = moved
        if keep_best:
            error, _ = _slope(flat, points, wanted, False)
            best, _ = _better(best, least, flat, error)
            flat = best
        return tuple(zip(flat[::2], flat[1::2], strict=True))

    def _sizes_known(self, tensor: Tensor, weight: Tensor) -> Tensor:
        """(n, 3) what is known of a tensor before the first step; a bias is not invariant, so its weight speaks for it."""
        rms = weight.square().mean((1, 2)).add(_LEAST**2).sqrt().log()
        out, incoming = weight.shape[1:]
        width = torch.tensor([out, incoming], dtype=weight.dtype, device=weight.device).log().sub(3.5)
        return torch.cat([rms[:, None], width.expand(len(weight), 2)], 1)

    def _step_size(self, features: Tensor, role: int, step: int) -> Tensor:
        """(n, features) -> (n,): between a third and three times what the table says."""
        kind = functional.one_hot(torch.tensor(role), _ROLES).to(features).expand(len(features), -1)
        told = self.reader(torch.cat([features, kind], 1))[:, 0]
        return (self.log_sizes[step, role].to(features) + 1.1 * torch.tanh(told)).exp()


class InrEditor(nn.Module):
    """Layers of n INRs -> layers of INRs that show the edited pictures."""

    def __init__(self, shape: EditorShape) -> None:
        super().__init__()
        self.shape = shape
        self.picture = WantedPicture(shape)
        self.steps = Steps(shape)

    def wanted(self, layers: Layers, points: Tensor, height: int, width: int) -> Tensor:
        """(n, channels, p): the picture that the steps go to."""
        shown = torch.cat([values_at(layers, part) for part in torch.split(points, _POINTS_AT_ONCE, -1)], -1)
        picture = shown.reshape(*shown.shape[:2], height, width)
        whole: Tensor = self.picture(picture).flatten(2)
        return whole

    def forward(self, layers: Layers, points: Tensor, height: int, width: int) -> Layers:
        """Edited layers.

        Args:
            points: (n or 1, 2, height · width) in [−1, 1]², pixels row by row.
        """
        with torch.set_grad_enabled(self.training):
            wanted = self.wanted(layers, points, height, width)
            edited: Layers = self.steps(layers, points, wanted, keep_best=not self.training)
        return edited


def _role(number: int, layers: int, kind: int) -> int:
    return 2 * (0 if number == 0 else 2 if number == layers - 1 else 1) + kind


def _over_entries(tensor: Tensor) -> Tensor:
    """(n, …) -> (n,) means."""
    return tensor.flatten(1).mean(1)


def _like(numbers: Tensor, tensor: Tensor) -> Tensor:
    """(n,) -> (n, 1, …) for a tensor (n, …)."""
    return numbers.reshape(-1, *[1] * (tensor.ndim - 1))


def _better(best: list[Tensor], least: Tensor | None, flat: list[Tensor], error: Tensor) -> tuple[list[Tensor], Tensor]:
    if least is None:
        return flat, error
    wins = error < least
    return [torch.where(_like(wins, a), b, a) for a, b in zip(best, flat, strict=True)], torch.where(wins, error, least)


def _slope(flat: list[Tensor], points: Tensor, wanted: Tensor, learning: bool) -> tuple[Tensor, list[Tensor]]:
    """(n,) mean squared distance from the wanted picture, and its gradient; of very many points some at a time."""
    entries = wanted.shape[1] * wanted.shape[2]
    errors: list[Tensor] = []
    total: list[Tensor] = []
    with torch.enable_grad():
        leaves = flat if learning else [tensor.detach().requires_grad_() for tensor in flat]
        leaves = [leaf if leaf.requires_grad else leaf.requires_grad_() for leaf in leaves]
        layers = tuple(zip(leaves[::2], leaves[1::2], strict=True))
        for where, goal in zip(*(torch.split(whole, _POINTS_AT_ONCE, -1) for whole in (points, wanted)), strict=True):
            error = (values_at(layers, where) - goal).square().sum((1, 2)) / entries
            slope = torch.autograd.grad(error.sum(), leaves, create_graph=learning)
            errors.append(error if learning else error.detach())
            total = [a + b for a, b in zip(total, slope, strict=True)] if total else list(slope)
    return torch.stack(errors).sum(0), total
