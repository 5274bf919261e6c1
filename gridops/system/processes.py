"""Identities of processes, and signals that reach no other: a pid alone is given out again.

A process is known by its pid, its start and the machine's boot. Linux tells both in /proc; where
there is none (macOS), `ps` and `sysctl` do.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")


class ProcessIdentity(NamedTuple):
    """A process, told from all that have its pid at another time."""

    pid: int
    start: str  # clock ticks after the boot (Linux), or what ps says
    boot: str


def find_process(pid: int) -> ProcessIdentity | None:
    """The process with this pid; None when there is none, or only its zombie."""
    found = _status(pid)
    return ProcessIdentity(pid, found[1], _boot()) if found else None


def is_alive(process: ProcessIdentity) -> bool:
    """Check that this very process still runs."""
    return find_process(process.pid) == process


def all_processes() -> Iterator[tuple[int, ProcessIdentity]]:
    """Every living process, each after its parent's pid."""
    if not _has_proc():
        for line in _say("ps", "-axo", "pid=,ppid=,lstart=").splitlines():
            pid, parent, start = line.split(None, 2)
            yield int(parent), ProcessIdentity(int(pid), start.strip(), _boot())
        return
    for entry in PROC.iterdir():
        if entry.name.isdigit() and (found := _status(int(entry.name))):
            yield found[0], ProcessIdentity(int(entry.name), found[1], _boot())


def send_signal(process: ProcessIdentity, number: signal.Signals) -> None:
    """Send a signal to exactly this process; the descriptor keeps the pid from being reused."""
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # no such call here: a check just before is the best there is
        if is_alive(process):
            with suppress(OSError):
                os.kill(process.pid, number)
        return
    try:
        if is_alive(process):
            with suppress(OSError):
                signal.pidfd_send_signal(fd, number)
    finally:
        os.close(fd)


# -- identities that are written down ------------------------------------------------------------


def identity(pid: int | None = None) -> str:
    """The identity `boot:pid:start` of a process, for records; "" when there is no such process.

    It costs no program: where there is no /proc, boot and start are empty.
    """
    number = os.getpid() if pid is None else pid
    found = _read_status(number)
    if found:
        return f"{boot_id()}:{number}:{found[1]}"
    return f":{number}:" if not _has_proc() and _exists(number) else ""


def is_running(known: str) -> bool:
    """Check that the process of this identity still runs, since that boot.

    What follows the identity after one more colon does not matter.
    """
    boot, pid, start = (*known.split(":", 3), "", "", "")[:3]
    is_pid = pid.isdecimal() and int(pid) > 0
    return is_pid and identity(int(pid)) == f"{boot}:{pid}:{start}"


@cache
def boot_id() -> str:
    """An identifier that changes with every boot of this machine; "" where there is no /proc."""
    try:
        return PROC.joinpath("sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


# -- asking the system ---------------------------------------------------------------------------


def _status(pid: int) -> tuple[int, str] | None:
    """Parent's pid and start of a living process."""
    return _read_status(pid) or (None if _has_proc() else _ask_ps(pid))


def _read_status(pid: int) -> tuple[int, str] | None:
    """Fields 4 and 22 of /proc/PID/stat, see proc(5); None for a zombie."""
    try:
        stat = PROC.joinpath(str(pid), "stat").read_bytes()
    except OSError:
        return None
    fields = stat.rpartition(b")")[2].split()  # from field 3 on: the name before may hold anything
    return None if fields[0] in (b"Z", b"X") else (int(fields[1]), fields[19].decode())


def _has_proc() -> bool:
    return PROC.joinpath("self/stat").exists()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _ask_ps(pid: int) -> tuple[int, str] | None:
    said = _say("ps", "-o", "state=,ppid=,lstart=", "-p", str(pid)).split(None, 2)
    return (int(said[1]), said[2].strip()) if len(said) == 3 and said[0][0] != "Z" else None


@cache
def _boot() -> str:
    return boot_id() or _say("sysctl", "-n", "kern.boottime")


def _say(*command: str) -> str:
    import subprocess

    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
