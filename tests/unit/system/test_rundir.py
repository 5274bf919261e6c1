"""The private directory, and the limit on open files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gridops.system import rundir
from gridops.system.rundir import NoPrivateDirectory, private_dir


@pytest.fixture(autouse=True)
def _nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRIDOPS_RUNTIME_DIR")


def test_it_is_made_for_us_alone(session_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = session_dir / "made" / "run"
    monkeypatch.setenv("GRIDOPS_RUNTIME_DIR", str(path))
    assert private_dir() == path
    assert path.stat().st_mode & 0o777 == 0o700


def test_xdg_runtime_dir_is_used_where_there_is_one(
    session_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(session_dir))
    assert private_dir() == session_dir / "gridops"


def test_one_that_is_too_long_or_gone_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Path(f"/tmp/gridops-{os.getuid()}")
    long = tmp_path / ("x" * 100)
    long.mkdir()
    for path in (long, tmp_path / "gone"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
        assert rundir._candidates()[-1] == own
        assert private_dir() == own


def test_a_chosen_one_that_is_too_long_is_an_error_with_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRIDOPS_RUNTIME_DIR", str(tmp_path / ("x" * 100)))
    with pytest.raises(NoPrivateDirectory) as caught:
        private_dir()
    assert f"at most {rundir.LONGEST} bytes" in caught.value.remedy


@pytest.mark.parametrize("kind", ["open", "link", "file"])
def test_one_that_others_may_enter_is_refused(
    session_dir: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = session_dir / f"not-ours-{kind}"
    if kind == "open":
        path.mkdir()
        path.chmod(0o755)
    elif kind == "link":
        path.symlink_to(session_dir)
    else:
        path.touch()
    monkeypatch.setenv("GRIDOPS_RUNTIME_DIR", str(path))
    with pytest.raises(NoPrivateDirectory, match=kind):
        private_dir()


def test_the_longest_path_leaves_room_for_what_ssh_adds_while_it_binds() -> None:
    names = (f"{'0' * 16}.31", "0" * 16 + "." + "x" * 16)
    assert all(rundir.LONGEST + 1 + len(name) < 104 for name in names)


ROOM = """
import resource
from gridops.system.rundir import SPARE_FILES, make_room
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 500))
print(make_room(10), resource.getrlimit(resource.RLIMIT_NOFILE))
print(make_room(100), resource.getrlimit(resource.RLIMIT_NOFILE))
print(make_room(1000), resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def test_room_for_files_is_made_as_far_as_it_is_needed_and_allowed() -> None:
    done = subprocess.run([sys.executable, "-c", ROOM], capture_output=True, text=True, check=True)
    spare = rundir.SPARE_FILES
    assert done.stdout.splitlines() == [
        "10 (100, 500)",
        f"100 ({100 + spare}, 500)",
        f"{500 - spare} (500, 500)",
    ]
