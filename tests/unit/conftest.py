"""What the unit tests share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def cwd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, with no inventory in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRIDOPS_INVENTORY", raising=False)
    return tmp_path


@pytest.fixture
def write(cwd: Path) -> Callable[..., Path]:
    """Write a text to a file of the working directory, x.yaml if no other name is given."""

    def write(text: str, name: str = "x.yaml") -> Path:
        path = cwd / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return Path(name)

    return write
