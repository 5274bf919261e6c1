"""Names of files: how rsync and people spell them, and those that are each machine's own.

No fetch brings what is a machine's own, in any file system's spelling.

A repository (`.git`, directory or file) names programs that git starts for whoever asks in it; in
`.gridops` lies what gridops believes of a directory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from gridops.system import text
from gridops.transfers.record import STATE_NAME

PRIVATE = (".git", STATE_NAME)
# rsync's patterns for them, at any depth and in any case.
PATTERNS = tuple(
    "".join(f"[{c}{c.upper()}]" if c.isalpha() else c for c in name) for name in PRIVATE
)

# What HFS+ passes over in a name.
# Source: git's utf8.c, next_hfs_char().
_IGNORED = dict.fromkeys(
    [*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF]
)
REPOSITORY = ("head", "commondir", "objects", "refs")  # what makes a directory one, to git
_RSYNC_ESCAPE = re.compile(rb"\\#([0-3][0-7]{2})")
_SHORT = ("git~1", "gridop~1")  # as NTFS and FAT call them as well


def is_below(name: str) -> bool:
    """True if `name` lies in the directory that it is relative to."""
    parts = name.removesuffix("/").split("/")
    return name == "." or not any(part in ("", ".", "..") for part in parts)


def is_private(name: str) -> bool:
    """True if some file system reads a name (no path) as private: `.GIT`, `GIT~1`."""
    plain = name.partition(":")[0].translate(_IGNORED).rstrip(" .").lower()
    return plain in PRIVATE or plain in _SHORT


def holds_private(names: Iterable[str]) -> bool:
    """True if one of a path's names is private."""
    return any(map(is_private, names))


def is_repository(names: Iterable[str]) -> bool:
    """True if these entries make a directory a (bare) repository to git."""
    found = {name.lower() for name in names}
    return "head" in found and ("commondir" in found or {"objects", "refs"} <= found)


def unescape(text: bytes) -> bytes:
    """Turn a name as rsync prints it into the name's own bytes."""
    return _RSYNC_ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), text)


def printable(name: bytes) -> str:
    """A name for people, on one line: escaped as `ls -b` does where it cannot be shown."""
    return text.printable(name.decode("utf-8", "backslashreplace"))
