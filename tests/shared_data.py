"""Where the data that is not part of the repository lies, if it is there at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def shared_data(name: str) -> Path:
    """Folder or file `name` of the shared data; skips the test, saying so, where it is missing."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("NFN_SHARED_DATA") or beside) / name
    if not path.exists():
        pytest.skip(f"shared data {name!r} is not on this machine")
    return path
