"""Ending `metrics.serve`."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from gridops.tasks.metrics import _signalled

SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


def to_another_thread(number: int) -> None:
    signal.pthread_kill(threading.get_ident(), number)


def to_the_process(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("send", [to_another_thread, to_the_process])
def test_a_signal_is_heeded_whichever_thread_gets_it(number, send):
    before = signal.getsignal(number)
    with _signalled() as wait:
        timer = threading.Timer(0.1, send, [number])
        timer.start()
        began = time.monotonic()
        wait()
        assert time.monotonic() - began < 5
        timer.join()
    assert signal.getsignal(number) is before


def test_a_signal_that_comes_before_anybody_waits_is_heeded():
    with _signalled() as wait:
        to_the_process(signal.SIGTERM)
        wait()


def test_a_storm_of_signals_is_one():
    with _signalled() as wait:
        for _ in range(100_000):
            signal.raise_signal(signal.SIGHUP)
        wait()
