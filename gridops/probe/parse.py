"""Parser of a node's answer to probe.sh. Pure functions: bytes in, values out."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from gridops.errors import ProbeError
from gridops.model import Cpu, Gpu, RayRole, Space
from gridops.probe import amd, nvidia
from gridops.probe.protocol import Told, clean, read
from gridops.reach.answers import MAX_COUNT, real, whole

T = TypeVar("T")

MOST_CORES = 65536
MOST_LOAD = 1e6
MOST_USERS = 100


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures that one probe found."""

    cpu: Cpu
    memory: Space
    disk: Space | None = None  # None: df did not tell
    unwritable: str | None = None  # the directory for remote_root, when we may not write there
    gpus: tuple[Gpu, ...] = ()
    gpu_error: str | None = None
    running: int = 0  # durable runs that hold a slot
    queued: int = 0  # those that wait for one
    uptime_s: float | None = None
    users: tuple[str, ...] = ()
    ray: RayRole | None = None  # its part in a Ray cluster
    setup_error: str | None = None  # what keeps its env_setup from succeeding
    cpu_times: str = ""  # the last line "cpu …" of its /proc/stat


def parse(answer: bytes, remote_root: str) -> Figures:
    """The figures in a node's answer; `remote_root` is how the inventory spells it.

    Raises ProbeError when the answer is not whole, or lacks CPU or memory figures.
    """
    told = read(answer)
    if told.get("unsupported"):
        system = clean(told["unsupported"][0], 30) or "an unknown system"
        raise ProbeError(f"it runs {system}; the probe needs Linux's /proc")
    uptime = _optional(lambda: real(told["uptime"][0].split()[0]))
    of_nvidia, nvidia_error = nvidia.gpus(told, uptime)
    of_amd, amd_error = amd.gpus(told, uptime)
    leases = _leases(told)
    holders = {gpu: run for run, gpus in leases.items() for gpu in gpus}
    return Figures(
        cpu=_require("CPU figures", lambda: _cpu(told)),
        memory=_require("memory figures", lambda: _memory(told)),
        disk=_optional(lambda: _disk(told, remote_root)),
        unwritable=clean(told["readonly"][0]) if told.get("readonly") else None,
        gpus=tuple(_with_lease(gpu, holders) for gpu in of_nvidia + of_amd),
        gpu_error="; ".join(filter(None, (nvidia_error, amd_error))) or None,
        running=len(leases),
        queued=len({clean(run, 64) for run in told.get("waiting", ())} - leases.keys()),
        uptime_s=uptime,
        users=_users(told.get("user", ())),
        ray=_ray(told.get("ray", ())),
        setup_error=_setup(told),
        cpu_times=told["stat"][-1],
    )


def _require(name: str, find: Callable[[], T]) -> T:
    try:
        return find()
    except (ValueError, LookupError):
        raise ProbeError(f"its answer to the probe has no valid {name}") from None


def _optional(find: Callable[[], T]) -> T | None:
    try:
        return find()
    except (ValueError, LookupError):
        return None


# -- CPU and memory --------------------------------------------------------------------------------


def _cpu(told: Told) -> Cpu:
    load1, load5, load15 = (real(word, MOST_LOAD) for word in told["load"][0].split()[:3])
    return Cpu(_cores(told), load1, load5, load15, _busy(told["stat"]))


def _cores(told: Told) -> int:
    online = told.get("online")
    cores = _count_listed(online[0]) if online else whole(told["cores"][0])
    if not 0 < cores <= MOST_CORES:
        raise ValueError("cores")
    return cores


def _count_listed(ranges: str) -> int:
    """Count the numbers in a kernel's list: "0-3,8" is five."""
    ends = [part.partition("-")[::2] for part in ranges.strip().split(",")]
    return sum(whole(last or first) - whole(first) + 1 for first, last in ends)


