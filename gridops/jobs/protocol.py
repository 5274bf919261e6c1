"""Sessions with a node's copy of the script, over any Link.

The script stays on the node under the hash of its content, so that a warm call sends only a command
of plain words. Where it is missing it is placed first.
"""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from types import TracebackType
from typing import TypeVar

from gridops.errors import (
    ConnectionLost,
    NodeError,
    NodeTimeout,
    ProcessKilled,
    UnreadableAnswer,
)
from gridops.jobs import script
from gridops.jobs.frames import DONE, Chunk, FrameParser, Message, unsupported_reason
from gridops.jobs.paths import BASE
from gridops.jobs.paths import script as script_path
from gridops.reach.answers import Limit
from gridops.reach.link import Link
from gridops.reach.preamble import no_shell
from gridops.reach.pump import Prelude, Process, Pump, marker
from gridops.retry import RetryConfig

SESSION_TIMEOUT = 20.0  # seconds that a session may take to open
SILENCE_TIMEOUT = 15.0  # seconds without a sign of life (one comes every 2): a dead connection
BEGIN_TIMEOUT = 30.0  # seconds that a login shell may take until the script speaks
INSTALL_TIMEOUT = 60.0  # seconds
TICK_INTERVAL = 0.1  # seconds between two looks at `tick` while we wait to reconnect
CUT_DELAYS = (0.0, 0.05, 0.1, 0.2, 0.4)  # seconds before what may be repeated is tried again
ANSWER_TIMEOUT = 60.0  # seconds, beyond the silence that is allowed, that an answer may take
ANSWER_LIMIT = Limit(lines=20_000, bytes=8 * 1024 * 1024)
# Between pieces of output come few lines, but for as long as a run lives.
FOLLOW_LIMIT = Limit(lines=1000, bytes=8 * 1024 * 1024, rate=20.0)

# What needs no quotes in any shell: the login shell may be csh or fish.
PLAIN = re.compile(r"[A-Za-z0-9@%+:,./_-]+")

RETRY_DELAYS = RetryConfig(initial_delay=0.5, max_delay=15.0)

T = TypeVar("T")
Tick = Callable[[], None]
Sleep = Callable[[float], None]


class ScriptSession:
    """One verb of the script, called on a node: iterate over the messages of the node.

    It yields lines, Chunks, and None a few times a second while nothing else comes. A loop that is
    left may be gone on with by another. `silence` and `timeout` may be changed meanwhile.

    Raises a ReachError when the node cannot be reached, NodeTimeout after `silence` seconds without
    a byte or `timeout` in all, UnreadableAnswer for lines beyond `limit`, NodeError when the script
    cannot be had there, ConnectionLost when the connection broke.
    """

    def __init__(
        self,
        link: Link,
        verb: str,
        *args: str,
        stdin: bytes = b"",
        keep_stdin: bool = False,
        silence: float = SILENCE_TIMEOUT,
        timeout: float = math.inf,
        limit: Limit = FOLLOW_LIMIT,
    ) -> None:
        """Take the verb, its plain-word `args` and its input; nothing is sent before iteration.

        With `keep_stdin` the node's input stays open for what is said in the end.
        """
        self.silence = silence
        self.timeout = timeout
        self.sent = False  # the node may have got our words; False again where nobody read them
        self._link = link
        self._words = (verb, *args)
        self._stdin = stdin
        self._keep_stdin = keep_stdin
        self._limit = limit
        self._said = bytearray()  # on stderr
        self._process: Process | None = None
        self._messages = self._converse()

    def __enter__(self) -> ScriptSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
        if isinstance(exc, NodeError):
            exc.node = exc.node or self._link.node.name

    def __iter__(self) -> Iterator[Message | None]:
        return self._messages

    def lines(self) -> Iterator[str]:
        """Iterate over an answer that has only lines. Raises UnreadableAnswer for another."""
        for message in self:
            if isinstance(message, Chunk):
                raise UnreadableAnswer("the node sent output that was not asked for")
            if message is not None:
                yield message

    def say(self, words: bytes) -> None:
        """Say a few words, and that no more come; whether they arrive the answer will tell."""
        if self._process:
            with suppress(OSError):
                os.write(self._process.stdin, words)
            self._process.close_stdin()

    def close(self) -> None:
        """End the session; twice is harmless."""
        self._messages.close()

    # -- underneath --------------------------------------------------------------------------------

    def _converse(self) -> Generator[Message | None, None, None]:
        """Call the script; once more when it did not speak, after it has been placed there."""
        for missing in (True, False):
            mark = marker()
            prelude = Prelude(mark.encode(), _drop)
            status = yield from self._call(mark, prelude)
            if prelude.passed:
                return
            self.sent = False
            if missing:
                install(self._link)
            else:
                said = bytes(self._said)
                raise no_shell(status, prelude.held, said, self._link.node.name)

    def _call(self, mark: str, prelude: Prelude) -> Generator[Message | None, None, int]:
        """Hold one conversation; returns the exit status."""
        node, parser = self._link.node.name, FrameParser(self._limit)
        command = self._command(mark)
        # Whatever has begun when this fails has not got its input from us.
        process = retry_cut_session(lambda: self._link.start(command, timeout=SESSION_TIMEOUT))
        self.sent, self._process = True, process
        running = Pump(process, self._stdin, keep_stdin=self._keep_stdin)
        clock = _Clock(self, node)
        try:
            for chunk in running:
                if chunk is None:
                    clock.check(prelude)
                    yield None
                elif chunk[0] == process.stderr:
                    self._said += chunk[1][: 4096 - len(self._said)]
                else:
                    for message in parser.feed(prelude.strip(chunk[1])):
                        yield message
                        _refuse_unsupported(message, node)
                    clock.restart()  # who takes it may have taken long
            return running.status
        except ProcessKilled as exc:
            if parser.last == DONE:
                return 0
            # Unless all was said, the same as a broken connection.
            raise ConnectionLost(exc.message, node=node) from exc
        except (NodeError, ConnectionLost) as exc:
            exc.node = exc.node or node
            raise
        finally:
            self._process = None
            process.close()

    def _command(self, mark: str) -> str:
        verb, *args = self._words
        words = [script_path(script.digest()), BASE, verb, mark, *args]
        if bad := [word for word in words if not PLAIN.fullmatch(word.lstrip("~"))]:
            raise NodeError(f"{bad[0]!r} cannot be sent as an argument")
        # Not by the tilde, which a csh with noglob leaves as it is.
        there = [f'"$HOME{word[1:]}"' if word.startswith("~/") else word for word in words]
        return f"exec sh {' '.join(there)}"


