"""Texts fit to be shown: figures in words, and what others wrote made harmless.

Whatever a person gets to see goes through `plain` (a cell: as wide as it was), `printable` (a line
that is said) or `printable_lines`; a JSON document goes through `escape_json`.
"""

from __future__ import annotations

from collections.abc import Iterable


def plain(text: str) -> str:
    """Replace each character that could steer a terminal by one `?`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else "?" for c in text)


def printable(text: str) -> str:
    """Put `text` on one line, unprintable characters spelt as `ls -b` does: `\\x1b`, `\\n`."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """Escape several lines as `printable` does: their ends stay."""
    return "\n".join(map(printable, text.split("\n")))


def shorten(names: Iterable[str], most: int = 3, separator: str = ", ") -> str:
    """The first `most` of `names` and the number of the others: `a, b, c and 5 more`."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return separator.join(every[:most]) + more


def escape_json(text: str) -> str:
    """A JSON text of the same value, in printable characters only.

    JSON's own rules leave DEL, C1 and the characters that turn the direction of writing as they
    are. Outside its strings JSON has nothing but ASCII and line ends.
    """
    return "\n".join(
        line
        if line.isprintable()
        else "".join(c if c.isprintable() else _escape_unit(c) for c in line)
        for line in text.split("\n")
    )


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
    """Count with its noun: 1 file, 2 files, 2 processes."""
    plural = "es" if thing.endswith("s") else "s"
    return f"{count} {thing}{'' if count == 1 else plural}"


def _escape_unit(char: str) -> str:
    """A character as \\uXXXX, twice where UTF-16 needs a pair."""
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