def _busy(samples: Sequence[str]) -> float:
    """The busy percentage of all cores between two readings of /proc/stat.

    The readings are the first and the last line "cpu …". proc_stat(5): user nice system idle iowait
    irq softirq steal, in ticks; guest time is in user already. Idle and iowait are idle; what the
    hypervisor took (steal) is not there for us either.
    """
    if len(samples) < 2:
        raise ValueError("one sample only")
    first, last = ([whole(word) for word in samples[i].split()[1:9]] for i in (0, -1))
    if min(len(first), len(last)) < 5:
        raise ValueError("too few fields")
    spent = [max(0, after - before) for before, after in zip(first, last, strict=False)]
    total = sum(spent)
    return 100 * (total - spent[3] - spent[4]) / total if total else 0.0


def _memory(told: Told) -> Space:
    """Total and available memory from /proc/meminfo.

    Kernels before 3.14 tell no MemAvailable; what is free and in caches, less what is shared
    memory, comes near it.
    """
    pairs = (line.split() for line in told["mem"])
    kib = {key.rstrip(":"): whole(value, MAX_COUNT // 1024) for key, value in pairs}
    total = kib["MemTotal"]
    caches = ("MemFree", "Buffers", "Cached", "SReclaimable")
    guess = sum(kib.get(key, 0) for key in caches) - kib.get("Shmem", 0)
    available = min(total, max(0, kib.get("MemAvailable", guess)))
    if not total:
        raise ValueError("no memory")
    return Space(total * 1024, available * 1024, 100 * (total - available) / total)


# -- durable runs ----------------------------------------------------------------------------------


def _leases(told: Told) -> Mapping[str, Sequence[str]]:
    """The GPUs of each run that holds a slot: UUIDs, or numbers (AMD)."""
    lines = (line.partition(" ") for line in told.get("lease", ()))
    return {clean(run, 64): gpus.split() for run, _, gpus in lines}


def _with_lease(gpu: Gpu, holders: Mapping[str, str]) -> Gpu:
    name = gpu.uuid if gpu.vendor == "nvidia" else str(gpu.index)
    return replace(gpu, lease=holders[name]) if name in holders else gpu


# -- disk and users --------------------------------------------------------------------------------

# A line of `df -P -k`; the device's and the mount point's names may hold blanks and digits.
DF = re.compile(r"\s(\d{1,19})\s+(-?\d{1,19})\s+(-?\d{1,19})\s+(?:\d{1,3}%|-)(?:\s|$)")


def _disk(told: Told, remote_root: str) -> Space:
    """Space on the disk as df counts it: what is kept for root is neither used nor available."""
    found = DF.search(told["disk"][0])
    if not found:
        raise ValueError("not a line of df")
    total, used, available = (max(0, int(number)) for number in found.groups())
    if max(total, used, available) > MAX_COUNT // 1024:
        raise ValueError("too large")
    held = used + available
    percent = 100 * used / held if held else 0.0
    return Space(total * 1024, available * 1024, percent, remote_root)


def _setup(told: Told) -> str | None:
    """The problem with the node's env_setup, in words; None if there is none."""
    said = clean(next(iter(told.get("setup-said", ())), ""), 120)
    if late := told.get("setup-late"):
        after = f": {said}" if said else ""
        return f"env_setup has not ended within {clean(late[0], 10)} s{after}"
    if not (failed := told.get("setup-failed")):
        return None
    ended = "it ends the shell" if failed[0] == "0" else f"status {clean(failed[0], 5)}"
    return f"env_setup fails: {said or ended}"


def _users(names: Iterable[str]) -> tuple[str, ...]:
    """Names of the users who are logged in, each once."""
    seen = dict.fromkeys(clean(name, 64) for name in names)
    return tuple(name for name in seen if name)[:MOST_USERS]


def _ray(roles: Sequence[str]) -> RayRole | None:
    """The node's part in a Ray cluster.

    A node may be in several; the head of one is more than a worker of another.
    """
    return "head" if "head" in roles else "worker" if "worker" in roles else None
