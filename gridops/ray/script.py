"""The shell that runs on nodes: what it needs of the jobs' part, and one of ours."""

from __future__ import annotations

from functools import cache

from gridops.system.scripts import script, source


@cache
def text(name: str) -> str:
    """`name`.sh after what it needs of others: process.sh (who lives, how a tree of processes is
    ended) and trust.sh (whose a directory is)."""
    return "\n".join(map(script, ("reach/trust.sh", "jobs/process.sh", f"ray/{name}.sh")))


@cache
def program(name: str) -> bytes:
    """A Python program for a node; it needs nothing but the standard library."""
    return source(f"ray/{name}.py").encode()
