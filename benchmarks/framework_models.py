"""Models of torchvision and timm for benchmarks and for the shipped library of architectures: made, randomised, captured.

A torchvision without compiled operators (a build for another torch) imports once the operators it wants to describe are
declared; no model here runs one of them.
"""

from __future__ import annotations

import importlib.util
import re
import warnings
from pathlib import Path
from typing import Any

import torch

_declared: list[Any] = []


def import_frameworks() -> None:
    """Make `import torchvision` and `import timm` work.

    Raises:
        ImportError: they are not installed.
    """
    warnings.filterwarnings("ignore")
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None or importlib.util.find_spec("timm") is None:
        raise ImportError("torchvision and timm are needed")
    try:
        import torchvision
    except (RuntimeError, OSError):
        library = torch.library.Library("torchvision", "FRAGMENT")
        source = (Path(spec.origin).parent / "_meta_registrations.py").read_text()
        for name in {*re.findall(r'register_meta\("(\w+)"', source), "nms", "qnms", "deform_conv2d"}:
            library.define(f"{name}(Tensor x) -> Tensor")
        _declared.append(library)
    # what they need in turn may be missing
    import timm  # noqa: F401
    import torchvision.models  # noqa: F401


def names() -> list[str]:
    """`torchvision:NAME` of every classification model, `timm:NAME` of every timm model."""
    import timm
    from torchvision import models

    return [
        *(f"torchvision:{n}" for n in models.list_models(module=models)),
        *(f"timm:{n}" for n in timm.list_models()),
    ]


def timm_families() -> list[str]:
    """The smallest model of every timm family."""
    import timm

    found = []
    for module in sorted(timm.list_modules()):
        sizes = {}
        for name in timm.list_models(module=module):
            try:
                with torch.device("meta"):
                    sizes[name] = sum(p.numel() for p in timm.create_model(name).parameters())
            except Exception:  # a model that cannot be made without data or a device is none of ours
                continue
        if sizes:
            found.append(f"timm:{min(sizes, key=lambda n: sizes[n])}")
    return found


def make(name: str) -> torch.nn.Module:
    """The model in evaluation mode, in float64, on the CPU."""
    return _made(name).eval().double()


def on_meta(name: str, **arguments: Any) -> torch.nn.Module:
    """The model without numbers: names and shapes of its tensors only."""
    try:
        with torch.device("meta"):
            return _made(name, **arguments)
    except (RuntimeError, NotImplementedError):  # torchvision's RegNets read a number of a tensor while they are built
        return _made(name, **arguments)


def _made(name: str, **arguments: Any) -> torch.nn.Module:
    library, model = name.split(":", 1)
    if library == "torchvision":
        from torchvision import models

        extra = {"init_weights": False} if model in ("googlenet", "inception_v3") else {}
        return models.get_model(model, weights=None, **extra, **arguments)
    import timm

    return timm.create_model(model, **arguments)


def randomise(module: torch.nn.Module, seed: int = 0) -> None:
    """Statistics, biases, gains and all that stands at 0 or 1 get random values."""
    generator = torch.Generator().manual_seed(seed)

    def normal(like: torch.Tensor) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator, dtype=like.dtype) * 0.1

    for name, tensor in module.state_dict().items():
        if not tensor.is_floating_point():
            continue
        if name.endswith("running_var"):
            tensor.copy_(torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) + 0.5)
        elif name.endswith("running_mean"):
            tensor.copy_(normal(tensor))
        elif name in dict(module.named_parameters()) and (tensor.ndim <= 1 or float(tensor.abs().max()) < 1e-3):
            tensor.add_(normal(tensor))


def capture(name: str, module: torch.nn.Module) -> tuple[Any, torch.Tensor]:
    """(ExportedProgram, example input): at 96 × 96 pixels where the model takes them, else at its own size."""
    own = (3, 224, 224)
    if name.startswith("timm:"):
        own = module.default_cfg.get("input_size", own)  # type: ignore[union-attr, operator, assignment]
    failure: Exception | None = None
    for size in ((own[0], 96, 96), (own[0], 128, 128), own):
        example = torch.randn(2, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        try:
            with torch.no_grad():
                return torch.export.export(module, (example,), strict=False), example
        except Exception as error:
            failure = error
    assert failure is not None
    raise failure
