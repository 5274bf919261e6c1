"""Files that others never see half-written."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gridops.system.files import UNFINISHED, write_atomic


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_file_is_replaced_whole_and_is_ours_alone(tmp_path):
    path = tmp_path / "file"
    path.write_text("as it was")
    with path.open() as reader:
        write_atomic(path, b"as it is now\n")
        assert reader.read() == "as it was"  # who has begun to read it is not disturbed
    assert path.read_text() == "as it is now\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_it_has_the_permissions_that_were_asked_for_whatever_the_umask(tmp_path, mode):
    before = os.umask(0o077)
    try:
        write_atomic(tmp_path / "file", b"", mode=mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "no" / "file", b"text")
    (tmp_path / "directory").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomic(tmp_path / "directory", b"text")
    assert names(tmp_path) == ["directory"]


FULL = """
import resource, signal, sys
from pathlib import Path
from gridops.system.files import write_atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_atomic(Path(sys.argv[1]), bytes(5000))
except OSError as exc:
    print(exc.strerror)
"""


def test_a_full_disk_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "file"
    path.write_text("as it was")
    done = subprocess.run([sys.executable, "-c", FULL, str(path)], capture_output=True, text=True)
    assert done.stdout == "File too large\n", done.stderr
    assert path.read_text() == "as it was"
    assert names(tmp_path) == ["file"]


KILLED = """
import os, signal, sys
from pathlib import Path
from gridops.system.files import write_atomic
Path.replace = lambda self, target: os.kill(os.getpid(), signal.SIGKILL)
write_atomic(Path(sys.argv[1]), b"as it is now")
"""


def test_what_a_killed_writer_left_can_be_told_from_files(tmp_path):
    path = tmp_path / "some.json"
    path.write_text("as it was")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)])
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "as it was"
    left, kept = names(tmp_path)
    assert kept == "some.json"
    assert re.fullmatch(UNFINISHED, left)
    assert not re.fullmatch(UNFINISHED, kept)
    assert stat.S_IMODE((tmp_path / left).stat().st_mode) == 0o600
