"""Loader of node scripts, which lie beside the modules that send them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


@cache
def script(name: str) -> str:
    """The text of a shell script such as `jobs/job.sh`, without comment lines.

    Comments are for readers of the source; on their way to a thousand nodes they are only weight.
    """
    return re.sub(r"^\s*#.*\n", "", source(name), flags=re.MULTILINE)


def source(name: str) -> str:
    """The text of a file such as `ray/node_ask.py`, whole."""
    return (_PACKAGE / name).read_text(encoding="utf-8")
