"""The shell by which scripts on a node ask whether a directory is ours alone: `trust.sh`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

# What follows from the trouble that it finds, for messages.
DANGER = "whoever may write there could run programs as you"


@cache
def text() -> str:
    """The functions, to begin a script with."""
    return Path(__file__).with_name("trust.sh").read_text(encoding="utf-8")
