"""One question to a node's copy of the script, over any Link.

The script stays on the node under the hash of its content, so that a warm call sends only a command
of plain words. Where it is missing it is placed first.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from gridops.errors import (
    ConnectionLost,
    NodeError,
    NodeTimeout,
    ProcessKilled,
    UnreadableAnswer,
)
from gridops.jobs import script
from gridops.jobs.frames import DONE, Frames, OnLine, OnPiece
from gridops.jobs.paths import BASE
from gridops.jobs.paths import script as script_path
from gridops.reach.answers import Limit
from gridops.reach.link import Link, Process
from gridops.reach.preamble import no_shell
from gridops.reach.pump import Prelude, marker, pump
from gridops.retry import RetryConfig

CONNECT_TIMEOUT = 20.0  # seconds that a session may take to open
SILENCE_TIMEOUT = 15.0  # seconds without a sign of life (one comes every 2): a dead connection
BEGIN_TIMEOUT = 30.0  # seconds that a login shell may take until the script speaks
INSTALL_TIMEOUT = 60.0  # seconds
CUTS = (0.0, 0.05, 0.1, 0.2, 0.4)  # seconds before what may be repeated is tried again
ANSWER_TIMEOUT = 60.0  # seconds, beyond the silence that is allowed, that an answer may take
ANSWER_LIMIT = Limit(lines=20_000, bytes=8 * 1024 * 1024)
# Between pieces of output come few lines, but for as long as a run lives.
FOLLOW_LIMIT = Limit(lines=1000, bytes=8 * 1024 * 1024, rate=20.0)

# What needs no quotes in any shell: the login shell may be csh or fish.
PLAIN = re.compile(r"[A-Za-z0-9@%+:,./_-]+")

PAUSES = RetryConfig(initial_delay=0.5, max_delay=15.0)

T = TypeVar("T")
Tick = Callable[[], None]
Sleep = Callable[[float], None]


class Finished(Exception):
    """Exception of a listener that needs nothing more."""


class Speaker:
    """Channel for a listener's last words to a node during the conversation."""

    def __init__(self) -> None:
        self.process: Process | None = None

    def say(self, words: bytes) -> None:
        """Say a few words, and that no more come; whether they arrive the answer will tell."""
        if self.process:
            with suppress(OSError):
                os.write(self.process.stdin, words)
            self.process.close_stdin()


def request(
    link: Link,
    verb: str,
    *args: str,
    on_line: OnLine,
    on_piece: OnPiece | None = None,
    stdin: bytes = b"",
    silence: float | Callable[[], float] = SILENCE_TIMEOUT,
    timeout: Callable[[], float] = lambda: math.inf,
    limit: Limit = FOLLOW_LIMIT,
    tick: Tick | None = None,
    sent: Callable[[bool], None] | None = None,
    speaker: Speaker | None = None,
) -> None:
    """Call `verb` of the script with plain-word `args`; lines and pieces go to the listeners.

    `tick` is called a few times a second; what it raises ends the conversation. `sent` is told True
    as soon as the node may have got our words, False when it is certain that nobody read them. With
    a `speaker` the node's input stays open, until something is said through it.
    Raises a ReachError when the node cannot be reached, NodeTimeout after `silence` seconds without
    a byte or `timeout` in all, UnreadableAnswer for lines beyond `limit`, NodeError when the script
    cannot be had there, ConnectionLost when the connection broke.
    """

    def hear(line: str) -> None:
        on_line(line)
        if why := unsupported_reason(line):
            raise NodeError(why[0], node=link.node.name, hint=why[1])

    def frames() -> Frames:
        return Frames(hear, on_piece or _no_piece, limit)

    call = _Call(link, verb, args, stdin, frames, silence, timeout, tick, speaker)
    tell = sent or _nothing
    if not call.run(tell):
        tell(False)
        install(link)
        if not call.run(tell):
            tell(False)
            raise call.mute()


def unsupported_reason(line: str) -> tuple[str, str] | None:
    """Parse the line of a node that can have no durable runs.

    Returns why, and what to do; None if this is no such line.
    """
    word, _, rest = line.partition(" ")
    if line == "unsupported":
        return "runs need Linux, which it does not have", "use `inv exec` there"
    if word == "unwritable":
        return (
            f"{BASE} there cannot be written to: {rest[:200]}",
            "see who owns it, and how it is mounted",
        )
    return None


def call(
    link: Link, verb: str, *args: str, stdin: bytes = b"", silence: float = SILENCE_TIMEOUT
) -> list[str]:
    """The lines that `verb` answers, ANSWER_LIMIT at most; it may be asked more than once.

    Raises what `request` raises, ConnectionLost too for an answer that is cut short every time.
    """

    def attempt() -> list[str]:
        lines: list[str] = []
        request(
            link,
            verb,
            *args,
            on_line=lines.append,
            stdin=stdin,
            silence=silence,
            timeout=lambda: silence + ANSWER_TIMEOUT,
            limit=ANSWER_LIMIT,
        )
        return complete(lines, link)

    return retry_cut_session(attempt)


