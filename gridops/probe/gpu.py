"""Parts shared by the parsers of nvidia-smi's and AMD's answers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from gridops.probe.protocol import Told, clean
from gridops.reach.answers import real, whole

MOST_GPUS = 256
MEBIBYTE = 1024 * 1024
TICK = 100  # Hz, of the clock ticks in /proc/PID/stat: USER_HZ is 100 wherever Linux runs GPUs


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A compute process on the GPU that its driver calls `gpu`."""

    gpu: str
    pid: int
    ours: bool


def processes(told: Told, vendor: str) -> tuple[GpuProcess, ...]:
    """Processes in lines "GPU, PID, memory"; one that holds no memory of the GPU does not count.

    A process whose owner the node does not tell is not ours: ours are never hidden from us.
    """
    owners = dict(line.split(" ", 1) for line in told.get("owner", ()) if " " in line)
    us = owners.get(next(iter(told.get("self", ())), ""))
    found = {}
    for line in told.get(f"{vendor}-apps", ()):
        gpu, _, rest = line.partition(", ")
        pid, _, memory = rest.partition(", ")
        if pid.isdecimal() and memory.strip() != "0":
            found[gpu, pid] = GpuProcess(
                gpu, int(pid[:19]), us is not None and owners.get(pid) == us
            )
    return tuple(found.values())


def hang(told: Told, vendor: str, tool: str, uptime: float | None) -> str | None:
    """The message that the tool hangs or is late; None when it came back in time."""
    for line in told.get(f"{vendor}-stuck", ()):
        try:
            pid, ticks = (whole(word) for word in line.split())
        except ValueError:
            continue
        since = f" for {_span(uptime - ticks / TICK)}" if uptime else ""
        return (
            f"{tool} has hung in the driver{since} (pid {pid}) and cannot be killed; "
            "no second one is started: reboot the node"
        )
    if told.get(f"{vendor}-late"):
        return f"{tool} did not answer in time"
    return None


def amount(text: str, most: float = 1e12) -> float | None:
    """A figure, or None where the driver tells none ("[N/A]")."""
    try:
        return real(text, most)
    except ValueError:
        return None


def mebibytes(text: str) -> int | None:
    value = amount(text)
    return None if value is None else round(value)


def complaint(lines: Iterable[str]) -> str:
    """A tool's message in place of figures, cut short."""
    said = (clean(line) for line in lines)
    return clean("; ".join(line for line in said if line), 300)


def _span(seconds: float) -> str:
    seconds = max(0.0, seconds) if math.isfinite(seconds) else 0.0
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
