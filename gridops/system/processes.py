"""Identities of processes, and a check that one still runs: a pid alone is given out again."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

PROC = Path("/proc")


def identity(pid: int | None = None) -> str:
    """The identity `boot:pid:tick` of a process.

    It is the machine's boot, the pid, and when it started in ticks since the boot. Where there is
    no /proc, boot and tick are empty. "" when there is no such process.
    """
    number = os.getpid() if pid is None else pid
    tick = _start(number)
    return "" if tick is None else f"{_boot()}:{number}:{tick}"


def alive(process: str) -> bool:
    """Check that this process still runs, here and since that boot.

    What follows the identity after one more colon does not matter.
    """
    boot, pid, tick = (*process.split(":", 3), "", "", "")[:3]
    known = pid.isdecimal() and int(pid) > 0
    return known and identity(int(pid)) == f"{boot}:{pid}:{tick}"


def _start(pid: int) -> str | None:
    if not PROC.joinpath("self", "stat").exists():
        return "" if _exists(pid) else None
    try:
        stat = PROC.joinpath(str(pid), "stat").read_bytes()
    except OSError:
        return None
    fields = stat.rpartition(b")")[2].split()  # from field 3 on: the name before may hold anything
    return None if fields[0] in (b"Z", b"X") else fields[19].decode()


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


@cache
def _boot() -> str:
    try:
        return PROC.joinpath("sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
