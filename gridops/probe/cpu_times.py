"""Cache of CPU times: it spares a probe the wait between two readings.

The busy share takes two readings of /proc/stat. When one of the last seconds is known, from this
process or an earlier one, the node is spared the wait between two new ones, and the share is that
of the time since. They are kept beside the control sockets, in `runtime_dir()`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from contextlib import suppress

from gridops.errors import GridError
from gridops.model import Node
from gridops.reach.link import runtime_dir
from gridops.system.files import write_atomic

SAMPLE_MAX_AGE = 5.0  # seconds: what was before that is not "now"
CPU_LINE = re.compile(r"cpu( +\d{1,19}){5,12}")


class Samples:
    """The last reading of each node: /proc/stat's line `cpu …`, and when it came."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._found: dict[str, tuple[float, str]] = {}
        with suppress(OSError, ValueError, GridError, TypeError, AttributeError):
            kept = json.loads((runtime_dir() / "cpu").read_bytes())
            self._found = {key: (float(at), str(line)) for key, (at, line) in kept.items()}

    def recent(self, node: Node, window: float) -> str:
        """The node's reading if it is from `window` to SAMPLE_MAX_AGE seconds old; else ""."""
        at, line = self._found.get(_key(node), (0.0, ""))
        fits = window <= self._clock() - at <= SAMPLE_MAX_AGE and CPU_LINE.fullmatch(line)
        return line if fits else ""

    def add(self, node: Node, line: str) -> None:
        self._found[_key(node)] = (self._clock(), line)

    def save(self) -> None:
        """Keep the readings for the next process. That they cannot be kept does not matter."""
        now = self._clock()
        fresh = {
            key: found
            for key, found in self._found.copy().items()
            if now - found[0] <= SAMPLE_MAX_AGE
        }
        with suppress(OSError, GridError):
            write_atomic(runtime_dir() / "cpu", json.dumps(fresh).encode())


def _key(node: Node) -> str:
    return f"{node.connection} {node.user or ''}@{node.host}:{node.port or ''}"
