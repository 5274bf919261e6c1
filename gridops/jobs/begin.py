"""Check that a run's command has begun after its node's `env_setup`."""

from __future__ import annotations

import os
from contextlib import suppress

from gridops.errors import GridError, NotStarted
from gridops.jobs.follow import follow
from gridops.jobs.outcome import SETUP
from gridops.jobs.paths import checked
from gridops.jobs.protocol import call
from gridops.jobs.records import jobs_from
from gridops.model import Job
from gridops.reach.link import Link

SETUP_TIMEOUT = 10  # whole seconds that a run that is left at once is waited for to begin
ANSWER_TIMEOUT = 15.0  # seconds beyond these in which the node must have answered
WORDS_LIMIT = 4096  # bytes of its stderr in which a setup's last words are looked for


def await_begin(link: Link, job_id: str, timeout: int = SETUP_TIMEOUT) -> Job | None:
    """Wait until a run is past its env_setup, `timeout` seconds at most; how it is then.

    None: the node does not know it. Raises a ReachError, NodeError.
    """
    lines = call(link, "begun", checked(job_id), str(timeout), silence=timeout + ANSWER_TIMEOUT)
    return jobs_from(lines, link.node.name).get(job_id)


def setup_failure(link: Link, job: Job) -> NotStarted:
    """Build the NotStarted error of a failed env_setup, with its last words.

    The env_setup kept `job` from beginning.
    """
    said = bytearray()
    with suppress(GridError):  # then without them
        offset = max(0, job.err_bytes - WORDS_LIMIT)
        follow(
            link, job.id, job.out_bytes, offset, on_stdout=_drop, on_stderr=said.extend, live=False
        )
    words = last_words(os.fsdecode(bytes(said)))
    return NotStarted(
        f"its env_setup failed{f': {words}' if words else ''}",
        reason=SETUP,
        node=link.node.name,
        hint=f"the command did not begin; see `inv jobs.logs {job.id}`",
    )


def last_words(text: str) -> str:
    """The last line that a setup said, fit for a message: not what we add to it."""
    lines = [line.strip() for line in text.splitlines()]
    said = [line for line in lines if line and not line.startswith("gridops: env_setup failed")]
    return "".join(char for char in said[-1] if char.isprintable())[:200] if said else ""


def _drop(data: bytes) -> None:
    pass
