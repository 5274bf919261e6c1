"""Parser of nvidia-smi's answers.

Source: nvidia-smi(1), `--query-gpu` and `--query-compute-apps` as CSV.

A figure that the driver does not tell comes as [N/A], [Not Supported] or [Insufficient Permissions]
(MIG and unified memory do that) and is None; any other text in brackets, such as [GPU requires
reset], is a fault of that GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

from gridops.model import Gpu
from gridops.probe.gpu import MOST_GPUS, GpuProcess, amount, complaint, hang, mebibytes, processes
from gridops.probe.protocol import Told, clean

TOOL = "nvidia-smi"
UNTOLD = {
    *("n/a", "[n/a]", "[not supported]", "[insufficient permissions]", "[not found]"),
    *("not supported", "[deprecated]", "[unknown]", ""),
}
# What nvidia-smi says to fail, and what that means; the rest is passed on in its own words.
MEANINGS = (
    (
        "version mismatch",
        "the NVIDIA driver and its library are of different versions (an upgrade without a reboot)",
    ),
    ("communicate with the NVIDIA driver", "the NVIDIA driver is not loaded"),
    ("No devices were found", "the NVIDIA driver finds no GPU"),
    ("No supported GPUs were found", "the NVIDIA driver finds no GPU"),
    ("GPU is lost", "a GPU has fallen off the bus; the node needs a reboot"),
)


def gpus(told: Told, uptime: float | None) -> tuple[tuple[Gpu, ...], str | None]:
    """GPUs, and an error in words where any could not be read."""
    if told.get("nvidia-missing"):
        return (), f"an NVIDIA driver is loaded, but {TOOL} is missing"
    rows, said = _rows(told.get("nvidia-gpus", ()))
    apps = processes(told, "nvidia")
    found = tuple(_gpu(row, apps, alone=len(rows) == 1) for row in rows)
    troubles = [_meaning(said, told.get("nvidia-status", ()))]
    troubles += [_fault(row) for row in rows]
    troubles.append(hang(told, "nvidia", TOOL, uptime))
    return found, "; ".join(filter(None, troubles)) or None


def _rows(lines: Sequence[str]) -> tuple[list[list[str]], list[str]]:
    """The lines that tell of a GPU, as fields, and the messages."""
    rows: list[list[str]] = []
    said: list[str] = []
    for line in lines:
        fields = [field.strip() for field in line.split(", ")]
        if len(fields) >= 7 and fields[0].isdecimal() and len(rows) < MOST_GPUS:
            name = ", ".join(fields[2:-4])
            rows.append([*fields[:2], name, *fields[-4:]])
        else:
            said.append(line)
    return rows, said


def _gpu(row: Sequence[str], apps: Sequence[GpuProcess], *, alone: bool) -> Gpu:
    index, uuid, name, total, used, utilization, temperature = row
    here = [app for app in apps if alone or _names(app.gpu, uuid)]
    return Gpu(
        index=int(index[:6]),
        uuid="" if _untold(uuid) else clean(uuid, 80),
        name=clean(name, 80),
        memory_total_mib=mebibytes(total),
        memory_used_mib=mebibytes(used),
        utilization_percent=amount(utilization, 100),
        temperature_c=amount(temperature, 1000),
        processes=len(here),
        other_processes=sum(not app.ours for app in here),
    )


def _names(gpu: str, uuid: str) -> bool:
    """Check that an application's GPU is this one; old drivers call a part of it MIG-GPU-…/1/0."""
    return gpu == uuid or gpu.startswith(f"MIG-{uuid}/")


def _untold(text: str) -> bool:
    return text.lower() in UNTOLD


def _fault(row: Sequence[str]) -> str | None:
    for field in row[3:]:
        if amount(field) is None and not _untold(field):
            return f"GPU {row[0][:6]}: {clean(field, 60).strip('[]')}"
    return None


def _meaning(said: Sequence[str], statuses: Sequence[str]) -> str | None:
    """The messages of the query of GPUs in words; None when there was none and it succeeded."""
    text = complaint(said)
    for words, meaning in MEANINGS:
        if words.lower() in text.lower():
            return f"{meaning} ({TOOL}: {text})"
    status = next((s.split()[-1] for s in statuses if s.startswith("gpus ")), "0")
    if text:
        return f"{TOOL}: {text}"
    return None if status == "0" else f"{TOOL} failed with status {clean(status, 5)}"
