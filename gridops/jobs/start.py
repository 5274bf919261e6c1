"""Start a run on a node at most once, despite broken connections."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import Literal, cast

from gridops.errors import GridError, NodeError, NotStarted, StartUnknown
from gridops.jobs.ending import kill
from gridops.jobs.looking import status
from gridops.jobs.paths import ID
from gridops.jobs.protocol import PAUSES, Sleep, request, unsupported_reason
from gridops.jobs.spec import HEAD, JobSpec
from gridops.reach.link import Link
from gridops.reach.preamble import login_files
from gridops.reach.trust import DANGER

ACK_TIMEOUT = 600.0  # seconds that it may take at all, however often it says something
ACK_SILENCE_TIMEOUT = 90.0  # seconds to an acknowledgement: it may copy a tree, or ask GPU drivers
RETRY_TIMEOUT = 60.0  # seconds that an ambiguous start is tried again

SHOWN = 200  # characters of the node's own words

ELSEWHERE = "elsewhere"  # another node with the same home has the run

StartState = Literal["started", "held", "queued", "exists"]


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Answer of a node to a start.

    `state`: started or held (it has its slot), queued, or exists (an earlier attempt came).
    `users` are the other runs that use its directory, as a node tells that holds a slot for it.
    """

    id: str
    state: StartState
    users: tuple[str, ...] = ()


def start(
    link: Link, spec: JobSpec, *, give_up_after: float = RETRY_TIMEOUT, sleep: Sleep = time.sleep
) -> Acknowledgement:
    """Have the node run `spec`, at most once per id.

    That holds however often this is called with its id. Raises a ReachError or NotStarted when it
    will certainly not run there, StartUnknown when the connection broke on the way and the node
    could not be asked within `give_up_after` seconds.
    """
    return Start(link, spec, give_up_after, sleep).run(_plain_start)


