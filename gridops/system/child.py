"""A child process with pipes that is ended whole: on error, on Ctrl-C, and when we exit."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress

TERM_GRACE = 2.0  # seconds between TERM, on which rsync removes its temporary files, and KILL

_alive: set[Child] = set()
_leaving = False


class ShuttingDown(OSError):
    """Error that this process is ending, and starts no other any more."""


class Child:
    """A program in a session of its own: the Process that `gridops.reach.pump.pump` takes."""

    def __init__(
        self, argv: Sequence[str | bytes], *, cwd: str | bytes | None, env: Mapping[str, str]
    ) -> None:
        """Start the program. Raises OSError when it cannot be started."""
        if _leaving:
            raise ShuttingDown("gridops is ending")
        self._child = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd=cwd,
            env=env,
            start_new_session=True,  # no terminal: ssh cannot prompt, and Ctrl-C is ours to handle
        )
        _alive.add(self)
        streams = self._child.stdin, self._child.stdout, self._child.stderr
        self.stdin, self.stdout, self.stderr = (s.fileno() if s else -1 for s in streams)

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, 128 + n when it died of signal n. Raises TimeoutError."""
        try:
            code = self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"still running after {timeout:g} s") from None
        return 128 - code if code < 0 else code

    def close_stdin(self) -> None:
        if self._child.stdin:
            with suppress(OSError):
                self._child.stdin.close()

    def close(self) -> None:
        """End it, with everything it started, if it still runs; give up the pipes."""
        self.end()
        for stream in (self._child.stdin, self._child.stdout, self._child.stderr):
            if stream:
                with suppress(OSError):
                    stream.close()
        _alive.discard(self)

    def end(self) -> None:
        """Send TERM, then KILL, to the whole process group. Twice is harmless."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._child.poll() is not None:
                return
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._child.wait(TERM_GRACE)


@atexit.register
def _end_all() -> None:
    """End every child at exit.

    Transfers run in daemon threads, which end without a word when the main thread does.
    """
    global _leaving
    _leaving = True
    for child in tuple(_alive):
        child.end()
