"""The shell that runs on nodes: what it needs of the jobs' part, and one of ours."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from gridops.jobs import script as jobs


@cache
def text(name: str) -> str:
    """`name`.sh after what it needs of others: process.sh (who lives, how a tree of processes is
    ended) and trust.sh (whose a directory is)."""
    whole = f"{jobs.part('trust')}\n{jobs.part('process')}\n{_read(f'{name}.sh')}"
    return re.sub(r"^\s*#.*\n", "", whole, flags=re.MULTILINE)


@cache
def program(name: str) -> bytes:
    """A Python program for a node; it needs nothing but the standard library."""
    return _read(f"{name}.py").encode()


def _read(name: str) -> str:
    return files("gridops.ray").joinpath(name).read_text(encoding="utf-8")
