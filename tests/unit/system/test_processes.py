"""A process is known by more than its pid."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

from gridops.system import processes
from gridops.system.processes import (
    all_processes,
    find_process,
    identity,
    is_alive,
    is_running,
    send_signal,
)


@pytest.fixture
def child():
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process


def test_this_process_lives():
    assert is_running(identity())
    assert identity() == identity(os.getpid())
    assert is_running(f"{identity()}:what:ever")


def test_a_child_lives_until_it_has_ended_even_while_nobody_has_asked_for_its_status(child):
    known = identity(child.pid)
    assert is_running(known)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie, now
    assert not is_running(known)
    child.wait()
    assert not is_running(known)


def test_another_process_with_the_same_pid_is_another_process():
    boot, pid, tick = identity().split(":")
    assert not is_running(f"{boot}:{pid}:{int(tick) - 1}")
    assert not is_running(f"an-earlier-boot:{pid}:{tick}")


@pytest.mark.parametrize("text", ["", ":", "::", "a:b:c", "x:0:1", "x:-1:1", "x:99999999:1"])
def test_what_is_no_process_is_not_running(text):
    assert not is_running(text)


def test_where_there_is_no_proc_a_pid_has_to_do(child, monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "PROC", tmp_path)
    monkeypatch.setattr(processes, "boot_id", lambda: "")
    known = identity(child.pid)
    assert known == f":{child.pid}:"
    assert is_running(known)
    child.kill()
    child.wait()
    assert not is_running(known)


def test_a_process_is_found_with_its_start_until_it_has_ended(child):
    found = find_process(child.pid)
    assert found
    assert identity(child.pid) == f"{found.boot}:{found.pid}:{found.start}"
    assert is_alive(found)
    assert (os.getpid(), found) in all_processes()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie, now
    assert not is_alive(found)
    assert find_process(child.pid) is None
    assert child.pid not in {one.pid for _, one in all_processes()}


@pytest.mark.parametrize("pidfd", [True, False])
def test_a_signal_reaches_exactly_the_process_it_was_meant_for(child, monkeypatch, pidfd):
    if not pidfd:
        monkeypatch.delattr(os, "pidfd_open")
    found = find_process(child.pid)
    assert found
    send_signal(found._replace(start="1"), signal.SIGKILL)  # who had the pid before
    send_signal(found._replace(boot="an earlier one"), signal.SIGKILL)
    assert is_alive(found)
    send_signal(found, signal.SIGTERM)
    assert child.wait(10) == -signal.SIGTERM
    send_signal(found, signal.SIGTERM)  # it is gone, and that is no error


@pytest.fixture
def _no_proc(monkeypatch, tmp_path):
    monkeypatch.setattr(processes, "PROC", tmp_path)
    monkeypatch.setattr(processes, "_boot", lambda: "this boot")


@pytest.mark.usefixtures("_no_proc")
def test_where_there_is_no_proc_ps_tells_when_a_process_began(child):
    found = find_process(child.pid)
    assert found
    assert re.fullmatch(r"\w+ \w+ +\d+ [\d:]+ \d{4}", found.start)
    assert (os.getpid(), found) in all_processes()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(found)
    child.wait()
    assert find_process(child.pid) is None
