"""Processes of a sandbox: find them, and end them without ever hitting another's.

A process is known by its pid, its start time and the machine's boot: a pid alone may be reused.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
MARK = "GRIDOPS_SANDBOX"  # in the environment of every session: the directory of its sshd
GRACE = 1.0  # seconds between the polite and the hard signal


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    start: str  # clock ticks after the boot (Linux), or what ps says
    boot: str


def find(pid: int) -> Process | None:
    """The process with this pid; None when there is none, or only its zombie."""
    found = _stat(pid)
    return Process(pid, found[1], boot()) if found else None


def alive(process: Process) -> bool:
    return find(process.pid) == process


@functools.cache
def boot() -> str:
    """An identifier that changes with every boot of this machine."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return _say(["sysctl", "-n", "kern.boottime"])


def end(find_them: Callable[[], Iterable[Process]], limit: float = 10.0) -> list[Process]:
    """End the processes `find_them` finds, until it finds none; returns those that would not end.

    First politely, after GRACE seconds the hard way. `limit` is seconds for all of it.
    """
    began = time.monotonic()
    asked: set[Process] = set()
    while True:
        left = list(find_them())
        waited = time.monotonic() - began
        if not left or waited > limit:
            return left
        for process in left:
            if waited > GRACE:
                _signal(process, signal.SIGKILL)
            elif process not in asked:
                asked.add(process)
                _signal(process, signal.SIGTERM)
        time.sleep(0.01)


def belonging(directories: Iterable[Path], servers: Iterable[Process]) -> list[Process]:
    """The sshd `servers`, their descendants, and the sessions of their nodes.

    Sessions are found even where they have left the process tree.
    """
    roots = {server.pid for server in servers if alive(server)}
    marks = {os.fsencode(f"{MARK}={directory}") for directory in directories}
    logs = {str(directory / "log") for directory in directories}
    table = dict(_table())
    ours = _descendants(table, roots)
    spared = _ancestors(table, os.getpid())
    for pid in table.keys() - ours - spared:
        if _marked(pid, marks) or _logs_to(pid, logs):
            ours.add(pid)
    return [Process(pid, table[pid][1], boot()) for pid in ours - spared]


def _descendants(table: dict[int, tuple[int, str]], roots: set[int]) -> set[int]:
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


def _ancestors(table: dict[int, tuple[int, str]], pid: int) -> set[int]:
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


def _table() -> Iterator[tuple[int, tuple[int, str]]]:
    """Every living process: pid, (parent's pid, start)."""
    if not PROC.joinpath("self/stat").exists():
        for line in _say(["ps", "-axo", "pid=,ppid=,lstart="]).splitlines():
            pid, parent, start = line.split(None, 2)
            yield int(pid), (int(parent), start.strip())
        return
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (found := _stat(int(entry.name))):
            yield int(entry.name), found


def _stat(pid: int) -> tuple[int, str] | None:
    """Parent's pid and start of a living process; see proc(5), fields 4 and 22."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None if PROC.joinpath("self/stat").exists() else _ask_ps(pid)
    words = text.rpartition(")")[2].split()
    return None if words[0] in "ZX" else (int(words[1]), words[19])


def _ask_ps(pid: int) -> tuple[int, str] | None:
    said = _say(["ps", "-o", "state=,ppid=,lstart=", "-p", str(pid)]).split(None, 2)
    return (int(said[1]), said[2].strip()) if len(said) == 3 and said[0][0] != "Z" else None


def _say(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _signal(process: Process, number: signal.Signals) -> None:
    """Send a signal to exactly this process; the descriptor keeps the pid from being reused."""
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # no such call here: a check just before is the best there is
        if alive(process):
            with suppress(OSError):
                os.kill(process.pid, number)
        return
    try:
        if alive(process):
            with suppress(OSError):
                signal.pidfd_send_signal(fd, number)
    finally:
        os.close(fd)
