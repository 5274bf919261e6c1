"""Names that are each machine's own: no fetch brings them, in any file system's spelling.

A repository (`.git`, directory or file) names programs that git starts for whoever asks in it; in
`.gridops` lies what gridops believes of a directory.
"""

from __future__ import annotations

from collections.abc import Iterable

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
_SHORT = ("git~1", "gridop~1")  # as NTFS and FAT call them as well


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
