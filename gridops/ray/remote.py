"""Calls of shell scripts and Python programs on nodes. Scripts report while they work."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gridops.errors import ClusterError, NodeTimeout
from gridops.ray import script
from gridops.reach.answers import Limit, Lines, real
from gridops.reach.link import Link, on_node
from gridops.reach.preamble import command_for, error_mark, no_shell, script_input
from gridops.reach.pump import Collected, Prelude, marker, pump

CONNECT_TIMEOUT = 20.0  # seconds that a session may take to open
MAX_LAST_WORDS = 300  # characters of what a failed script said last

SCRIPT_LIMIT = Limit(lines=20_000, bytes=8 * 1024 * 1024, rate=200.0)  # pip has much to say
ERRORS_LIMIT = 1024 * 1024  # bytes of stderr
STEP_WORD = re.compile(r"[a-z][a-z_-]{0,31}", re.ASCII)
MAX_SCRIPT_WORDS = 1000

OnLine = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Told:
    """Answer of a script: lines of a word and a value."""

    values: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, word: str) -> str:
        return self.values.get(word, "")

    def number(self, word: str) -> float | None:
        try:
            return real(self[word])
        except ValueError:
            return None


def ask(
    link: Link,
    part: str,
    *args: str,
    timeout: float,
    stdin: bytes = b"",
    on_line: OnLine | None = None,
) -> Told:
    """Call `part`.sh with `args`; its answer once it has ended well.

    The script prints lines of a word and a value, and `fail MESSAGE` (and perhaps `hint TEXT`)
    before it ends with another status than 0. Lines of pip's (`pip …`) go to `on_line` alone.
    Raises ClusterError with that message, NodeTimeout, or a ReachError.
    """
    lines = _Words(on_line)
    errors = Collected(ERRORS_LIMIT)
    status = _run(link, script.text(part), args, timeout, stdin, lines, errors)
    told = Told(lines.values)
    if status or told["fail"]:
        raise _failure(link, told, status, bytes(errors.data))
    return told


def _failure(link: Link, told: Told, status: int, stderr: bytes) -> ClusterError:
    said = stderr.decode(errors="replace").strip()[-MAX_LAST_WORDS:]
    message = told["fail"] or f"failed with status {status}" + (f": {said}" if said else "")
    return ClusterError(message, node=link.node.name, hint=told["hint"])


class _Words:
    """Parser of output into lines of a word and a value."""

    def __init__(self, on_line: OnLine | None) -> None:
        self.values: dict[str, str] = {}
        self._on_line = on_line
        self._lines = Lines(self._take, SCRIPT_LIMIT)

    def __call__(self, data: bytes) -> None:
        self._lines(data)

    def _take(self, data: bytes) -> None:
        line = data.decode(errors="replace")
        word, _, value = line.partition(" ")
        if word != "pip" and STEP_WORD.fullmatch(word) and len(self.values) < MAX_SCRIPT_WORDS:
            self.values[word] = value
        if self._on_line:
            self._on_line(line)


def _run(
    link: Link,
    text: str,
    args: tuple[str, ...],
    timeout: float,
    stdin: bytes,
    lines: _Words,
    errors: Collected,
) -> int:
    """Run the script on the node; its exit status."""
    mark, end = marker(), time.monotonic() + timeout
    source = script_input(text, args, mark, has_input=bool(stdin))
    with on_node(link.node.name):
        process = link.start(
            command_for(source, mark, has_input=bool(stdin)), timeout=min(CONNECT_TIMEOUT, timeout)
        )
        stdout = Prelude(mark.encode(), lines)
        stderr = Prelude(error_mark(mark).encode(), errors)
        try:
            status = pump(
                process,
                stdin=source + stdin,
                on_stdout=stdout,
                on_stderr=stderr,
                timeout=max(0.0, end - time.monotonic()),
            )
        except NodeTimeout as exc:
            raise NodeTimeout(f"not done within {timeout:g} s", node=link.node.name) from exc
        finally:
            process.close()
        if not stdout.passed:
            raise no_shell(status, stdout.held, stderr.held)
    return status


def run_program(link: Link, python: str, name: str, *args: str, timeout: float) -> bytes:
    """Run the Python program `name`.py on the node; its output.

    `python` is the interpreter there. Raises ClusterError when the program fails, NodeTimeout, or a
    ReachError.
    """
    text = f'exec {shlex.quote(python)} -I - "$@"'
    reply = link.script(text, *args, timeout=timeout, stdin=script.program(name))
    if reply.status:
        said = reply.stderr.decode(errors="replace").strip().splitlines()[-1:] or [""]
        raise ClusterError(
            f"{name}.py failed there: {said[0][-MAX_LAST_WORDS:]} (status {reply.status})",
            node=link.node.name,
            hint="repair its environment by `inv cluster.install`",
        )
    return reply.stdout
