"""What the user sees: lines on stderr, tables on stdout, progress where there is a terminal."""

from __future__ import annotations

import errno
import logging
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from signal import SIGKILL
from typing import TYPE_CHECKING, TextIO, TypeVar

from gridops.errors import OutputError
from gridops.observe import events
from gridops.observe.sentences import sentence

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

T = TypeVar("T")

ERASE = "\r\x1b[2K"
COERCED = "C.UTF-8"  # what Python sets LC_CTYPE to where the locale is C (PEP 538)


def open_streams() -> None:
    """Have all three standard streams: one that our parent closed is /dev/null from now on.

    Else the next file that is opened, a node's connection maybe, would be our stdout.
    """
    for fd, name, mode in (0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"):
        try:
            os.fstat(fd)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != fd:
                os.dup2(null, fd)
                os.close(null)
        if getattr(sys, name) is None:
            setattr(sys, name, open(fd, mode, closefd=False))  # noqa: SIM115 - to stay


def say(text: str) -> None:
    """One line for the user, on stderr; when nobody can read it any more, the work goes on."""
    with suppress(OSError, ValueError, RuntimeError):  # the last: said while something else is
        _write(sys.stderr, f"gridops: {text}\n")


def show(text: str) -> None:
    """Lines that were asked for, on stdout. Raises BrokenPipeError, OutputError."""
    with writing():
        _write(sys.stdout, f"{text}\n")


@contextmanager
def writing() -> Iterator[None]:
    """Why a write failed: BrokenPipeError when no reader is left, OutputError for the rest."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as exc:
        if exc.errno == errno.EIO:  # the terminal is gone
            raise BrokenPipeError(*exc.args) from exc
        raise OutputError(f"cannot write the output: {exc.strerror}") from exc


def _write(stream: TextIO, text: str) -> None:
    """Whatever the locale can print of `text`; the rest as backslash escapes."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def write_bytes(fd: int) -> Callable[[bytes], None]:
    """A sink that writes to a file descriptor, byte for byte and at once.

    It raises BrokenPipeError, OutputError.
    """

    def sink(data: bytes) -> None:
        left = memoryview(data)
        with writing():
            while left:
                try:
                    left = left[os.write(fd, left) :]
                except BlockingIOError:  # whoever shares it with us has made it so
                    select.select((), (fd,), ())

    return sink


def is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def speaks_unicode(stream: TextIO) -> bool:
    """Whether bars and lines may be drawn with other characters than ASCII's.

    Python makes the locale C into UTF-8 for itself; whoever set it wants ASCII even so.
    """
    types, language = (os.environ.get(name, "") for name in ("LC_CTYPE", "LANG"))
    own = "" if types == COERCED else types
    chosen = os.environ.get("LC_ALL") or own or language
    encoding = getattr(stream, "encoding", None) or ""
    return encoding.lower().startswith("utf") and chosen not in ("C", "POSIX")


def console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, highlight=False, soft_wrap=False, emoji=False, markup=False)


def show_table(plain: Callable[[], str], rich: Callable[[], RenderableType]) -> None:
    """A table on stdout: rich on a terminal that can show it, aligned plain lines elsewhere."""
    if is_terminal(sys.stdout) and speaks_unicode(sys.stdout):
        with writing():
            console(sys.stdout).print(rich())
    else:
        show(plain())


def show_lines(lines: Iterable[Iterable[tuple[str, str]]]) -> None:
    """Lines on stdout, of pieces of text with a style each; coloured on a terminal."""
    if not is_terminal(sys.stdout):
        show("\n".join("".join(text for text, _ in line).rstrip() for line in lines))
        return
    from rich.text import Text

    with writing():
        out = console(sys.stdout)
        for line in lines:
            out.print(Text.assemble(*line, no_wrap=True, overflow="crop"))


