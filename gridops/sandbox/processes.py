"""Processes of a sandbox: find them, and end them without ever hitting another's."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from gridops.system.processes import (
    PROC,
    ProcessIdentity,
    all_processes,
    is_alive,
    send_signal,
)

MARK_VARIABLE = "GRIDOPS_SANDBOX"  # in the environment of every session: the directory of its sshd
KILL_GRACE = 1.0  # seconds between the polite and the hard signal


def end(
    find_them: Callable[[], Iterable[ProcessIdentity]], limit: float = 10.0
) -> list[ProcessIdentity]:
    """End the processes `find_them` finds, until it finds none; returns those that would not end.

    First politely, after KILL_GRACE seconds the hard way. `limit` is seconds for all of it.
    """
    began = time.monotonic()
    asked: set[ProcessIdentity] = set()
    while True:
        left = list(find_them())
        waited = time.monotonic() - began
        if not left or waited > limit:
            return left
        for process in left:
            if waited > KILL_GRACE:
                send_signal(process, signal.SIGKILL)
            elif process not in asked:
                asked.add(process)
                send_signal(process, signal.SIGTERM)
        time.sleep(0.01)


def belonging(
    directories: Iterable[Path], servers: Iterable[ProcessIdentity]
) -> list[ProcessIdentity]:
    """The sshd `servers`, their descendants, and the sessions of their nodes.

    Sessions are found even where they have left the process tree.
    """
    roots = {server.pid for server in servers if is_alive(server)}
    marks = {os.fsencode(f"{MARK_VARIABLE}={directory}") for directory in directories}
    logs = {str(directory / "log") for directory in directories}
    table = {process.pid: (parent, process) for parent, process in all_processes()}
    ours = _descendants(table, roots)
    spared = _ancestors(table, os.getpid())
    for pid in table.keys() - ours - spared:
        if _marked(pid, marks) or _logs_to(pid, logs):
            ours.add(pid)
    return [table[pid][1] for pid in ours - spared]


def _descendants(table: dict[int, tuple[int, ProcessIdentity]], roots: set[int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in table.items():
        children.setdefault(parent, []).append(pid)
    found: set[int] = set()
    todo = list(roots & table.keys())
    while todo:
        pid = todo.pop()
        found.add(pid)
        todo += children.get(pid, [])
    return found


def _ancestors(table: dict[int, tuple[int, ProcessIdentity]], pid: int) -> set[int]:
    """The pid and its ancestors: a sandbox taken down from inside does not end its caller."""
    found = set()
    while pid in table and pid not in found:
        found.add(pid)
        pid = table[pid][0]
    return found


def _marked(pid: int, marks: set[bytes]) -> bool:
    try:
        environment = (PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return False
    return not marks.isdisjoint(environment.split(b"\0"))


def _logs_to(pid: int, logs: set[str]) -> bool:
    """Check that it is an sshd that writes one of these logs; sshd hides its environment."""
    try:
        if not (PROC / str(pid) / "comm").read_text().startswith("sshd"):
            return False
        return any(str(fd.readlink()) in logs for fd in (PROC / str(pid) / "fd").iterdir())
    except OSError:
        return False
