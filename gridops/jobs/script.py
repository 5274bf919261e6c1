"""The script that runs on nodes: its parts joined into one, and its name."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

PARTS = ("process", "lease", "gpu", "look", "stop", "watch", "job")  # the last one calls main


@cache
def text() -> bytes:
    return b"\n".join(_read(f"{part}.sh").encode() for part in PARTS)


@cache
def checksum() -> str:
    """SHA-256, in hex."""
    return hashlib.sha256(text()).hexdigest()


def digest() -> str:
    """The name of this version of the script on a node."""
    return checksum()[:16]


@cache
def installer() -> str:
    return _read("install.sh")


def _read(name: str) -> str:
    return files("gridops.jobs").joinpath(name).read_text(encoding="utf-8")
