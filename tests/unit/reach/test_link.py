"""What every link shares on this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridops.errors import ReachError
from gridops.reach.link import runtime_dir, too_many_files_error
from gridops.system import rundir


def test_a_directory_that_is_not_ours_alone_keeps_nodes_from_being_reached(
    session_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = session_dir / "shared"
    path.mkdir(mode=0o755)
    monkeypatch.setenv("GRIDOPS_RUNTIME_DIR", str(path))
    with pytest.raises(ReachError) as caught:
        runtime_dir()
    assert caught.value.message == f"{path} is not a directory that only you can enter"
    assert caught.value.hint == f"remove it, `chmod 700 {path}`, or set GRIDOPS_RUNTIME_DIR"


def test_a_path_that_is_too_long_for_sockets_says_how_long_it_may_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDOPS_RUNTIME_DIR", str(tmp_path / ("x" * 100)))
    with pytest.raises(ReachError, match=f"at most {rundir.LONGEST} bytes"):
        runtime_dir()


def test_a_lack_of_descriptors_is_said_with_the_limit() -> None:
    assert "`ulimit -n` (now " in too_many_files_error().hint
