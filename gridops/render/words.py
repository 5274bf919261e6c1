"""Figures in words, and texts that others wrote made fit to be shown.

Whatever a person gets to see goes through `plain` (a cell: as wide as it was), `printable` (a line
that is said) or `printable_lines`; documents go through `escaped_json` and `spreadsheet_cell`.
"""

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
    """`text` without anything that could steer a terminal, a character for each of its own."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in text)


def printable(text: str) -> str:
    """`text` on one line, with whatever cannot be shown spelt as `ls -b` does: `\\x1b`, `\\n`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """The same, where several lines are meant: their ends stay."""
    return "\n".join(map(printable, text.split("\n")))


def escaped_json(text: str) -> str:
    """A JSON text of the same value in which every character can be shown.

    JSON's own rules leave DEL, C1 and the characters that turn the direction of writing as they
    are. Outside its strings JSON has nothing but ASCII and line ends.
    """
    return "\n".join(
        line
        if line.isprintable()
        else "".join(c if c.isprintable() else _escaped_unit(c) for c in line)
        for line in text.split("\n")
    )


def _escaped_unit(char: str) -> str:
    """As \\uXXXX, twice where UTF-16 needs a pair."""
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def spreadsheet_cell(value: object) -> object:
    """A CSV field that no spreadsheet takes for a formula; numbers, and a lone dash, stay.

    Source: OWASP, "CSV Injection": a text that begins like a formula gets an apostrophe in front.
    """
    if not isinstance(value, str):
        return value
    shown = printable_lines(value)
    return f"'{shown}" if value.startswith(FORMULA) and value != "-" else shown


def rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
