"""checkpoint/hint_words.py: what metadata and config.json say about a network, under the names people use. No tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from nfn_cli.checkpoint.model import Hints

_WORDS: dict[str, tuple[str, ...]] = {
    "activation": (
        "activation",
        "activation_function",
        "hidden_act",
        "hidden_activation",
        "activation_fn",
        "nonlinearity",
    ),
    "omega": ("omega", "omega_0", "w0"),
    "pooling": ("pooling",),
    "architecture": ("architecture",),
}
# Sine networks often have a frequency of their own in the first layer: the names of it, and of all others.
_FIRST_OMEGA = ("first_omega_0", "first_omega", "omega_0_initial", "w0_initial", "first_w0")
_FURTHER_OMEGA = ("hidden_omega_0", "hidden_omega", "hidden_w0", *_WORDS["omega"])
_CONFIG_LIMIT = 8 << 20


def hints_in(words: Mapping[Any, Any], source: str) -> Hints:
    """Hints among the entries of a map; only text, numbers and lists of them count.

    >>> hints_in({"hidden_act": "gelu", "omega": 30}, "config.json")
    Hints(activation='gelu', omega='30', pooling=None, architecture=None, architecture_arguments=None, source='config.json')
    """
    found: dict[str, Any] = {
        field: spelled
        for field, names in _WORDS.items()
        if (spelled := next((text for name in names if (text := _spelled(words.get(name), field))), None))
    }
    if any(name in words for name in (*_FIRST_OMEGA, *_FURTHER_OMEGA[:3])):
        found.pop("omega", None)
        first, further = (_one_number(words, names) for names in (_FIRST_OMEGA, _FURTHER_OMEGA))
        if first and further:
            found["omega"] = first if first == further else f"{first},{further},..."
    if "architecture" in found:
        found["architecture_arguments"] = _arguments(words)
    return Hints(**found, source=source) if found else Hints()


def _one_number(words: Mapping[Any, Any], names: tuple[str, ...]) -> str | None:
    spelled = next((text for name in names if (text := _spelled(words.get(name), "omega"))), None)
    return spelled if spelled and "," not in spelled else None


def _arguments(words: Mapping[Any, Any]) -> str | None:
    """timm's `model_args` and number of classes, as JSON; None where they hold more than plain values."""
    given = words.get("model_args") or {}
    if not isinstance(given, Mapping):
        return None
    arguments = {"num_classes": words["num_classes"]} if isinstance(words.get("num_classes"), int) else {}
    arguments |= given
    if not all(isinstance(key, str) and key.isidentifier() and _is_plain(value) for key, value in arguments.items()):
        return None
    return json.dumps(arguments, sort_keys=True)


def _is_plain(value: Any) -> bool:
    scalars = value if isinstance(value, list) else [value]
    return len(scalars) < 1000 and all(entry is None or isinstance(entry, (str, int, float)) for entry in scalars)


def hints_beside(path: Path) -> Hints:
    """Hints of a `config.json` in the folder of a checkpoint; none where it is missing or unreadable."""
    config = path.parent / "config.json"
    try:
        if config.stat().st_size > _CONFIG_LIMIT:
            return Hints()
        parsed = json.loads(config.read_bytes())
    except (OSError, ValueError, RecursionError):
        return Hints()
    return hints_in(parsed, "config.json") if isinstance(parsed, dict) else Hints()


def joined_hints(first: Hints, second: Hints) -> Hints:
    """What `first` says, completed by `second` where `first` is silent; the source names both where both helped."""
    missing = {
        field.name: value
        for field in fields(Hints)
        if field.name != "source" and getattr(first, field.name) is None and (value := getattr(second, field.name))
    }
    sources = [hints.source for hints in (first, second if missing else Hints()) if hints.source]
    return replace(first, **missing, source="; ".join(sources))


def _spelled(value: Any, field: str) -> str | None:
    if isinstance(value, str):
        return value.strip() or None
    if field == "omega" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, (list, tuple)) and 0 < len(value) < 1000:
        parts = [_spelled(item, field) for item in value if not isinstance(item, (list, tuple))]
        return ",".join(part for part in parts if part) if len(parts) == len(value) and all(parts) else None
    return None