class Start:
    """The attempts to start one run."""

    def __init__(
        self,
        link: Link,
        spec: JobSpec,
        give_up_after: float = RETRY_TIMEOUT,
        sleep: Sleep = time.sleep,
    ) -> None:
        self.link = link
        self.spec = spec
        self.upload = spec.upload(link.node.name)
        self.boot = "-"  # a retry is refused when the node has rebooted since the first attempt
        self.reply: Acknowledgement | None = None
        self._ack = ""
        self._ambiguous = False  # an earlier attempt may have arrived
        self._sent = False  # so may this one
        self._end = time.monotonic() + give_up_after
        self._sleep = sleep

    @property
    def arguments(self) -> tuple[str, str, str]:
        return self.spec.id, str(len(self.upload) - len(HEAD)), self.boot

    def hear(self, line: str) -> bool:
        """Take a line of the node; True if it was the acknowledgement."""
        word, _, rest = line.partition(" ")
        if why := unsupported_reason(line):
            raise NotStarted(why[0], reason=word, node=self.link.node.name, hint=why[1])
        if word == "boot" and self.boot == "-":
            self.boot = rest
        elif word == "ack":
            self._ack = rest
            self.reply = self._positive()
        return word == "ack"

    def run(self, attempt: Callable[[Start], None]) -> Acknowledgement:
        """Call `attempt` until the node has acknowledged."""
        for tries in count():
            self._sent = False
            try:
                attempt(self)
                if self._ack:
                    return self._verdict()
                raise NodeError("it did not accept the run", node=self.link.node.name)
            except NotStarted:
                raise
            except GridError as exc:
                if self.reply and self.reply.state != "exists":  # that has to be looked at
                    return self.reply
                self._ambiguous = self._ambiguous or self._sent
                if not self._ambiguous:
                    raise
                pause = PAUSES.delay(tries)
                if exc.needs_a_person or time.monotonic() + pause > self._end:
                    raise self._unknown(exc) from exc
                self._sleep(pause)
        raise AssertionError  # pragma: no cover

    def sent(self, maybe: bool) -> None:
        """Note whether this attempt's input may have reached the node."""
        self._sent = maybe

    def _positive(self) -> Acknowledgement | None:
        word, *users = self._ack.split(" ")
        if word in ("started", "held", "queued", "exists"):
            return Acknowledgement(
                self.spec.id, cast(StartState, word), tuple(filter(ID.fullmatch, users))
            )
        return None

    def _verdict(self) -> Acknowledgement:
        if self.reply and self.reply.state != "exists":
            return self.reply
        if self.reply:
            return self._existing(self.reply)
        # An earlier attempt may still arrive: it shall find the id taken.
        if self._ambiguous and self._ack != ELSEWHERE:
            sealed = kill(self.link, self.spec.id, by=self.spec.user, grace=0, wait=5.0)
            if sealed.began:
                return Acknowledgement(self.spec.id, "exists")
        raise self._refusal(self._ack)

    def _existing(self, reply: Acknowledgement) -> Acknowledgement:
        """Check that a taken id was not refused or cancelled."""
        job = status(self.link, [self.spec.id]).get(self.spec.id)
        if job and not job.began and job.state in ("refused", "killed", "lost"):
            raise self._refusal(job.reason)
        return reply

    def _refusal(self, ack: str) -> NotStarted:
        word, *rest = ack.split(" ")
        message, hint = _REFUSALS.get(word, (f"it did not accept the run: {ack[:SHOWN]}", ""))
        if why := unsupported_reason(ack):
            message, hint = why
        if word == "gpus":
            message, hint = self._gpu_trouble(rest[0] if rest else "")
        if word == "snapshot" and rest:
            words = " ".join(rest)
            message, hint = f"the tree was not copied: {words}: {DANGER}", "move remote_root"
        holders = tuple(filter(ID.fullmatch, rest)) if word == "busy" else ()
        if ack == self._ack and word == "busy" and len(holders) < self.spec.slots:
            message = self._short_of()
        return NotStarted(
            message, reason=word, holders=holders, node=self.link.node.name, hint=hint
        )

    def _short_of(self) -> str:
        """Message of a busy node that has a free slot: the resource that is short."""
        if self.spec.gpus == 0:
            return "other runs wait in its queue"
        return "no GPU is free" if self.spec.gpus == 1 else f"{self.spec.gpus} GPUs are not free"

    def _gpu_trouble(self, detail: str) -> tuple[str, str]:
        if detail.isdecimal():
            return (
                f"has {detail} GPUs, but the run needs {self.spec.gpus}",
                "choose another node",
            )
        return (
            f"its GPU driver's tool {detail[:SHOWN] or 'does not answer'}",
            "run `nvidia-smi` there to see more",
        )

    def _unknown(self, exc: GridError) -> StartUnknown:
        return StartUnknown(
            f"the connection broke while the run was handed over: {exc.message}",
            node=self.link.node.name,
            hint=f"it may run there: `inv jobs.show {self.spec.id}` when the node can be reached",
        )


_REFUSALS = {
    "busy": ("all its slots are taken", "`inv jobs` shows who has them"),
    ELSEWHERE: ("another node with the same home has the run", ""),
    "nothing": (
        "its supervisor could not be started",
        "check that it has `setsid`, and room for processes",
    ),
    "cut": (
        "its login reads part of the run's script, so the run was not started",
        f"see {login_files('')} there",
    ),
    "nospace": ("its disk is full", "free some space under ~/.gridops there"),
    "error": ("its supervisor failed before the run began", "check whether its disk is full"),
    "setup": ("its env_setup failed", "the run's output says why"),
    "snapshot": ("the tree could not be copied for --isolate", "check whether its disk is full"),
    "shutdown": (
        "it ended the run's processes before the run began, as at a shutdown",
        "start it again",
    ),
    "rebooted": ("it rebooted before the run began", "start it again"),
    "cancelled": ("the run was cancelled before it began", ""),
    "killed": ("the run was killed before it began", ""),
    "supervisor": ("the run's supervisor was killed before it began", "start it again"),
}


def _plain_start(starting: Start) -> None:
    def hear(line: str) -> None:
        starting.hear(line)

    request(
        starting.link,
        "start",
        *starting.arguments,
        on_line=hear,
        stdin=starting.upload,
        silence=ACK_SILENCE_TIMEOUT,
        timeout=lambda: ACK_TIMEOUT,
        sent=starting.sent,
    )
