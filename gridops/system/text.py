"""Texts that others wrote, made fit to be shown.

Whatever a person gets to see goes through `plain` (a cell: as wide as it was), `printable` (a line
that is said) or `printable_lines`; a JSON document goes through `escaped_json`.
"""

from __future__ import annotations


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
