"""Patterns of files to fetch: paths and wildcards, in the run's directory or elsewhere on its node.

`*`, `?` and `[…]` mean what they mean to a shell, so they match no slash and no leading dot; `**`
stands for any number of directories. A directory is brought with all that is in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gridops.errors import UsageError
from gridops.transfers.names import is_private

WILD = re.compile(r"[*?\[]")
_ESCAPED = re.compile(r"\\([*?\[])")  # to shells that differ about it, a bracket says the same


@dataclass(frozen=True, slots=True)
class Pattern:
    """One --fetch PATTERN."""

    text: str  # as it was given
    base: str  # where it begins: absolute, or ~ or ~/…; "": the run's directory
    glob: str  # below that: names and wildcards, one slash between two

    def covers(self, name: str) -> bool:
        """True if `name` can match, as the node says that it does.

        The node has done the matching; this only holds it to the names that were asked for.
        """
        return _covers(self.glob.split("/"), name.split("/"))


def parse(text: str) -> Pattern:
    """Parse one pattern. Raises UsageError."""
    if not text or "\0" in text:
        raise UsageError(f"{text!r} names no file", hint="give one such as 'results/*.json'")
    names = _names(text)
    if not text.startswith("/") and text != "~" and not text.startswith("~/"):
        return _pattern(text, "", names or ["."])
    begin, names = ("", names) if text.startswith("/") else ("~", names[1:])
    if not names:
        raise UsageError(f"{text!r} matches the whole file system", hint="name files in it")
    fixed = next((at for at, name in enumerate(names) if WILD.search(name)), len(names) - 1)
    base = "/".join([begin, *names[:fixed]]) or "/"
    return _pattern(text, base, names[fixed:])


def _pattern(text: str, base: str, names: Sequence[str]) -> Pattern:
    private = next(filter(is_private, names), None)
    if private:
        raise UsageError(f"{text!r}: {private} cannot be fetched", hint="name other files")
    return Pattern(text, base, "/".join(names))


def check_patterns(patterns: Iterable[str]) -> tuple[str, ...]:
    """The patterns, each once, if all of them make sense. Raises UsageError."""
    found = tuple(dict.fromkeys(patterns))
    for text in found:
        parse(text)
    return found


def _names(text: str) -> list[str]:
    names = [name for name in text.split("/") if name not in ("", ".")]
    if ".." in names:
        raise UsageError(
            f"{text!r} leads out of the run's directory",
            hint="begin it with / or ~/ to name files anywhere on the node",
        )
    names = [_ESCAPED.sub(r"[\1]", name) if WILD.search(name) else name for name in names]
    names = [n for at, n in enumerate(names) if n != "**" or names[at - 1 : at] != ["**"]]
    if names and names[-1] == "**":
        names[-1] = "*"
    return names


def _covers(globs: Sequence[str], names: Sequence[str]) -> bool:
    if not globs or not names:
        return not globs and not names
    if globs[0] == "**":
        return _covers(globs[1:], names) or (_plain(names[0]) and _covers(globs, names[1:]))
    fits = globs[0] == names[0] or (bool(WILD.search(globs[0])) and _plain(names[0]))
    return fits and _covers(globs[1:], names[1:])


def _plain(name: str) -> bool:
    return name not in ("", ".", "..")


@dataclass
class Group:
    """Names to bring from one directory of the node. They are relative to it."""

    base: str  # absolute
    names: list[str] = field(default_factory=list)  # as they are
    copied: list[str] = field(default_factory=list)  # symlinks: the files that they lead to

    @property
    def empty(self) -> bool:
        return not self.names and not self.copied
