"""Output of pip or uv: its progress in a word or two, and the reason when it fails."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

from gridops.errors import ClusterError

STEPS = re.compile(r"(Collecting|Downloading|Building wheel for|Installing collected|Preparing)\b")
ERROR = re.compile(r"\s*(?:(?:ERROR|cause|hint|OSError)\b:?|×|╰─▶)\s*(.+)", re.IGNORECASE)
MAX_KEPT_LINES = 40  # lines
# What pip says, and what to do about it.
REMEDIES = (
    (
        r"No matching distribution|No solution found|Could not find a version",
        "check that this Ray exists for this Python and machine; ray.python chooses another Python",
    ),
    (
        r"NewConnectionError|ConnectTimeout|Could not fetch|Name or service|Temporary failure|"
        r"Network is unreachable|dns error|Failed to fetch",
        "check that the node reaches the package index; else bring wheels by --wheelhouse DIR, "
        "or set another index in ray.pip_args",
    ),
    (r"No space left|quota exceeded", "free some space under remote_root, or move remote_root"),
    (r"unknown option|no such option|unexpected argument", "ray.pip_args"),
    (r"ensurepip|venv", "install python3-venv or uv there"),
)


class Pip:
    """Reader of the lines of install.sh."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self._progress = progress
        self._lines: deque[str] = deque(maxlen=MAX_KEPT_LINES)

    def __call__(self, line: str) -> None:
        word, _, said = line.partition(" ")
        if word == "step":
            self._progress(said)
        elif word == "pip":
            self._lines.append(said)
            if STEPS.match(said.strip()):
                self._progress(" ".join(said.split()[:2])[:60])

    def explain(self, error: ClusterError, wheelhouse: bool) -> ClusterError:
        """Add pip's own reason and a remedy to the error."""
        reason = self._reason()
        whole = "\n".join(self._lines)
        hint = error.hint or next(
            (remedy for pattern, remedy in REMEDIES if re.search(pattern, whole, re.IGNORECASE)), ""
        )
        if wheelhouse and re.search("No matching|No solution", whole):
            hint = "the wheelhouse lacks it: run pip download for the nodes' Python and machine"
        message = f"{error.message}: {reason}" if reason else error.message
        return ClusterError(message, node=error.node, hint=hint)

    def _reason(self) -> str:
        told = [match[1] for line in self._lines if (match := ERROR.match(line))]
        last = told[-1] if told else next((line for line in reversed(self._lines) if line), "")
        return " ".join(last.split())[:300]
