"""A process is known by more than its pid."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from gridops.system import processes
from gridops.system.processes import alive, identity


@pytest.fixture
def child():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process


def test_this_process_lives():
    assert alive(identity())
    assert identity() == identity(os.getpid())
    assert alive(f"{identity()}:what:ever")


def test_a_child_lives_until_it_has_ended_even_while_nobody_has_asked_for_its_status(child):
    known = identity(child.pid)
    assert alive(known)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie, now
    assert not alive(known)
    child.wait()
    assert not alive(known)


def test_another_process_with_the_same_pid_is_another_process():
    boot, pid, tick = identity().split(":")
    assert not alive(f"{boot}:{pid}:{int(tick) - 1}")
    assert not alive(f"an-earlier-boot:{pid}:{tick}")


@pytest.mark.parametrize("text", ["", ":", "::", "a:b:c", "x:0:1", "x:-1:1", "x:99999999:1"])
def test_what_is_no_process_is_not_alive(text):
    assert not alive(text)


def test_where_there_is_no_proc_a_pid_has_to_do(child, monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "PROC", tmp_path)
    monkeypatch.setattr(processes, "_boot", lambda: "")
    known = identity(child.pid)
    assert known == f":{child.pid}:"
    assert alive(known)
    child.kill()
    child.wait()
    assert not alive(known)