class _Clock:
    """Deadlines of one conversation."""

    def __init__(self, session: ScriptSession, node: str) -> None:
        self._session = session
        self._node = node
        self._began = self._last = time.monotonic()

    def restart(self) -> None:
        self._last = time.monotonic()

    def check(self, prelude: Prelude) -> None:
        """Raise NodeTimeout when a deadline has passed."""
        now, silence, timeout = time.monotonic(), self._session.silence, self._session.timeout
        if not prelude.passed:
            silence = max(BEGIN_TIMEOUT, silence)
            if now - self._began > silence:
                raise NodeTimeout(
                    f"its login shell has not begun our script within {silence:g} s",
                    node=self._node,
                )
        if now - self._last > silence:
            raise NodeTimeout(f"sent nothing for {silence:g} s", node=self._node)
        if now - self._began > timeout:
            raise NodeTimeout(f"its answer has not ended within {timeout:g} s", node=self._node)


def _refuse_unsupported(message: Message, node: str) -> None:
    if isinstance(message, str) and (why := unsupported_reason(message)):
        raise NodeError(why[0], node=node, hint=why[1])


def call(
    link: Link, verb: str, *args: str, stdin: bytes = b"", silence: float = SILENCE_TIMEOUT
) -> list[str]:
    """The lines that `verb` answers, ANSWER_LIMIT at most; it may be asked more than once.

    Raises what a ScriptSession does, ConnectionLost too for an answer cut short every time.
    """

    def attempt() -> list[str]:
        with ScriptSession(
            link,
            verb,
            *args,
            stdin=stdin,
            silence=silence,
            timeout=silence + ANSWER_TIMEOUT,
            limit=ANSWER_LIMIT,
        ) as session:
            return complete(list(session.lines()), link)

    return retry_cut_session(attempt)


def complete(lines: list[str], link: Link) -> list[str]:
    """`lines`, if the answer came to its end. Raises ConnectionLost: whoever gave it was ended."""
    if not lines or lines[-1] != DONE:
        raise ConnectionLost("its answer was cut short", node=link.node.name)
    return lines


def retry_cut_session(attempt: Callable[[], T]) -> T:
    """Call `attempt`; again when its session was cut off or its connection broke."""
    for pause in CUT_DELAYS:
        with suppress(ProcessKilled, ConnectionLost):
            return attempt()
        time.sleep(pause)
    return attempt()


def pause(seconds: float, tick: Tick | None, sleep: Sleep) -> None:
    """Sleep, and call `tick` meanwhile; what it raises ends the wait."""
    while seconds > 0:
        if tick:
            tick()
        sleep(min(TICK_INTERVAL, seconds))
        seconds -= TICK_INTERVAL


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


def _drop(data: bytes) -> None:
    pass
