"""One lock for all that only one process may do at a time."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path

import pytest

from gridops.system.locks import acquire_lock

HOLDER = """
import sys, time
from gridops.system.locks import acquire_lock
acquire_lock(sys.argv[1], 0.0)
print(flush=True)
input()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lock"


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        child.stdout.readline()
        try:
            yield child
        finally:
            child.kill()


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def is_free(path: Path) -> bool:
    try:
        os.close(acquire_lock(path, 0.0))
    except TimeoutError:
        return False
    return True


def test_a_free_lock_is_had_at_once_and_its_file_is_ours_alone(path):
    lock = acquire_lock(path, 0.0)
    assert path.stat().st_mode & 0o777 == 0o600
    assert not is_free(path)  # nor has another thread of this process it
    os.close(lock)
    assert is_free(path)


def test_a_lock_that_another_process_holds_is_waited_for_no_longer_than_it_may_take(path):
    with holder(path):
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="another process holds its lock") as caught:
            acquire_lock(path, began + 0.2)
        assert 0.2 <= time.monotonic() - began < 5
        assert caught.value.filename == str(path)
    assert is_free(path)  # it died, and holds nothing any more


def test_the_wait_is_told_once_and_only_where_there_is_one(path):
    told: list[str] = []
    os.close(acquire_lock(path, 0.0, on_wait=lambda: told.append("free")))
    with holder(path) as child:
        threading.Timer(0.3, child.kill).start()
        lock = acquire_lock(path, inf, interval=0.01, on_wait=lambda: told.append("taken"))
    os.close(lock)
    assert told == ["taken"]


@pytest.mark.parametrize("replaced", [False, True])
def test_a_file_that_its_holder_removed_is_not_the_lock_any_more(path, replaced):
    lock = acquire_lock(path, 0.0)

    def remove() -> None:
        path.unlink()
        if replaced:
            path.touch(0o600)
        os.close(lock)

    threading.Timer(0.1, remove).start()
    mine = acquire_lock(path, time.monotonic() + 10)
    assert os.path.samestat(os.fstat(mine), path.stat())
    assert not is_free(path)
    os.close(mine)


def test_a_file_that_has_to_be_there_is_not_made(path):
    with pytest.raises(FileNotFoundError):
        acquire_lock(path, 0.0, flags=os.O_RDWR)
    assert not path.exists()


def test_a_directory_can_be_locked(tmp_path):
    flags = os.O_RDONLY | os.O_DIRECTORY
    lock = acquire_lock(tmp_path, 0.0, flags=flags)
    with pytest.raises(TimeoutError):
        acquire_lock(tmp_path, 0.0, flags=flags)
    os.close(lock)


def test_what_cannot_be_locked_is_not_left_open(path):
    with holder(path):
        before = open_files()
        for _ in range(5):
            with pytest.raises(TimeoutError):
                acquire_lock(path, 0.0)
        assert open_files() == before


def test_an_interrupted_wait_leaves_nothing_open(path):
    def interrupt() -> None:
        raise KeyboardInterrupt

    with holder(path):
        before = open_files()
        with pytest.raises(KeyboardInterrupt):
            acquire_lock(path, inf, on_wait=interrupt)
        assert open_files() == before
