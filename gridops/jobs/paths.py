"""Paths of a run's files on its node. Nothing else in Python spells these names.

The tilde is the node's home directory; login shells, rsync and job.sh all read it so.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gridops.errors import UsageError

BASE = "~/.gridops"
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


def script(digest: str) -> str:
    """The node's copy of the script, named after its content."""
    return f"{BASE}/lib/{digest}.sh"


def check_id(job_id: str) -> str:
    """`job_id`, if it can be one. Raises UsageError."""
    if not ID.fullmatch(job_id):
        raise UsageError(f"{job_id!r} is not the id of a run")
    return job_id


@dataclass(frozen=True, slots=True)
class JobPaths:
    """One run's directory and its contents."""

    id: str

    @property
    def directory(self) -> str:
        return f"{BASE}/jobs/{self.id}"

    @property
    def stdout(self) -> str:
        return f"{self.directory}/out"

    @property
    def stderr(self) -> str:
        return f"{self.directory}/err"

    @property
    def command(self) -> str:
        return f"{self.directory}/spec/command"

    @property
    def diff(self) -> str:
        """The uncommitted changes that the run was started with."""
        return f"{self.directory}/spec/diff"

    @property
    def tree(self) -> str:
        """The snapshot of its tree, when it is isolated."""
        return f"{self.directory}/tree"
