"""cli/jsonl.py: one JSON object a line on standard output; numbers as numbers, no NaN, one shape for errors."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nfn_cli.errors import NfnError


def write_object(value: Mapping[str, Any]) -> None:
    print(text_of({**value, **_commits(value)}), file=sys.stdout, flush=True)


def _commits(value: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """{"commits": {source: commit}} of the sources on the hub that an answer names, nothing where there are none."""
    hub = sys.modules.get("nfn_cli.checkpoint.hub")  # nothing was fetched where it is not there
    if hub is None:
        return {}
    named = [name for entry in value.values() for name in (entry if isinstance(entry, list) else [entry])]
    found = {name: commit for name in named if isinstance(name, str) and (commit := hub.commit_of(name))}
    return {"commits": found} if found else {}


def text_of(value: Mapping[str, Any]) -> str:
    return json.dumps(_plain(value), allow_nan=False)


def error_object(command: str, path: str, error: NfnError) -> dict[str, Any]:
    """What stands in the place of an input that failed."""
    message = f"{error.where}: {error.what}" if error.where else error.what
    return {
        "schema": f"nfn.{command}/1",
        "path": path,
        "error": {"code": error.code, "message": message, "hint": error.fix or None},
    }


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
