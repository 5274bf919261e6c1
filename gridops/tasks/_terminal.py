"""Output to the user: lines on stderr, tables on stdout, progress where there is a terminal.

All text leaves through `say`, `show`, `show_table`, `show_lines` or `tell_progress`, which let
nothing through that could steer a terminal: nodes, commands and file names have a say in it. Only
`write_bytes` passes on what it is given: the output of people's own commands.
"""

from __future__ import annotations

import errno
import os
import select
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeVar

from gridops.errors import OutputError
from gridops.system.text import plain, printable, printable_lines

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

T = TypeVar("T")

COUNT_INTERVAL = 10.0  # seconds between two lines of what takes long
ERASE = "\r\x1b[2K"
COERCED = "C.UTF-8"  # what Python sets LC_CTYPE to where the locale is C (PEP 538)


def open_streams() -> None:
    """Open all three standard streams: one that our parent closed is /dev/null from now on.

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


def settle_streams() -> None:
    """Flush stdout and stderr before exit: what cannot be written any more is dropped.

    Python flushes both streams as it ends, and makes the exit status 120 where that fails: the
    terminal is gone, or whoever read us.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(ValueError, AttributeError):  # it is closed, or there is none
            try:
                stream.flush()
            except OSError:
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)
                with suppress(OSError):
                    stream.flush()


def say(text: str) -> None:
    """One line for the user, on stderr; when nobody can read it any more, the work goes on."""
    with suppress(OSError, ValueError, RuntimeError):  # the last: said while something else is
        write(sys.stderr, f"gridops: {printable(text)}\n")


def tell_progress(text: str) -> None:
    """Replace the last line of a terminal's stderr; "" clears it."""
    write(sys.stderr, f"{ERASE}{printable(text)}")


def show(text: str) -> None:
    """Lines that were asked for, on stdout. Raises BrokenPipeError, OutputError."""
    with translate_write_errors():
        write(sys.stdout, f"{printable_lines(text)}\n")


@contextmanager
def translate_write_errors() -> Iterator[None]:
    """Translate write errors: BrokenPipeError when no reader is left, OutputError for the rest."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as exc:
        if exc.errno == errno.EIO:  # the terminal is gone
            raise BrokenPipeError(*exc.args) from exc
        raise OutputError(f"cannot write the output: {exc.strerror}") from exc


def write(stream: TextIO, text: str) -> None:
    """Write `text`, with backslash escapes for characters that the locale cannot print."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def write_file(path: str, text: str) -> None:
    """Write a file for the user, whole or not at all; others may read it. Raises OutputError."""
    from gridops.system.files import write_atomic

    try:
        write_atomic(Path(path), text.encode(errors="replace"), mode=0o644)
    except OSError as exc:
        raise OutputError(f"cannot write {path}: {exc.strerror}") from exc


def write_bytes(fd: int) -> Callable[[bytes], None]:
    """Sink that writes to a file descriptor unchanged and at once.

    It raises BrokenPipeError, OutputError.
    """

    def sink(data: bytes) -> None:
        left = memoryview(data)
        with translate_write_errors():
            while left:
                try:
                    left = left[os.write(fd, left) :]
                except BlockingIOError:  # whoever shares it with us has made it so
                    select.select((), (fd,), ())

    return sink


def is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def speaks_unicode(stream: TextIO) -> bool:
    """True if bars and lines may be drawn with non-ASCII characters.

    Python makes the locale C into UTF-8 for itself; whoever set it wants ASCII even so.
    """
    types, language = (os.environ.get(name, "") for name in ("LC_CTYPE", "LANG"))
    own = "" if types == COERCED else types
    chosen = os.environ.get("LC_ALL") or own or language
    encoding = getattr(stream, "encoding", None) or ""
    return encoding.lower().startswith("utf") and chosen not in ("C", "POSIX")


def make_console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(file=stream, highlight=False, soft_wrap=False, emoji=False, markup=False)


def show_table(aligned: Callable[[], str], rich: Callable[[], RenderableType]) -> None:
    """A table on stdout: rich on a terminal that can show it, aligned plain lines elsewhere."""
    if is_terminal(sys.stdout) and speaks_unicode(sys.stdout):
        with translate_write_errors():
            make_console(sys.stdout).print(rich())
    else:
        show(aligned())


def show_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table of plain cells on stdout."""
    from gridops.render import tables

    show_table(lambda: tables.align(header, rows), lambda: tables.table(header, rows))


def show_lines(lines: Iterable[Iterable[tuple[str, str]]]) -> None:
    """Lines on stdout, of pieces of text with a style each; coloured on a terminal."""
    if not is_terminal(sys.stdout):
        show("\n".join("".join(plain(text) for text, _ in line).rstrip() for line in lines))
        return
    with translate_write_errors():
        out = make_console(sys.stdout)
        for line in lines:
            out.print(draw_line(line))


def draw_line(pieces: Iterable[tuple[str, str]]) -> Text:
    """A terminal line of styled pieces, cut at the right edge."""
    from rich.text import Text

    shown = ((plain(text), style) for text, style in pieces)
    return Text.assemble(*shown, no_wrap=True, overflow="crop")


def drawing_width() -> int:
    """The columns that a drawing on stdout has: the terminal's, else COLUMNS, else 80."""
    from shutil import get_terminal_size

    return get_terminal_size().columns


def track(items: Iterable[T], total: int, what: str, *, of: str = "") -> Iterator[T]:
    """Pass `items` on, counting them on stderr: `WHAT 7/20 OF`.

    On a terminal in a line that stays the last; elsewhere a line now and then, when it takes long.
    """
    if total < 2:
        yield from items
        return
    live, spoken = is_terminal(sys.stderr), time.monotonic()
    of = of and f" {of}"
    try:
        if live:
            tell_progress(f"{what} 0/{total}{of}")
        for number, item in enumerate(items, 1):
            if live:
                tell_progress(f"{what} {number}/{total}{of}")
            elif number < total and time.monotonic() - spoken > COUNT_INTERVAL:
                spoken = time.monotonic()
                say(f"{what} {number}/{total}{of}")
            yield item
    finally:
        if live:
            tell_progress("")


EACH = "show a row for every node (default: fold more than 50)"
MAX_ROWS = 50  # rows that are still read one by one


def should_fold(count: int, each: bool) -> bool:
    return count > MAX_ROWS and not each


def say_folded(count: int) -> None:
    say(f"{count} nodes, folded; --each shows a row for every node")
