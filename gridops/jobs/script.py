"""The script that runs on nodes: its parts joined into one, and its name."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from gridops.reach import trust
from gridops.reach.preamble import become, preamble, shield

PARTS = (
    "login",
    "trust",
    "process",
    "lease",
    "tree",
    "gpu",
    "look",
    "stop",
    "watch",
    "job",
)  # the last calls main


@cache
def text() -> bytes:
    parts = (preamble('exec "$BASH" -p "$0" "$@"'), shield(), become(), *map(part, PARTS))
    return "\n".join(parts).encode()


@cache
def checksum() -> str:
    """SHA-256, in hex."""
    return hashlib.sha256(text()).hexdigest()


def digest() -> str:
    """The name of this version of the script on a node."""
    return checksum()[:16]


@cache
def installer() -> str:
    return part("install")


def part(name: str) -> str:
    """One part's text."""
    if name == "trust":
        return trust.text()
    return files("gridops.jobs").joinpath(f"{name}.sh").read_text(encoding="utf-8")
