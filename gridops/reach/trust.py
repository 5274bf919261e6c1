"""The shell by which scripts on a node ask whether a directory is ours alone: `trust.sh`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

# What follows from the trouble that it finds, for messages.
DANGER = "whoever may write there could run programs as you"


@cache
def text() -> str:
    """The functions, to begin a script with."""
    return files("gridops.reach").joinpath("trust.sh").read_text(encoding="utf-8")