def complete(lines: list[str], link: Link) -> list[str]:
    """`lines`, if the answer came to its end. Raises ConnectionLost: whoever gave it was ended."""
    if not lines or lines[-1] != DONE:
        raise ConnectionLost("its answer was cut short", node=link.node.name)
    return lines


def retry_cut_session(attempt: Callable[[], T]) -> T:
    """Call `attempt`; again when its session was cut off or its connection broke."""
    for pause in CUTS:
        with suppress(ProcessKilled, ConnectionLost):
            return attempt()
        time.sleep(pause)
    return attempt()


def install(link: Link) -> None:
    """Place this version of the script on the node. Raises NodeError when that cannot be."""
    text = script.text()
    args = (BASE, script.digest(), str(len(text)), script.checksum())
    reply = retry_cut_session(
        lambda: link.script(script.installer(), *args, timeout=INSTALL_TIMEOUT, stdin=text)
    )
    if reply.status:
        said = reply.stderr.decode(errors="replace").strip()[-200:]
        raise NodeError(
            f"could not place gridops' script there: {said or f'status {reply.status}'}",
            node=link.node.name,
            hint=f"{BASE} must be writable, with room on its disk",
        )


class _Call:
    def __init__(
        self,
        link: Link,
        verb: str,
        args: tuple[str, ...],
        stdin: bytes,
        frames: Callable[[], Frames],
        silence: float | Callable[[], float],
        timeout: Callable[[], float],
        tick: Tick | None,
        speaker: Speaker | None,
    ) -> None:
        self._link = link
        self._verb = verb
        self._args = args
        self._stdin = stdin
        self._make_frames = frames
        self._silence = silence
        self._timeout = timeout
        self._user_tick = tick
        self._speaker = speaker
        self._said = bytearray()
        self._status = 0

    def run(self, sent: Callable[[bool], None]) -> bool:
        """Hold the conversation; False when the script did not speak at all."""
        mark = marker()
        words = [script_path(script.digest()), BASE, self._verb, mark, *self._args]
        if bad := [word for word in words if not PLAIN.fullmatch(word.lstrip("~"))]:
            raise NodeError(f"{bad[0]!r} cannot be sent as an argument")
        # Not by the tilde, which a csh with noglob leaves as it is.
        there = [f'"$HOME{word[1:]}"' if word.startswith("~/") else word for word in words]
        command = f"exec sh {' '.join(there)}"
        # Whatever has begun when this fails has not got its input from us.
        process = retry_cut_session(lambda: self._link.start(command, timeout=CONNECT_TIMEOUT))
        sent(True)
        self._frames = self._make_frames()
        if self._speaker:
            self._speaker.process = process
        self._prelude = Prelude(mark.encode(), self._frames)
        self._began = self._last = time.monotonic()
        try:
            self._pump(process)
        except Finished:
            return True
        except NodeError as exc:
            exc.node = exc.node or self._link.node.name
            raise
        finally:
            process.close()
        return self._prelude.passed

    def _pump(self, process: Process) -> None:
        try:
            self._status = pump(
                process,
                stdin=self._stdin,
                keep_stdin=self._speaker is not None,
                on_stdout=self._hear,
                on_stderr=self._overhear,
                timeout=None,
                tick=self._tick,
            )
        except ConnectionLost as exc:
            exc.node = exc.node or self._link.node.name
            raise
        except ProcessKilled as exc:  # unless all was said, the same as a broken connection
            if self._frames.last != DONE:
                raise ConnectionLost(exc.message, node=self._link.node.name) from exc

    def _hear(self, data: bytes) -> None:
        self._prelude(data)
        self._last = time.monotonic()  # who listens may have taken long

    def _overhear(self, data: bytes) -> None:
        self._said += data[: 4096 - len(self._said)]

    def _tick(self) -> None:
        limit = self._silence() if callable(self._silence) else self._silence
        now, most = time.monotonic(), self._timeout()
        if not self._prelude.passed:
            limit = max(BEGIN_TIMEOUT, limit)
            if now - self._began > limit:
                raise NodeTimeout(
                    f"its login shell has not begun our script within {limit:g} s",
                    node=self._link.node.name,
                )
        if now - self._last > limit:
            raise NodeTimeout(f"sent nothing for {limit:g} s", node=self._link.node.name)
        if now - self._began > most:
            raise NodeTimeout(
                f"its answer has not ended within {most:g} s", node=self._link.node.name
            )
        if self._user_tick:
            self._user_tick()

    def mute(self) -> NodeError:
        held = self._prelude.held
        return no_shell(self._status, held, bytes(self._said), self._link.node.name)


def _nothing(sent: bool) -> None:
    pass


def _no_piece(stream: str, offset: int, data: bytes) -> None:
    raise UnreadableAnswer("the node sent output that was not asked for")
