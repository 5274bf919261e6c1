"""Children that are ended whole."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from gridops.system import child as system_child
from gridops.system.child import Child, ShuttingDown
from gridops.system.processes import find_process, is_alive

Start = Callable[[str], Child]


@pytest.fixture
def start() -> Iterator[Start]:
    made: list[Child] = []

    def start(script: str) -> Child:
        made.append(Child(["sh", "-c", script], cwd="/", env={"PATH": os.environ["PATH"]}))
        return made[-1]

    yield start
    for one in made:
        one.close()


def test_it_has_three_pipes_and_a_status(start: Start) -> None:
    one = start("read word; echo $word; echo err >&2; exit 7")
    os.write(one.stdin, b"in\n")
    one.close_stdin()
    one.close_stdin()  # twice is harmless
    assert one.wait(10) == 7
    assert (os.read(one.stdout, 100), os.read(one.stderr, 100)) == (b"in\n", b"err\n")


def test_a_signal_it_died_of_is_a_status_as_in_a_shell(start: Start) -> None:
    assert start("kill -9 $$").wait(10) == 128 + signal.SIGKILL


def test_one_that_still_runs_is_a_timeout(start: Start) -> None:
    one = start("exec sleep 60")
    with pytest.raises(TimeoutError, match=r"still running after 0\.05 s"):
        one.wait(0.05)
    one.close()
    assert one.wait(10) == 128 + signal.SIGTERM


def test_what_it_started_ends_with_it_also_where_it_is_deaf_to_a_polite_request(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(system_child, "TERM_GRACE", 0.2)
    one = start("trap '' TERM; sleep 60 & echo $!; wait; wait")
    grandchild = find_process(int(os.read(one.stdout, 100)))
    assert grandchild
    one.close()
    one.close()  # twice is harmless
    end = time.monotonic() + 10
    while is_alive(grandchild) and time.monotonic() < end:
        time.sleep(0.01)
    assert not is_alive(grandchild)
    assert one.wait(0) == 128 + signal.SIGKILL


def test_nothing_is_started_any_more_once_we_are_ending(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_child, "_leaving", True)
    with pytest.raises(ShuttingDown, match="gridops is ending"):
        Child(["true"], cwd=None, env={})


LEAVER = """
import os, threading, time
from gridops.system.child import Child
def work():
    child = Child(["sleep", "60"], cwd=None, env=os.environ)
    print(child._child.pid, flush=True)
    child.wait()
threading.Thread(target=work, daemon=True).start()
time.sleep(0.5)
"""


def test_what_a_thread_left_running_ends_as_we_do() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEAVER], capture_output=True, text=True, timeout=30, check=True
    )
    assert find_process(int(done.stdout)) is None
