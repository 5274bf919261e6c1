"""Parser of the answers of rocm-smi and amd-smi.

Sources: rocm_smi.py of rocm_smi_lib (--json: one object, a key "cardN" a GPU), amdsmi_cli of
amdsmi (--json: a list with an object a GPU, since ROCm 6.4 in part under "gpu_data"; figures are
objects of value and unit). Who uses a GPU is what the kernel says in /sys/class/kfd/kfd/proc, by
the id that rocm-smi calls GUID and amd-smi kfd_id: rocm-smi's own list does not say which GPU.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from gridops.model import Gpu
from gridops.probe.gpu import (
    MEBIBYTE,
    MOST_GPUS,
    GpuProcess,
    amount,
    complaint,
    hang,
    mebibytes,
    processes,
)
from gridops.probe.protocol import Told, clean

MAX_BEGINNINGS = 10  # lines that may begin the document; each is a try over all that follows

Entry = Mapping[str, Any]
# AMD writes MB and means MiB.
MEMORY_UNITS = {"B": 1 / MEBIBYTE, "KB": 1 / 1024, "MB": 1.0, "GB": 1024.0}


def gpus(told: Told, uptime: float | None) -> tuple[tuple[Gpu, ...], str | None]:
    """GPUs, and an error in words where they could not be read."""
    apps = processes(told, "amd")
    if "amd-rocm" in told or "rocm" in _topics(told):
        tool, found = "rocm-smi", _rocm(told.get("amd-rocm", ()), apps)
        said = told.get("amd-rocm", ())
    else:
        tool, found = "amd-smi", _amdsmi(told, apps)
        said = told.get("amd-list", ())
    late = hang(told, "amd", tool, uptime)
    if late or found or not _topics(told):
        return found, late
    return (), f"{tool}: {complaint(said) or 'it lists no GPU'}"


def _topics(told: Told) -> set[str]:
    """Topics that the tool was asked about; empty when there is no tool."""
    lines = [*told.get("amd-status", ()), *told.get("amd-late", ())]
    return {line.split(" ")[0] for line in lines}


# -- rocm-smi --------------------------------------------------------------------------------------


def _rocm(lines: Sequence[str], apps: Sequence[GpuProcess]) -> tuple[Gpu, ...]:
    document = _document(lines)
    cards = document if isinstance(document, dict) else {}
    found = []
    for key, card in cards.items():
        number = re.fullmatch(r"card(\d{1,6})", key)
        if number and isinstance(card, dict):
            found.append(_rocm_gpu(int(number[1]), card, apps))
    return tuple(sorted(found, key=lambda gpu: gpu.index))[:MOST_GPUS]


def _rocm_gpu(index: int, card: Entry, apps: Sequence[GpuProcess]) -> Gpu:
    told = {str(key).lower(): str(value) for key, value in card.items()}
    names = (told.get(key, "") for key in ("card series", "device name", "gfx version"))
    heat = (told.get(f"temperature (sensor {s}) (c)", "") for s in ("junction", "edge", "mem"))
    return _gpu(
        index,
        unique=told.get("unique id", ""),
        names=names,
        total=_bytes_to_mib(told.get("vram total memory (b)", "")),
        used=_bytes_to_mib(told.get("vram total used memory (b)", "")),
        utilization=amount(told.get("gpu use (%)", ""), 100),
        heat=(amount(text, 1000) for text in heat),
        apps=[app for app in apps if app.gpu == told.get("guid")],
    )


def _bytes_to_mib(text: str) -> int | None:
    value = amount(text, 1e18)
    return None if value is None else int(value // MEBIBYTE)


# -- amd-smi ---------------------------------------------------------------------------------------


def _amdsmi(told: Told, apps: Sequence[GpuProcess]) -> tuple[Gpu, ...]:
    about: dict[int, list[Entry]] = {}
    for topic in ("list", "asic", "metric"):
        for entry in _entries(_document(told.get(f"amd-{topic}", ()))):
            index = entry.get("gpu")
            if isinstance(index, int) and 0 <= index < 10**6:
                about.setdefault(index, []).append(entry)
    found = (_amdsmi_gpu(index, entries, apps) for index, entries in sorted(about.items()))
    return tuple(found)[:MOST_GPUS]


def _entries(document: object) -> list[Entry]:
    if isinstance(document, dict):
        document = document.get("gpu_data")
    entries = document if isinstance(document, list) else []
    return [entry for entry in entries if isinstance(entry, dict)]


def _amdsmi_gpu(index: int, entries: Sequence[Entry], apps: Sequence[GpuProcess]) -> Gpu:
    def text(*path: str) -> str:
        return next((found for entry in entries if (found := _text(entry, path))), "")

    heat = (amount(text("temperature", s, "value"), 1000) for s in ("hotspot", "edge", "mem"))
    return _gpu(
        index,
        unique=text("asic", "asic_serial"),
        names=(text("asic", "market_name"), text("asic", "target_graphics_version")),
        total=_memory(text, "total_vram"),
        used=_memory(text, "used_vram"),
        utilization=amount(text("usage", "gfx_activity", "value"), 100),
        heat=heat,
        apps=[app for app in apps if app.gpu == text("kfd_id")],
    )


def _text(entry: object, path: Sequence[str]) -> str:
    for key in path:
        if not isinstance(entry, dict):
            return ""
        entry = entry.get(key)
    return str(entry) if isinstance(entry, (str, int, float)) else ""


def _memory(text: Any, which: str) -> int | None:
    value = amount(text("mem_usage", which, "value"), 1e18)
    scale = MEMORY_UNITS.get(text("mem_usage", which, "unit") or "MB")
    return None if value is None or scale is None else mebibytes(str(value * scale))


# -- both ------------------------------------------------------------------------------------------


def _document(lines: Sequence[str]) -> object:
    """The JSON among `lines`; warnings may stand before it. None when there is none."""
    begins = (at for at, line in enumerate(lines) if line.lstrip().startswith(("{", "[")))
    for at in islice(begins, MAX_BEGINNINGS):
        try:
            return json.JSONDecoder().raw_decode("\n".join(lines[at:]).lstrip())[0]
        except (ValueError, RecursionError):
            continue
    return None


def _gpu(
    index: int,
    *,
    unique: str,
    names: Iterable[str],
    total: int | None,
    used: int | None,
    utilization: float | None,
    heat: Iterable[float | None],
    apps: Sequence[GpuProcess],
) -> Gpu:
    named = (clean(name, 80) for name in names)
    return Gpu(
        index=index,
        uuid=_uuid(unique),
        name=next((name for name in named if name and name != "N/A"), "AMD GPU"),
        memory_total_mib=total,
        memory_used_mib=used,
        utilization_percent=utilization,
        temperature_c=next((degrees for degrees in heat if degrees is not None), None),
        processes=len(apps),
        other_processes=sum(not app.ours for app in apps),
        vendor="amd",
    )


def _uuid(unique: str) -> str:
    """The UUID as ROCR_VISIBLE_DEVICES takes it.

    GPU- and the 64-bit unique id in hexadecimal; "" where the device has none (APUs).
    """
    found = re.fullmatch(r"(?:0x)?([0-9a-f]{1,16})", unique.strip().lower())
    return f"GPU-{found[1].zfill(16)}" if found and int(found[1], 16) else ""
