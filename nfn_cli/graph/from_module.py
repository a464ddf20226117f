"""graph/from_module.py: architectures built and captured on the spot, by torch and, where named, torchvision or timm."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nfn_cli.errors import Refused, SurroundingsFailed, WrongUsage, not_installed
from nfn_cli.graph.architectures import check_architecture_name
from nfn_cli.graph.from_export import graph_from_export
from nfn_cli.graph.model import Graph
from nfn_cli.printable import printable

_READS = re.compile("pretrained|checkpoint|weights|cache|hub|url")  # arguments that make timm fetch or read something
_SIZES = (96, 128, 224, 299)


def captured(architecture: str, trust_code: bool) -> Graph:
    """Build the architecture without weights and read its graph.

    Raises:
        WrongUsage: unknown name, or a Python file without `trust_code` (code "code-not-trusted").
        SurroundingsFailed: the library that makes it is not installed (code "missing-extra").
        Refused: it cannot be built or captured (code "not-capturable").
    """
    place, name = check_architecture_name(architecture)
    if place.endswith(".py"):
        if not trust_code:
            raise WrongUsage(
                f"{printable(place)} would be run as a program",
                fix="add --trust-code if you trust it",
                code="code-not-trusted",
            )
        made = _from_file(Path(place), name)
    else:
        made = _from_library(place, name, {})
    module, examples = made if isinstance(made, tuple) else (made, ())
    return _graph(module, examples, architecture)


def captured_as_told(name: str, arguments: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> Graph | None:
    """The graph of a timm model made with arguments that came with a checkpoint; None where its tensors would be others.

    The arguments are a stranger's: the model is first made without memory, and only one whose tensors are those of the
    checkpoint is made for real. With arguments that make timm fetch or read something it is not made at all.

    Raises:
        WrongUsage: timm does not know the name or the arguments.
        SurroundingsFailed: timm is not installed (code "missing-extra").
        Refused: it cannot be captured (code "not-capturable").
    """
    import torch

    if not re.fullmatch(r"\w+", name) or any(_READS.search(key) for key in arguments):
        return None
    with torch.device("meta"):
        empty = _from_library("timm", name, arguments)
    found = {k: tuple(v.shape) for k, v in empty.state_dict().items() if v.is_floating_point()}
    return _graph(_from_library("timm", name, arguments), (), f"timm:{name}") if found == dict(shapes) else None


def _from_library(library: str, name: str, arguments: Mapping[str, Any]) -> Any:
    try:
        made_by = importlib.import_module("torchvision.models" if library == "torchvision" else "timm")
    except ImportError:
        raise not_installed(library, "building this architecture", "arch") from None
    except Exception as error:  # a build for another torch fails while it is imported, in many ways
        raise SurroundingsFailed(
            f"{library} is installed, but cannot be imported: {printable(str(error), limit=200)}",
            fix="install a build of it that fits your torch",
            code="missing-extra",
        ) from None
    known = made_by.list_models(module=made_by) if library == "torchvision" else made_by.list_models()
    if name not in known:
        raise WrongUsage(f"{library} has no model {printable(name)!r}", code="unknown-architecture")
    try:
        if library == "torchvision":
            return made_by.get_model(name, weights=None)
        return made_by.create_model(name, **arguments)
    except Exception as error:  # arguments that do not fit fail in many ways
        raise WrongUsage(
            f"{library} cannot make {printable(name)!r}: {printable(str(error), limit=200)}",
            code="unknown-architecture",
        ) from None


def _from_file(path: Path, factory: str) -> Any:
    spec = importlib.util.spec_from_file_location("nfn_architecture", path) if path.exists() else None
    if spec is None or spec.loader is None:
        raise WrongUsage("no such file", where=printable(str(path)), code="no-such-file")
    source = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(source)
        make = getattr(source, factory)
        if inspect.signature(make).parameters:
            raise WrongUsage(f"{printable(factory)} must take no arguments", code="unknown-architecture")
        return make()
    except WrongUsage:
        raise
    except Exception as error:  # the user's own code may fail in any way
        raise Refused(
            f"{printable(factory)} failed: {type(error).__name__}: {printable(str(error))}",
            where=printable(str(path)),
            code="not-capturable",
        ) from None


def _graph(module: Any, examples: tuple[Any, ...], architecture: str) -> Graph:
    import torch

    if not isinstance(module, torch.nn.Module):
        raise WrongUsage(f"{printable(architecture)} did not give a torch module", code="unknown-architecture")
    module = module.eval()
    own = (getattr(module, "default_cfg", None) or {}).get("input_size", (3, 224, 224))
    entrance = next((m for m in module.modules() if isinstance(m, torch.nn.Conv2d)), None)
    if entrance is not None:
        own = (entrance.in_channels, *own[1:])
    sizes = [(own[0], n, n) for n in _SIZES] + [tuple(own)]
    choices = [examples] if examples else [(torch.randn(2, *size),) for size in sizes]
    failure: Exception | None = None
    for inputs in choices:
        try:
            with torch.no_grad():
                return graph_from_export(torch.export.export(module, inputs, strict=False))
        except Refused:
            raise
        except Exception as error:  # torch.export raises many kinds; the next size may do
            failure = error
    first = printable(str(failure).splitlines()[0] if str(failure) else "", limit=200)
    raise Refused(
        f"torch.export cannot capture it: {type(failure).__name__}: {first}",
        fix="let the factory return (module, (example_input,))",
        code="not-capturable",
    )
