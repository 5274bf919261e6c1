"""Come back to a run: hand on its output, wait for its end."""

from __future__ import annotations

import time

from gridops.errors import RunTimeout, UnreadableAnswer
from gridops.jobs.follow import JobEnd, follow, follow_through, tail_offset
from gridops.model import Job
from gridops.observe import events
from gridops.reach.link import Link
from gridops.reach.pump import Sink

ANSWER_TIMEOUT = 2.0  # seconds
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

    They count from `since`, if given, but leave ANSWER_TIMEOUT seconds to hear how it is now.
    """
    now = time.monotonic()
    end = None
    if timeout is not None:
        end = max((now if since is None else since) + timeout, now + min(timeout, ANSWER_TIMEOUT))

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
