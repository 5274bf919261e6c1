"""What the user sees: lines on stderr, tables on stdout, progress where there is a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, TextIO, TypeVar

from gridops.observe import events

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

T = TypeVar("T")

ERASE = "\r\x1b[2K"


def say(text: str) -> None:
    """One line for the user, on stderr."""
    _write(sys.stderr, f"gridops: {text}\n")


def show(text: str) -> None:
    """Lines that were asked for, on stdout."""
    _write(sys.stdout, f"{text}\n")


def _write(stream: TextIO, text: str) -> None:
    """Whatever the locale can print of `text`; the rest as backslash escapes."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def write_bytes(fd: int) -> Callable[[bytes], None]:
    """A sink that writes to a file descriptor, byte for byte and at once."""

    def sink(data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(fd, left) :]

    return sink


def is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, highlight=False, soft_wrap=False, emoji=False, markup=False)


def show_table(plain: Callable[[], str], rich: Callable[[], RenderableType]) -> None:
    """A table on stdout: rich on a terminal, aligned plain lines elsewhere."""
    if is_terminal(sys.stdout):
        console(sys.stdout).print(rich())
    else:
        show(plain())


def counted(items: Iterable[T], total: int, what: str) -> Iterator[T]:
    """Pass `items` on; on a terminal, a line on stderr counts them meanwhile."""
    if not is_terminal(sys.stderr) or total < 2:
        yield from items
        return
    try:
        _write(sys.stderr, f"{ERASE}{what} 0/{total}")
        for number, item in enumerate(items, 1):
            _write(sys.stderr, f"{ERASE}{what} {number}/{total}")
            yield item
    finally:
        _write(sys.stderr, ERASE)


class Narrator:
    """Tells what a run or a sync is doing, a line an event; a listener of observe.events.

    `only` names the events to tell of; empty: all that it has words for.
    """

    def __init__(self, only: Sequence[str] = ()) -> None:
        self._only = only
        self._live = is_terminal(sys.stderr)

    def __call__(self, event: events.Event) -> None:
        if self._only and event.name not in self._only:
            return
        tell = getattr(self, "_" + event.name.replace(".", "_"), None)
        if tell is not None:
            tell(**event.fields)

    def _line(self, text: str) -> None:
        if self._live:
            _write(sys.stderr, ERASE)
        say(text)

    def _node_selected(self, node: str, reason: str, degraded: bool, **_: object) -> None:
        if degraded:
            self._line(f"warning: no healthy node; taking the least loaded: {node} ({reason})")
        else:
            self._line(f"{node}: {reason}")

    def _node_skipped(self, reason: str, **_: object) -> None:
        self._line(f"{reason}; trying the next best node")

    def _sync_progress(self, node: str, percent: float, **_: object) -> None:
        if self._live:
            _write(sys.stderr, f"{ERASE}gridops: {node}: syncing {percent:.0f} %")

    def _sync_finished(
        self, node: str, status: str, files: int, bytes: int, seconds: float, **_: object
    ) -> None:
        from gridops.render.words import size

        if status == "success":
            self._line(f"{node}: synced {files} files, {size(bytes)} in {seconds:.1f} s")

    def _run_stopping(self, node: str, reason: str, **_: object) -> None:
        self._line(f"{node}: {reason}: asking the node to stop the command; once more to leave it")

    def _retry(self, what: str, attempt: int, delay: float, error: str, **_: object) -> None:
        self._line(f"{what}: attempt {attempt} failed: {error}; again in {delay:.1f} s")

    def _warning(self, message: str, **_: object) -> None:
        self._line(f"warning: {message}")