def drawing_width() -> int:
    """The columns that a drawing on stdout has: the terminal's, else COLUMNS, else 80."""
    from shutil import get_terminal_size

    return get_terminal_size().columns


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

    `only` names the events to tell of; empty: all that it has words for. What is at least as grave
    as `logged` (a level of logging) has a line in the log, and is not told again.
    """

    def __init__(self, only: Sequence[str] = (), logged: int = logging.ERROR) -> None:
        self._only = only
        self._logged = logged
        self._live = is_terminal(sys.stderr)
        self._queued = False
        self._stopping = False

    def __call__(self, event: events.Event) -> None:
        said = sentence(event)
        if (self._only and event.name not in self._only) or (said and said[0] >= self._logged):
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
        self, node: str, status: str, files: int, bytes: int, seconds: float, **more: object
    ) -> None:
        from gridops.render.words import number_of, size

        what = number_of(files, "file") + (f", deleted {n}" if (n := more.get("deleted")) else "")
        without = f" (without {n} fetched)" if (n := more.get("fetched")) else ""
        if status == "success":
            self._line(f"{node}: synced {what}, {size(bytes)} in {seconds:.1f} s{without}")

    def _fetch_progress(self, node: str, percent: float, **_: object) -> None:
        if self._live:
            _write(sys.stderr, f"{ERASE}gridops: {node}: fetching {percent:.0f} %")

    def _fetch_finished(
        self, node: str, files: int, replaced: int, bytes: int, seconds: float, **_: object
    ) -> None:
        from gridops.render.words import number_of, size

        what = number_of(files, "file") + (f" ({replaced} replaced)" if replaced else "")
        if bytes:
            self._line(f"{node}: fetched {what}, {size(bytes)} in {seconds:.1f} s")

    def _run_queued(
        self, nodes: Sequence[str], id: str, seconds: float, wanted: str, **_: object
    ) -> None:
        self._queued = True
        named = ", ".join(nodes[:5]) + (", …" if len(nodes) > 5 else "")
        self._line(
            f"{named}: no {wanted} is free: the run {id} stands in line, {seconds:g} s at most"
        )

    def _job_state(self, node: str, state: str, **_: object) -> None:
        if self._queued and state == "running":
            self._line(f"{node}: the run begins")

    def _run_started(self, node: str, id: str, **_: object) -> None:
        self._line(f"{node}: the run is {id}")

    def _run_stopping(self, node: str, reason: str, **_: object) -> None:
        self._stopping = True
        self._line(
            f"{node}: {reason}: asking the node to stop the command (KILL follows after 10 s);"
            " Ctrl-C leaves it"
        )

    def _run_finished(self, node: str, signal: int | None = None, **_: object) -> None:
        if self._stopping:
            self._line(f"{node}: the run has ended" + (", by KILL" if signal == SIGKILL else ""))

    def _run_left(self, node: str, id: str, reason: str, fate: str, **_: object) -> None:
        self._line(
            f"{node}: {reason}: left; the run {fate}:"
            f" `inv jobs.logs {id} --follow`, `inv jobs.kill {id}`"
        )

    def _run_restarted(self, error: str, **_: object) -> None:
        self._line(f"{error}; running it again")

    def _connection_lost(self, node: str, error: str, **_: object) -> None:
        self._line(f"{node}: the connection is lost: {error}; the run goes on, reconnecting")

    def _connection_regained(self, node: str, seconds: float, **_: object) -> None:
        self._line(f"{node}: connected again after {seconds:.1f} s")

    def _port_forwarded(self, node: str, local: int, remote: int, **_: object) -> None:
        self._line(f"{node}: http://127.0.0.1:{local} leads to port {remote} there")

    def _port_busy(self, node: str, remote: int, **_: object) -> None:
        self._line(
            f"warning: {node}: something listens on port {remote} there already, and --port leads"
            " to that until it ends"
        )

    def _port_failed(self, node: str, remote: int, error: str, **_: object) -> None:
        self._line(f"{node}: --port {remote}: {error}")

    def _package_ready(
        self, node: str, files: int, bytes: int, seconds: float, uploaded: bool, **_: object
    ) -> None:
        from gridops.render.words import number_of, size

        did = "sent" if uploaded else "there already, checked"
        packed = f"{number_of(files, 'file')}, {size(bytes)} packed"
        self._line(f"{node}: {packed}: {did} in {seconds:.1f} s")

    def _cluster_job_submitted(self, node: str, id: str, **_: object) -> None:
        self._line(f"{node}: the cluster has the job {id}")

    def _cluster_job_waits(self, node: str, reason: str, **_: object) -> None:
        self._line(f"{node}: the job waits: {reason}")

    def _cluster_step(self, node: str, what: str, **_: object) -> None:
        self._line(f"{node}: {what}")

    def _cluster_progress(self, node: str, what: str, **_: object) -> None:
        if self._live:
            _write(sys.stderr, f"{ERASE}gridops: {node}: {what}")

    def _retry(self, what: str, attempt: int, delay: float, error: str, **_: object) -> None:
        self._line(f"{what}: attempt {attempt} failed: {error}; again in {delay:.1f} s")

    def _node_changed(self, node: str, before: str, state: str, reason: str, **_: object) -> None:
        self._line(f"{node}: {state}, was {before}{f': {reason}' if reason else ''}")

    def _inventory_changed(self, inventory: str, nodes: int, **_: object) -> None:
        self._line(f"{inventory} has changed: {nodes} nodes now")

    def _warning(self, message: str, **_: object) -> None:
        self._line(f"warning: {message}")
