"""Temporary handlers of signals, and the request to stop that they make.

The one place that installs handlers. Each context manager here puts the former handlers back at its
end, and does nothing outside the main thread, where Python lets nobody install any.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OUTPUT_CLOSED = "output closed"
STOPPED_STATUS = {"SIGHUP": 129, "SIGINT": 130, "SIGTERM": 143, OUTPUT_CLOSED: 141}


class Cancel:
    """Request to stop or leave running commands; any thread may ask, the first reason counts.

    A reason is a signal's name or OUTPUT_CLOSED; STOPPED_STATUS has the exit status of each.
    """

    def __init__(self) -> None:
        self.reason: str | None = None  # why they are to end
        self.left: str | None = None  # why we are to leave them, and let a durable run go on

    def request(self, reason: str) -> None:
        self.reason = self.reason or reason

    def leave(self, reason: str) -> None:
        self.left = self.left or reason


@contextmanager
def handle_signals(numbers: Iterable[int], handle: Callable[[int], None]) -> Iterator[None]:
    """Call `handle` with the number of each of these signals; put the former handlers back.

    A handler that other than Python code installed stays: it could not be put back.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def take(number: int, frame: FrameType | None) -> None:
        handle(number)

    before = {n: former for n in numbers if (former := signal.getsignal(n)) is not None}
    try:
        for number in before:
            signal.signal(number, take)
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextmanager
def cancel_on_signals(
    cancel: Cancel, tell: Callable[[str], None], numbers: Iterable[int] | None = None
) -> Iterator[None]:
    """Ask for a stop at SIGINT, SIGTERM and SIGHUP; a second SIGINT interrupts as usual.

    `tell` is called with the signal's name when it asks. A signal that is ignored stays so, except
    where `numbers` names those that ask.
    """

    def take(number: int) -> None:
        name = signal.Signals(number).name
        if cancel.reason and name == "SIGINT":
            raise KeyboardInterrupt
        cancel.request(name)
        with suppress(OSError):  # the terminal is gone after a SIGHUP
            tell(name)

    with handle_signals(_not_ignored() if numbers is None else numbers, take):
        yield


@contextmanager
def cancel_or_detach_on_signals(
    cancel: Cancel, tell: Callable[[str], None], *, kill_on_exit: bool = False
) -> Iterator[None]:
    """Stop at the first SIGINT; leave at a second one, or at SIGTERM and SIGHUP at once.

    With `kill_on_exit` SIGTERM and SIGHUP ask for a stop first, too. `tell` is called with the
    signal's name when it asks. A signal that is ignored stays so.
    """

    def take(number: int) -> None:
        name = signal.Signals(number).name
        if cancel.reason or not (name == "SIGINT" or kill_on_exit):
            cancel.leave(name)
            return
        cancel.request(name)
        with suppress(OSError):  # the terminal is gone after a SIGHUP
            tell(name)

    with handle_signals(_not_ignored(), take):
        yield


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Leave on SIGTERM and SIGHUP as on Ctrl-C: all that we started is ended first.

    Raises SystemExit then, of the status 128 + n. Signals that somebody handles or ignores already
    stay as they are.
    """

    def leave(number: int) -> None:
        raise SystemExit(128 + number)

    numbers = (signal.SIGTERM, signal.SIGHUP)
    default = [n for n in numbers if signal.getsignal(n) == signal.SIG_DFL]
    with handle_signals(default, leave):
        yield


@contextmanager
def wake_on_signals() -> Iterator[Callable[[], object]]:
    """Catch the signals that end us; gives a function that waits for one.

    By the interpreter's own pipe: the system may hand the signal to any of our threads, so that
    nothing would wake the main one, where Python's handlers run. Raises ValueError outside the main
    thread.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        with handle_signals(ENDING, lambda number: None):  # the byte in the pipe says it
            woken = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
            try:
                yield lambda: os.read(reading, 1)
            finally:
                signal.set_wakeup_fd(woken)
    finally:
        os.close(reading)
        os.close(writing)


def _not_ignored() -> list[int]:
    """The signals that end us, without those ignored: `nohup inv run …` stays deaf to SIGHUP."""
    return [n for n in ENDING if signal.getsignal(n) != signal.SIG_IGN]
