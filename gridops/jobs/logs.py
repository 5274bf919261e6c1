"""Come back to a run: hand on its output, wait for its beginning or its end."""

from __future__ import annotations

import os
import time
from contextlib import suppress

from gridops.errors import GridError, NotStarted, RunTimeout, UnreadableAnswer
from gridops.jobs.follow import JobEnd, follow, follow_through, tail_offset
from gridops.jobs.outcome import SETUP
from gridops.jobs.paths import check_id
from gridops.jobs.protocol import call
from gridops.jobs.records import jobs_from
from gridops.model import Job
from gridops.observe import events
from gridops.reach.link import Link
from gridops.reach.pump import Sink

LOOK_TIMEOUT = 2.0  # seconds
SETUP_TIMEOUT = 10  # whole seconds that a run that is left at once is waited for to begin
BEGIN_ANSWER_TIMEOUT = 15.0  # seconds beyond these in which the node must have answered
WORDS_LIMIT = 4096  # bytes of its stderr in which a setup's last words are looked for
BEYOND = 1 << 53  # an offset past any output: nothing of that stream is sent


def logs(
    link: Link,
    job_id: str,
    *,
    on_stdout: Sink | None,
    on_stderr: Sink | None,
    live: bool = False,
    tail: int | None = None,
) -> JobEnd:
    """Hand on the run's output so far; with `live` also what it prints until it ends.

    A sink that is None gets nothing, and nothing of its stream travels. `tail`: only the last so
    many lines of each, and with `live` what follows on them. With `live` broken connections are
    made anew for as long as it takes. Raises what `follow` and `follow_through` raise.
    """
    out = _first_byte(link, job_id, "out", on_stdout, tail)
    err = _first_byte(link, job_id, "err", on_stderr, tail)
    to = follow_through if live else _follow_once
    end = to(link, job_id, out, err, on_stdout=on_stdout or _refuse, on_stderr=on_stderr or _refuse)
    if not end.job.command and end.job.out_bytes + end.job.err_bytes:
        events.emit(events.WARNING, message=f"the output of the run {job_id} was pruned")
    return end


def wait(
    link: Link, job_id: str, *, timeout: float | None = None, since: float | None = None
) -> Job:
    """Wait for a run to end. Raises RunTimeout after `timeout` seconds; the run goes on.

    They count from `since`, if given, but leave LOOK_TIMEOUT seconds to hear how it is now.
    """
    now = time.monotonic()
    end = None
    if timeout is not None:
        end = max((now if since is None else since) + timeout, now + min(timeout, LOOK_TIMEOUT))

    def look_at_the_clock() -> None:
        if end is not None and time.monotonic() > end:
            raise RunTimeout(
                f"the run {job_id} has not ended within {timeout:g} s; it goes on",
                node=link.node.name,
                hint=f"follow it by `inv jobs.logs {job_id} --follow`",
            )

    return follow_through(
        link,
        job_id,
        BEYOND,
        BEYOND,
        on_stdout=_refuse,
        on_stderr=_refuse,
        tick=look_at_the_clock,
    ).job


def await_begin(link: Link, job_id: str, timeout: int = SETUP_TIMEOUT) -> Job | None:
    """Wait until a run is past its env_setup, `timeout` seconds at most; how it is then.

    None: the node does not know it. Raises a ReachError, NodeError.
    """
    lines = call(
        link, "begun", check_id(job_id), str(timeout), silence=timeout + BEGIN_ANSWER_TIMEOUT
    )
    return jobs_from(lines, link.node.name).get(job_id)


def setup_failure(link: Link, job: Job) -> NotStarted:
    """Build the NotStarted error of a failed env_setup, with its last words.

    The env_setup kept `job` from beginning.
    """
    said = bytearray()
    with suppress(GridError):  # then without them
        offset = max(0, job.err_bytes - WORDS_LIMIT)
        follow(
            link,
            job.id,
            job.out_bytes,
            offset,
            on_stdout=_ignore,
            on_stderr=said.extend,
            live=False,
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


def _first_byte(link: Link, job_id: str, stream: str, sink: Sink | None, tail: int | None) -> int:
    if sink is None:
        return BEYOND
    return 0 if tail is None else tail_offset(link, job_id, stream, tail)


def _follow_once(
    link: Link, job_id: str, out: int, err: int, *, on_stdout: Sink, on_stderr: Sink
) -> JobEnd:
    return follow(link, job_id, out, err, on_stdout=on_stdout, on_stderr=on_stderr, live=False)


def _refuse(data: bytes) -> None:
    raise UnreadableAnswer("the node sent output that was not asked for")


def _ignore(data: bytes) -> None:
    pass
