"""Run one of OpenSSH's programs here: no prompt, no longer than allowed, none left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

from gridops.errors import ConnectTimeout, ReachError
from gridops.reach import agent

SIZE_INTERVAL = 0.5  # seconds between two looks at how much was said
MAX_SIZE = 4 * 1024 * 1024  # bytes of one stream
READ_LIMIT = 256 * 1024  # bytes of one that are read


@dataclass(frozen=True, slots=True)
class Done:
    status: int
    out: str
    err: str


def run_tool(
    command: list[str],
    *,
    name: str,
    timeout: float = 10.0,
    late: str = "ssh did not end",
    hint: str = "",
) -> Done:
    """Run `command` for the node `name`; it has no terminal and no input.

    Raises ConnectTimeout (`late` says what did not happen) after `timeout` seconds, a ReachError
    when it cannot be run. A daemon that it leaves behind does not hold us.
    """
    # Files, not pipes: a ProxyJump's inner ssh keeps our stderr open for as long as it lives.
    with _scratch() as out, _scratch() as err:
        child = _start(command, name, out, err)
        try:
            ended = _ended(child, timeout, (out, err))
        except BaseException:
            _end(child)
            raise
        if not ended:
            _end(child)
            raise ConnectTimeout(f"{late} within {timeout:.3g} s", node=name, hint=hint)
        return Done(child.returncode, _text(out), _text(err))


def _ended(child: subprocess.Popen[bytes], seconds: float, files: Sequence[IO[bytes]]) -> bool:
    """True if it ended within `seconds`; one that says too much (a banner without end) did not."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if wait_for(child, min(SIZE_INTERVAL, left)):
            return True
        if any(os.fstat(file.fileno()).st_size > MAX_SIZE for file in files):
            return False
    return wait_for(child, 0)


def _scratch() -> IO[bytes]:
    """A file without a name, in memory where the kernel has that: it spares the disk."""
    try:
        return os.fdopen(os.memfd_create("gridops"), "w+b")
    except (AttributeError, OSError):
        return tempfile.TemporaryFile()


def _start(
    command: list[str], name: str, out: IO[bytes], err: IO[bytes]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,  # no terminal: nothing down the line can prompt
            env=agent.environment(),
        )
    except FileNotFoundError:
        raise ReachError(
            f"there is no `{command[0]}` on this machine",
            node=name,
            hint="install openssh-client",
        ) from None


def wait_for(child: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for `child` and reap it; True if it ended within `seconds`.

    No polling where the kernel has pidfds.
    """
    try:
        fd = os.pidfd_open(child.pid)
    except (AttributeError, OSError):
        with suppress(subprocess.TimeoutExpired):
            child.wait(seconds)
        return child.returncode is not None
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(seconds * 1000):
            return False
    finally:
        os.close(fd)
    child.wait()
    return True


def _end(child: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _text(file: IO[bytes]) -> str:
    """The end of the output, where an error stands."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - READ_LIMIT))
    return file.read(READ_LIMIT).decode("utf-8", "surrogateescape")
