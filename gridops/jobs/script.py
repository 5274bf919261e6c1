"""The script that runs on nodes: its parts joined into one, and its name."""

from __future__ import annotations

import hashlib
from functools import cache

from gridops.reach.preamble import become, preamble, shield
from gridops.system import scripts

PARTS = (
    "jobs/login.sh",
    "reach/trust.sh",
    "jobs/process.sh",
    "jobs/lease.sh",
    "jobs/tree.sh",
    "jobs/gpu.sh",
    "jobs/look.sh",
    "jobs/stop.sh",
    "jobs/watch.sh",
    "jobs/job.sh",
)  # the last calls main


@cache
def text() -> bytes:
    ours = preamble('exec "$BASH" -p "$0" "$@"'), shield(), become()
    return "\n".join((*ours, *map(scripts.script, PARTS))).encode()


@cache
def checksum() -> str:
    """SHA-256 of the script, in hex."""
    return hashlib.sha256(text()).hexdigest()


def digest() -> str:
    """The name of this version of the script on a node."""
    return checksum()[:16]


def installer() -> str:
    """The script that puts `text` in its place on a node."""
    return scripts.script("jobs/install.sh")
