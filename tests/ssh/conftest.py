"""What tests of whole command lines share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cli import Inventory, Tell, teller

from gridops.sandbox import Sandbox


@pytest.fixture
def tell(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Tell]:
    """`tell("health", "--format=json")`: the command line in this process."""
    yield from teller(capfdbinary, monkeypatch)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: a small project."""
    path = tmp_path / "project"
    path.mkdir()
    (path / "hello.txt").write_text("hello\n")
    monkeypatch.chdir(path)
    return path


@pytest.fixture
def inventory(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Inventory]:
    """An inventory of the three nodes of `sandbox`, in the environment; call it to change it."""
    made = Inventory(sandbox, tmp_path / "nodes.yaml")
    monkeypatch.setenv("GRIDOPS_INVENTORY", str(made()))
    yield made
    made.clean()
