"""Start a run on a node at most once, despite broken connections."""

from __future__ import annotations

import time
from itertools import count
from typing import cast

from gridops.errors import GridError, NodeError, NotStarted, StartUnknown, UnreadableAnswer
from gridops.jobs.client import kill, status
from gridops.jobs.frames import Chunk, unsupported_reason
from gridops.jobs.paths import ID
from gridops.jobs.protocol import (
    RETRY_DELAYS,
    ScriptSession,
    Sleep,
    Tick,
    pause,
)
from gridops.jobs.spec import HEAD, Acknowledgement, JobSpec, StartState
from gridops.reach.link import Link
from gridops.reach.preamble import login_files
from gridops.reach.trust import DANGER

ACK_TIMEOUT = 600.0  # seconds that it may take at all, however often it says something
ACK_SILENCE_TIMEOUT = 90.0  # seconds to an acknowledgement: it may copy a tree, or ask GPU drivers
RETRY_TIMEOUT = 60.0  # seconds that an ambiguous start is tried again

MAX_WORDS = 200  # characters of the node's own words

ELSEWHERE = "elsewhere"  # another node with the same home has the run


def start_job(
    link: Link, spec: JobSpec, *, give_up_after: float = RETRY_TIMEOUT, sleep: Sleep = time.sleep
) -> Acknowledgement:
    """Have the node run `spec`, at most once per id.

    That holds however often this is called with its id. Raises a ReachError or NotStarted when it
    will certainly not run there, StartUnknown when the connection broke on the way and the node
    could not be asked within `give_up_after` seconds.
    """
    return Start(link, spec, give_up_after=give_up_after, sleep=sleep).run()


class Start:
    """The attempts to start one run; `session` is the last one, if it is to be gone on with."""

    def __init__(
        self,
        link: Link,
        spec: JobSpec,
        *,
        attached: bool = False,
        give_up_after: float = RETRY_TIMEOUT,
        tick: Tick | None = None,
        sleep: Sleep = time.sleep,
    ) -> None:
        self.reply: Acknowledgement | None = None
        self.session: ScriptSession | None = None
        self._link = link
        self._spec = spec
        self._attached = attached
        self._upload = spec.upload(link.node.name)
        self._boot = "-"  # a retry is refused when the node has rebooted since the first attempt
        self._ack = ""
        self._ambiguous = False  # an earlier attempt may have arrived
        self._end = time.monotonic() + give_up_after
        self._tick = tick
        self._sleep = sleep

    def run(self) -> Acknowledgement:
        """Try until the node has acknowledged."""
        for tries in count():
            session = self._open()
            try:
                return self._attempt(session)
            except NotStarted:
                raise
            except GridError as exc:
                if self.reply and self.reply.state != "exists":  # that has to be looked at
                    return self.reply
                self._ambiguous = self._ambiguous or session.sent
                if not self._ambiguous:
                    raise
                delay = RETRY_DELAYS.delay(tries)
                if exc.needs_a_person or time.monotonic() + delay > self._end:
                    raise self._unknown(exc) from exc
                pause(delay, self._tick, self._sleep)
            finally:
                if session is not self.session:
                    session.close()
        raise AssertionError  # pragma: no cover

    def _open(self) -> ScriptSession:
        return ScriptSession(
            self._link,
            "run" if self._attached else "start",
            *(self._spec.id, str(len(self._upload) - len(HEAD)), self._boot),
            stdin=self._upload,
            keep_stdin=self._attached and bool(self._spec.hold),
            silence=ACK_SILENCE_TIMEOUT,
            timeout=ACK_TIMEOUT,
        )

    def _attempt(self, session: ScriptSession) -> Acknowledgement:
        """Send the run once. Raises NotStarted for a refusal, another GridError if unclear."""
        for message in session:
            if message is None:
                if self._tick:
                    self._tick()
            elif isinstance(message, Chunk):
                raise UnreadableAnswer("the node sent output that was not asked for")
            elif self.hear(message) and self._attached:
                break  # what follows is for who follows the run
        if not self._ack:
            raise NodeError("it did not say whether it accepted the run", node=self._link.node.name)
        if self._attached and self.reply and self.reply.state != "exists":
            self.session = session
        else:
            session.close()
        return self._verdict()

    def hear(self, line: str) -> bool:
        """Take a line of the node; True if it was the acknowledgement."""
        word, _, rest = line.partition(" ")
        if why := unsupported_reason(line):
            raise NotStarted(why[0], reason=word, node=self._link.node.name, hint=why[1])
        if word == "boot" and self._boot == "-":
            self._boot = rest
        elif word == "ack":
            self._ack = rest
            self.reply = self._positive()
        return word == "ack"

    def _positive(self) -> Acknowledgement | None:
        word, *users = self._ack.split(" ")
        if word in ("started", "held", "queued", "exists"):
            return Acknowledgement(
                self._spec.id, cast(StartState, word), tuple(filter(ID.fullmatch, users))
            )
        return None

    def _verdict(self) -> Acknowledgement:
        if self.reply and self.reply.state != "exists":
            return self.reply
        if self.reply:
            return self._existing(self.reply)
        # An earlier attempt may still arrive: it shall find the id taken.
        if self._ambiguous and self._ack != ELSEWHERE:
            sealed = kill(self._link, self._spec.id, by=self._spec.user, grace=0, wait=5.0)
            if sealed.began:
                return Acknowledgement(self._spec.id, "exists")
        raise self._refusal(self._ack)

    def _existing(self, reply: Acknowledgement) -> Acknowledgement:
        """Check that a taken id was not refused or cancelled."""
        job = status(self._link, [self._spec.id]).get(self._spec.id)
        if job and not job.began and job.state in ("refused", "killed", "lost"):
            raise self._refusal(job.reason)
        return reply

    def _refusal(self, ack: str) -> NotStarted:
        word, *rest = ack.split(" ")
        message, hint = _REFUSALS.get(word, (f"it did not accept the run: {ack[:MAX_WORDS]}", ""))
        if why := unsupported_reason(ack):
            message, hint = why
        if word == "gpus":
            message, hint = self._gpu_trouble(rest[0] if rest else "")
        if word == "snapshot" and rest:
            words = " ".join(rest)
            message, hint = f"the tree was not copied: {words}: {DANGER}", "move remote_root"
        holders = tuple(filter(ID.fullmatch, rest)) if word == "busy" else ()
        if ack == self._ack and word == "busy" and len(holders) < self._spec.slots:
            message = self._short_of()
        return NotStarted(
            message, reason=word, holders=holders, node=self._link.node.name, hint=hint
        )

    def _short_of(self) -> str:
        """Message of a busy node that has a free slot: the resource that is short."""
        if self._spec.gpus == 0:
            return "other runs wait in its queue"
        return "no GPU is free" if self._spec.gpus == 1 else f"{self._spec.gpus} GPUs are not free"

    def _gpu_trouble(self, detail: str) -> tuple[str, str]:
        if detail.isdecimal():
            return f"has {detail} GPUs, but the run needs {self._spec.gpus}", "choose another node"
        return (
            f"its GPU driver's tool {detail[:MAX_WORDS] or 'does not answer'}",
            "run `nvidia-smi` there to see more",
        )

    def _unknown(self, exc: GridError) -> StartUnknown:
        return StartUnknown(
            f"the connection broke while the run was handed over: {exc.message}",
            node=self._link.node.name,
            hint=f"it may run there: `inv jobs.show {self._spec.id}` when the node can be reached",
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
