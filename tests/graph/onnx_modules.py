"""Small networks of the kinds people export to ONNX: one class a kind, with example inputs; every tensor is random."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResNet(nn.Module):
    inputs = ((2, 3, 12, 12),)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1, bias=False), nn.BatchNorm2d(6), nn.ReLU())
        self.inner = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 7, 3, 1, 1))
        self.shortcut = nn.Conv2d(6, 7, 1, 2)
        self.head = nn.Linear(7, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.stem(x), 3, 2, 1)
        x = F.relu(self.inner(x) + self.shortcut(x))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class MobileNet(nn.Module):
    inputs = ((2, 3, 8, 8),)

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(3, 8, 1, bias=False), nn.BatchNorm2d(8), nn.Hardswish())
        self.depthwise = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.squeeze = nn.Sequential(nn.Conv2d(8, 5, 1), nn.ReLU(), nn.Conv2d(5, 8, 1), nn.Hardsigmoid())
        self.project = nn.Sequential(nn.Conv2d(8, 6, 1), nn.SiLU(), nn.Conv2d(6, 4, 1))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.expand(x))
        gate = self.squeeze(F.adaptive_avg_pool2d(x, 1))
        return self.head(self.project(x * gate).mean([2, 3]))


class DenseNet(nn.Module):
    inputs = ((2, 3, 8, 8),)

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.b = nn.Conv2d(4, 5, 3, padding=1)
        self.c = nn.Conv2d(9, 6, 3, padding=1)
        self.head = nn.Linear(15, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = torch.cat([x, F.relu(self.b(F.relu(self.norm(x))))], 1)
        x = F.avg_pool2d(torch.cat([x, F.relu(self.c(x))], 1), 8)
        return self.head(x.flatten(1))


class ConvNeXt(nn.Module):
    inputs = ((2, 3, 8, 8),)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 2, 2)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.norm = nn.LayerNorm(6, eps=1e-6)
        self.up, self.down = nn.Linear(6, 9), nn.Linear(9, 6)
        self.layer_scale = nn.Parameter(torch.randn(6, 1, 1))
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.down(F.gelu(self.up(y))).permute(0, 3, 1, 2)
        return self.head((x + self.layer_scale * y).mean((2, 3)))


class GLU(nn.Module):
    inputs = ((2, 4, 9),)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(4, 10, 3, padding=1), nn.Conv1d(5, 6, 3, padding=1)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.glu(self.a(x), 1)
        left, right = self.b(x).chunk(2, 1)
        return self.head((left * torch.tanh(right)).amax(2))


class PixelShuffle(nn.Module):
    inputs = ((2, 3, 5, 5),)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(2, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(F.pixel_shuffle(self.b(F.relu(self.a(x))), 2))


class ChannelShuffle(nn.Module):
    inputs = ((2, 4, 6, 6),)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 6, 3, groups=2), nn.Conv2d(6, 6, 1)
        self.c = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.b(F.relu(self.a(x))))
        n, ch, h, w = x.shape
        return self.c(x.view(n, 3, ch // 3, h, w).transpose(1, 2).reshape(n, ch, h, w))


class Classic(nn.Module):
    inputs = ((2, 1, 8, 8),)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3), nn.Linear(36, 7)
        self.prelu, self.c = nn.PReLU(4), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.prelu(self.a(x)), 2)
        return F.log_softmax(self.c(torch.tanh(self.b(x.view(x.size(0), -1)))), 1)


class Siren(nn.Module):
    inputs = ((5, 2),)
    spread = 1 / 30  # of its weights, as trained ones have it

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 6), nn.Linear(6, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.sin(30.0 * self.a(x))
        return self.c(torch.sin(30.0 * self.b(x)))


class Autoencoder(nn.Module):
    inputs = ((2, 2, 8, 8),)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 5, 3, 2, 1), nn.Linear(80, 6)
        self.c, self.d = nn.Linear(6, 64), nn.ConvTranspose2d(4, 5, 3, 2, 1, output_padding=1)
        self.e = nn.ConvTranspose2d(5, 2, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.b(F.leaky_relu(self.a(x), 0.2).flatten(1)))
        x = F.relu(self.c(x)).view(-1, 4, 4, 4)
        return torch.sigmoid(self.e(F.elu(self.d(x))))


class TwoInputs(nn.Module):
    inputs = ((2, 3), (2, 4))

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 5), nn.Linear(4, 6), nn.Linear(11, 8)
        self.policy, self.value = nn.Linear(8, 2), nn.Linear(8, 1)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.c(torch.cat([torch.tanh(self.a(x)), F.softplus(self.b(y))], 1)))
        return self.policy(h), self.value(h)


class Norms(nn.Module):
    inputs = ((2, 3, 8, 8),)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.group = nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8)
        self.b, self.instance = nn.Conv2d(8, 6, 3), nn.InstanceNorm2d(6, affine=True)
        self.c, self.gain = nn.Conv2d(6, 5, 1), nn.Parameter(torch.randn(5))
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.instance(self.b(F.relu(self.group(self.a(x))))))
        x = self.c(x).mean((2, 3))
        return self.head(x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.gain)


class UNet(nn.Module):
    inputs = ((2, 1, 8, 8),)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
        self.c, self.d = nn.Conv2d(10, 5, 3, padding=1), nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x))
        y = F.relu(self.b(F.max_pool2d(x, 2)))
        y = F.interpolate(y, scale_factor=2.0, mode="nearest")
        return self.d(F.mish(self.c(torch.cat([F.pad(x, (1, 1, 1, 1))[..., 1:-1, 1:-1], y], 1))))


KINDS = (
    ResNet,
    MobileNet,
    DenseNet,
    ConvNeXt,
    GLU,
    PixelShuffle,
    ChannelShuffle,
    Classic,
    Siren,
    Autoencoder,
    TwoInputs,
    Norms,
    UNet,
)


def made(kind: type[nn.Module], seed: int = 0) -> nn.Module:
    """The network in evaluation mode, with random weights and statistics, so that no two tensors are equal."""
    torch.manual_seed(seed)
    module = kind().eval()
    spread = getattr(kind, "spread", 1.0)
    for name, tensor in module.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
        elif tensor.is_floating_point():
            fan = tensor[0].numel() if tensor.ndim > 1 else 1
            tensor.copy_(torch.randn_like(tensor) * spread / fan**0.5)
    return module


def examples(kind: type[nn.Module]) -> tuple[Tensor, ...]:
    torch.manual_seed(1)
    return tuple(torch.randn(shape) for shape in kind.inputs)
