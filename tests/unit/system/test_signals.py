"""Handlers of signals, and the request to stop that they make."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, suppress

import pytest

from gridops.system.signals import (
    Cancel,
    cancel_on_signals,
    cancel_or_detach_on_signals,
    exit_on_signals,
    handle_signals,
    wake_on_signals,
)

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.fixture(autouse=True)
def _former_handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def every_installer() -> list[AbstractContextManager[object]]:
    return [
        handle_signals(SIGNALS, print),
        cancel_on_signals(Cancel(), print),
        cancel_or_detach_on_signals(Cancel(), print),
        exit_on_signals(),
    ]


def test_the_former_handlers_come_back_also_after_an_error():
    for number in SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    for installed in every_installer():
        with suppress(ZeroDivisionError), installed:
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
            _ = 1 / 0
        assert {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_DFL}


def test_an_ignored_signal_stays_ignored():
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    for installed in every_installer()[1:]:
        with installed:
            assert {signal.getsignal(number) for number in SIGNALS} == {signal.SIG_IGN}


def test_an_ignored_signal_that_is_named_is_handled():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cancel = Cancel()
    with cancel_on_signals(cancel, lambda name: None, (signal.SIGINT,)):
        signal.raise_signal(signal.SIGINT)
    assert cancel.reason == "SIGINT"


def test_nothing_is_installed_outside_the_main_thread():
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def work() -> None:
        for installed in every_installer():
            with installed:
                seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert seen == [before] * len(every_installer())


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_first_signal_asks_for_a_stop_and_a_second_interrupts(name):
    cancel, told = Cancel(), []
    with cancel_on_signals(cancel, told.append):
        signal.raise_signal(signal.Signals[name])
        assert (cancel.reason, told) == (name, [name])
        signal.raise_signal(signal.SIGTERM)  # does not interrupt, and is not the reason
        assert cancel.reason == name
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_terminal_that_is_gone_does_not_keep_the_request_from_being_made():
    def tell(name: str) -> None:
        raise BrokenPipeError

    cancel = Cancel()
    with cancel_on_signals(cancel, tell):
        signal.raise_signal(signal.SIGHUP)
    assert cancel.reason == "SIGHUP"


def test_a_second_ctrl_c_leaves_the_run():
    cancel, told = Cancel(), []
    with cancel_or_detach_on_signals(cancel, told.append):
        signal.raise_signal(signal.SIGINT)
        assert (cancel.reason, cancel.left, told) == ("SIGINT", None, ["SIGINT"])
        signal.raise_signal(signal.SIGINT)
    assert (cancel.reason, cancel.left, told) == ("SIGINT", "SIGINT", ["SIGINT"])


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_the_run_is_left_at_once_where_nobody_waits_unless_it_is_to_end_with_us(name):
    cancel = Cancel()
    with cancel_or_detach_on_signals(cancel, lambda name: None):
        signal.raise_signal(signal.Signals[name])
    assert (cancel.reason, cancel.left) == (None, name)
    cancel = Cancel()
    with cancel_or_detach_on_signals(cancel, lambda name: None, kill_on_exit=True):
        signal.raise_signal(signal.Signals[name])
        assert (cancel.reason, cancel.left) == (name, None)
        signal.raise_signal(signal.Signals[name])
    assert (cancel.reason, cancel.left) == (name, name)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_would_kill_us_is_an_exit(number):
    signal.signal(number, signal.SIG_DFL)
    with pytest.raises(SystemExit) as caught, exit_on_signals():
        signal.raise_signal(number)
    assert caught.value.code == 128 + number


def test_the_handler_of_a_program_around_us_stays():
    seen = []
    signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    with exit_on_signals():
        signal.raise_signal(signal.SIGTERM)
    assert seen == [signal.SIGTERM]


def to_another_thread(number: int) -> None:
    signal.pthread_kill(threading.get_ident(), number)


def to_the_process(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("send", [to_another_thread, to_the_process])
def test_a_signal_wakes_us_whichever_thread_gets_it(number, send):
    before = signal.getsignal(number)
    with wake_on_signals() as wait:
        timer = threading.Timer(0.1, send, [number])
        timer.start()
        began = time.monotonic()
        wait()
        assert time.monotonic() - began < 5
        timer.join()
    assert signal.getsignal(number) is before


def test_a_signal_that_comes_before_anybody_waits_wakes_us():
    with wake_on_signals() as wait:
        to_the_process(signal.SIGTERM)
        wait()


def test_a_storm_of_signals_is_one():
    with wake_on_signals() as wait:
        for _ in range(100_000):
            signal.raise_signal(signal.SIGHUP)
        wait()
