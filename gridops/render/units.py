"""Figures in words, and cells that no spreadsheet takes for a formula."""

from __future__ import annotations

import time

from gridops.system.text import printable_lines


def moment(at: float | None) -> str:
    """Local time to the second."""
    return "-" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


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


FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def spreadsheet_cell(value: object) -> object:
    """A CSV field that no spreadsheet takes for a formula; numbers, and a lone dash, stay.

    Source: OWASP, "CSV Injection": a text that begins like a formula gets an apostrophe in front.
    """
    if not isinstance(value, str):
        return value
    shown = printable_lines(value)
    return f"'{shown}" if value.startswith(FORMULA) and value != "-" else shown


def round_or_none(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
