"""Figures in words."""

from __future__ import annotations


def size(count: float) -> str:
    """Bytes in words: 0 B, 12.3 kB, 1.5 GB (powers of 1000)."""
    if abs(count) < 1000:
        return f"{count:.0f} B"
    for unit in ("kB", "MB", "GB"):
        count /= 1000
        if abs(count) < 999.95:
            return f"{count:.1f} {unit}"
    return f"{count / 1000:.1f} TB"


def number_of(count: int, thing: str) -> str:
    """1 file, 2 files."""
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}%"


def duration(seconds: float | None) -> str:
    """Seconds in words: 0.4s, 12s, 3m10s, 2h05m, 5d03h."""
    if seconds is None:
        return "-"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02}h"


def plain(text: str) -> str:
    """`text` without anything that could steer a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in text)


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
