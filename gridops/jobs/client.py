"""Durable runs on one node: start, look, end, forget.

Every call is one short session of the link. A start may be repeated however often: the id is the
client's, and the node runs an id at most once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import quote

from gridops.errors import (
    AuthenticationFailed,
    GridError,
    HostKeyChanged,
    HostKeyUnknown,
    NodeError,
    NoJob,
    NotStarted,
    StartUnknown,
    UsageError,
)
from gridops.jobs.conversation import Finished, ask, converse
from gridops.jobs.facts import jobs_from
from gridops.jobs.paths import JobPaths, checked
from gridops.jobs.spec import JobSpec, whoami
from gridops.model import Job
from gridops.reach.link import Link
from gridops.retry import RetryConfig

ACK = 90.0  # seconds that a node may take to acknowledge: it may copy a tree, or ask GPU drivers
GIVE_UP = 60.0  # seconds that an ambiguous start is tried again
AFTER_KILL = 7.0  # seconds beyond the grace in which a killed run has ended
DAY = 86400.0
FINAL = (HostKeyUnknown, HostKeyChanged, AuthenticationFailed)  # only a person can mend these
PAUSES = RetryConfig(initial_delay=0.5, max_delay=15.0)


@dataclass(frozen=True, slots=True)
class StartReply:
    """`state` is started (it has its slot), queued, or exists (an earlier attempt had arrived)."""

    id: str
    state: Literal["started", "queued", "exists"]


Sleep = Callable[[float], None]


def start(
    link: Link, spec: JobSpec, *, give_up_after: float = GIVE_UP, sleep: Sleep = time.sleep
) -> StartReply:
    """Have the node run `spec`, at most once however often this is called with its id.

    Raises a ReachError or NotStarted when it will certainly not run there, StartUnknown when the
    connection broke on the way and the node could not be asked within `give_up_after` seconds.
    """
    return Starting(link, spec, give_up_after, sleep).run(_plain_start)


class Starting:
    """The attempts to start one run."""

    def __init__(
        self, link: Link, spec: JobSpec, give_up_after: float = GIVE_UP, sleep: Sleep = time.sleep
    ) -> None:
        self.link = link
        self.spec = spec
        self.upload = spec.run_file(link.node.name)
        self.boot = "-"  # a retry is refused when the node has rebooted since the first attempt
        self.reply: StartReply | None = None
        self._ack = ""
        self._ambiguous = False  # an earlier attempt may have arrived
        self._sent = False  # so may this one
        self._end = time.monotonic() + give_up_after
        self._sleep = sleep

    @property
    def arguments(self) -> tuple[str, str, str]:
        return self.spec.id, str(len(self.upload)), self.boot

    def hear(self, line: str) -> bool:
        """Take a line of the node; whether it was the acknowledgement."""
        word, _, rest = line.partition(" ")
        if word == "unsupported":
            raise NotStarted(
                "durable runs need Linux there",
                node=self.link.node.name,
                hint="`inv exec` does not",
            )
        if word == "boot" and self.boot == "-":
            self.boot = rest
        elif word == "ack":
            self._ack = rest
            self.reply = self._positive()
        return word == "ack"

    def run(self, attempt: Callable[[Starting], None]) -> StartReply:
        """Call `attempt` until the node has acknowledged."""
        for tries in range(1000):
            self._sent = False
            try:
                attempt(self)
                if self._ack:
                    return self._verdict()
                raise NodeError("it did not say whether it took the run", node=self.link.node.name)
            except NotStarted:
                raise
            except GridError as exc:
                if self.reply:
                    return self.reply
                self._ambiguous = self._ambiguous or self._sent
                if not self._ambiguous:
                    raise
                pause = PAUSES.delay(tries)
                if isinstance(exc, FINAL) or time.monotonic() + pause > self._end:
                    raise self._unknown(exc) from exc
                self._sleep(pause)
        raise AssertionError  # pragma: no cover

    def sent(self, maybe: bool) -> None:
        """Whether the node may have got what this attempt sent."""
        self._sent = maybe

    def _positive(self) -> StartReply | None:
        word = self._ack.split(" ")[0]
        if word == "started":
            return StartReply(self.spec.id, "started")
        if word == "queued":
            return StartReply(self.spec.id, "queued")
        return StartReply(self.spec.id, "exists") if word == "exists" else None

    def _verdict(self) -> StartReply:
        if self.reply and self.reply.state != "exists":
            return self.reply
        if self.reply:
            return self._existing(self.reply)
        if self._ambiguous:  # an earlier attempt may still arrive: it shall find the id taken
            sealed = kill(self.link, self.spec.id, by=self.spec.user, grace=0, wait=5.0)
            if sealed.began:
                return StartReply(self.spec.id, "exists")
        raise self._refusal(self._ack)

    def _existing(self, reply: StartReply) -> StartReply:
        """An id that is taken may have been refused or cancelled."""
        job = status(self.link, [self.spec.id]).get(self.spec.id)
        if job and not job.began and job.state in ("refused", "killed", "lost"):
            raise self._refusal(job.reason)
        return reply

    def _refusal(self, ack: str) -> NotStarted:
        word, *rest = ack.split(" ")
        message, hint = _REFUSALS.get(word, (f"it did not take the run: {ack}", ""))
        if word == "gpus":
            message, hint = self._gpu_trouble(rest[0] if rest else "")
        holders = rest if word == "busy" else ()
        return NotStarted(
            message, reason=word, holders=holders, node=self.link.node.name, hint=hint
        )

    def _gpu_trouble(self, detail: str) -> tuple[str, str]:
        if detail.isdecimal():
            return f"has {detail} GPUs, the run needs {self.spec.gpus}", "choose another node"
        return (
            f"its GPU driver's tool {detail or 'does not answer'}",
            "`nvidia-smi` there says more",
        )

    def _unknown(self, exc: GridError) -> StartUnknown:
        return StartUnknown(
            f"the connection broke while the run was handed over: {exc.message}",
            node=self.link.node.name,
            hint=f"it may run there: `inv jobs.show {self.spec.id}` when the node can be reached",
        )


_REFUSALS = {
    "busy": ("all its slots are taken", "--wait queues, `inv jobs` shows who has them"),
    "nothing": (
        "its supervisor could not be started",
        "is there a `setsid`, and room for processes?",
    ),
    "nospace": ("its disk is full", "free some space under ~/.gridops there"),
    "snapshot": ("the tree could not be copied for --isolate", "is its disk full?"),
    "rebooted": ("it rebooted before the run began", "start it again"),
    "cancelled": ("the run was cancelled before it began", ""),
    "killed": ("the run was killed before it began", ""),
    "supervisor": ("the run's supervisor was killed before it began", "start it again"),
}


def _plain_start(starting: Starting) -> None:
    def hear(line: str) -> None:
        if starting.hear(line):
            raise Finished

    converse(
        starting.link,
        "start",
        *starting.arguments,
        on_line=hear,
        stdin=starting.upload,
        silence=ACK,
        sent=starting.sent,
    )


def status(link: Link, ids: Sequence[str]) -> dict[str, Job]:
    """What the node knows of these runs, by id; those it does not know are missing."""
    lines = ask(link, "status", *(checked(job_id) for job_id in ids))
    return jobs_from(_complete(lines, link), link.node.name)


def list_jobs(link: Link) -> tuple[Job, ...]:
    """All runs of the node that were not pruned, oldest first."""
    jobs = jobs_from(_complete(ask(link, "list"), link), link.node.name)
    return tuple(jobs[job_id] for job_id in sorted(jobs))


def show(link: Link, job_id: str) -> Job:
    """A run, with its whole command. Raises NoJob."""
    job = status(link, [job_id]).get(job_id)
    if job is None:
        raise NoJob(
            f"does not know a run {job_id}", node=link.node.name, hint="`inv jobs` lists them"
        )
    lines = ask(link, "read", checked(job_id), "command")
    command = "\n".join(line for line in lines if not line.startswith("boot "))
    return replace(job, command=command) if command else job


def kill(
    link: Link, job_id: str, *, by: str | None = None, grace: int = 10, wait: float | None = None
) -> Job:
    """End a run, its whole process tree, and wait until it has ended (`wait` seconds at most).

    TERM, then KILL after `grace` whole seconds. From the node's answer on this goes on by itself,
    whatever becomes of the connection. An id that was never started never will be. A run that has
    ended already stays as it is. Raises a ReachError.
    """
    patience = grace + AFTER_KILL if wait is None else wait
    lines = ask(
        link,
        "kill",
        checked(job_id),
        str(grace),
        quote(by or whoami(), safe="@")[:200],
        str(round(patience)),
        silence=patience + 30,
    )
    return jobs_from(_complete(lines, link), link.node.name)[job_id]


def prune(link: Link, older_than: float) -> tuple[str, ...]:
    """Forget what ended over `older_than` seconds ago; the ids that went. Never a running one.

    The ids themselves are remembered ten times as long, a day at least: a start that arrives late
    must not run anything.
    """
    if older_than < 0:
        raise UsageError("an age cannot be negative")
    age = round(older_than)
    lines = ask(link, "prune", str(age), str(round(max(age * 10, DAY))), silence=600)
    return tuple(sorted(line[7:] for line in lines if line.startswith("pruned ")))


def using(jobs: Sequence[Job], tree: str) -> tuple[Job, ...]:
    """Those of `jobs` that a sync into `tree` would disturb."""
    return tuple(job for job in jobs if job.active and not job.isolated and job.tree == tree)


def paths(job: Job) -> JobPaths:
    return JobPaths(job.id)


def _complete(lines: list[str], link: Link) -> list[str]:
    if not lines or lines[-1] != "done":
        raise NodeError("its answer was cut short", node=link.node.name)
    return lines
