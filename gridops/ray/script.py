"""Texts of the shell scripts and Python programs that run on nodes."""

from __future__ import annotations

from functools import cache

from gridops.system.scripts import script, source


@cache
def text(name: str) -> str:
    """`name`.sh after the scripts of other packages that it needs.

    These are process.sh (who lives, how a tree of processes is ended) and trust.sh (whose a
    directory is).
    """
    return "\n".join(map(script, ("reach/trust.sh", "jobs/process.sh", f"ray/{name}.sh")))


@cache
def program(name: str) -> bytes:
    """A Python program for a node; it needs nothing but the standard library."""
    return source(f"ray/{name}.py").encode()
