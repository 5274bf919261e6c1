"""Asking many at once: bounded, in the order they finish, and nobody is lost or waited for."""

from __future__ import annotations

import pickle
import threading
import time
from contextvars import ContextVar

import pytest

from gridops.errors import ConnectRefused, NodeError, NodeTimeout
from gridops.model import Node
from gridops.reach.fanout import fan_out, race


def nodes(*names: str) -> list[Node]:
    return [Node(name, name) for name in names]


def test_every_node_gives_its_value() -> None:
    outcomes = list(fan_out(nodes("a", "b", "c"), lambda node: node.name.upper()))
    assert sorted((o.node.name, o.value) for o in outcomes) == [("a", "A"), ("b", "B"), ("c", "C")]


def test_nothing_to_ask_gives_nothing() -> None:
    assert list(fan_out([], lambda node: node)) == []


def test_results_come_as_they_finish() -> None:
    release = threading.Event()

    def work(node: Node) -> None:
        if node.name == "slow":
            release.wait(10)

    outcomes = fan_out(nodes("slow", "quick"), work)
    assert next(outcomes).node.name == "quick"
    release.set()
    assert next(outcomes).node.name == "slow"


def test_an_error_is_its_nodes_alone_and_carries_the_name() -> None:
    def work(node: Node) -> str:
        if node.name == "bad":
            raise ConnectRefused("nobody there")
        return "fine"

    outcomes = {o.node.name: o for o in fan_out(nodes("good", "bad"), work)}
    assert outcomes["good"].value == "fine"
    error = outcomes["bad"].error
    assert isinstance(error, ConnectRefused)
    assert str(pickle.loads(pickle.dumps(error))) == "bad: nobody there"


@pytest.mark.parametrize("failure", [ValueError("odd"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_else_a_worker_raises_is_wrapped_and_not_lost(failure: BaseException) -> None:
    def work(node: Node) -> None:
        raise failure

    (outcome,) = fan_out(nodes("a"), work)
    assert type(outcome.error) is NodeError
    assert outcome.error.__cause__ is failure
    assert outcome.error.node == "a"


def test_no_more_than_max_workers_are_busy() -> None:
    busy, most, lock = 0, 0, threading.Lock()

    def work(node: Node) -> None:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.02)
        with lock:
            busy -= 1

    assert len(list(fan_out(nodes(*"abcdefghij"), work, max_workers=3))) == 10
    assert most == 3


def test_one_that_hangs_is_given_up_and_takes_nobodys_place() -> None:
    forever = threading.Event()

    def work(node: Node) -> None:
        if node.name.startswith("hung"):
            forever.wait(30)

    began = time.monotonic()
    asked = nodes("hung1", "hung2", "a", "b", "c")
    outcomes = {o.node.name: o for o in fan_out(asked, work, max_workers=2, timeout=0.2)}
    assert time.monotonic() - began < 2
    forever.set()
    assert len(outcomes) == 5
    late = outcomes["hung1"]
    assert isinstance(late.error, NodeTimeout)
    assert str(late.error) == "hung1: no answer within 0.2 s (its time limit has passed)"
    assert 0.2 <= late.seconds < 1
    assert all(outcomes[name].ok for name in "abc")


def test_the_time_of_a_node_begins_when_its_turn_comes() -> None:
    outcomes = fan_out(nodes("a", "b", "c"), lambda _: time.sleep(0.15), max_workers=1, timeout=0.4)
    assert all(outcome.ok for outcome in outcomes)


def test_the_deadline_ends_those_who_run_and_those_who_wait() -> None:
    forever = threading.Event()
    began = time.monotonic()
    outcomes = list(
        fan_out(nodes("a", "b", "c"), lambda _: forever.wait(30), max_workers=1, deadline=0.3)
    )
    assert time.monotonic() - began < 2
    forever.set()
    assert [type(outcome.error) for outcome in outcomes] == [NodeTimeout] * 3
    assert "time limit of all nodes" in str(outcomes[0].error)


def test_what_comes_after_its_time_does_not_come_twice() -> None:
    outcomes = list(
        fan_out(nodes("late", "last"), lambda n: time.sleep(0.3), max_workers=1, timeout=0.2)
    )
    assert [outcome.node.name for outcome in outcomes] == ["late", "last"]


def test_stopping_early_asks_nobody_else() -> None:
    asked: list[str] = []
    outcomes = fan_out(nodes("a", "b", "c"), lambda node: asked.append(node.name), max_workers=1)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    time.sleep(0.05)
    assert asked == ["a"]


def test_workers_see_the_callers_context() -> None:
    variable = ContextVar("variable", default="unset")
    variable.set("bound")
    (outcome,) = fan_out(nodes("a"), lambda node: variable.get())
    assert outcome.value == "bound"


def test_when_no_thread_can_be_had_fewer_do_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    start, running = threading.Thread.start, threading.Semaphore(2)

    def limited(thread: threading.Thread) -> None:
        if not running.acquire(blocking=False):
            raise RuntimeError("can't start new thread")
        start(thread)

    def work(node: Node) -> None:
        time.sleep(0.02)
        running.release()

    monkeypatch.setattr(threading.Thread, "start", limited)
    assert sum(outcome.ok for outcome in fan_out(nodes(*"abcdef"), work, max_workers=6)) == 6


def test_a_race_is_for_anything_and_leaves_exceptions_as_they_are() -> None:
    done = {finished.item: finished for finished in race([4, 0], lambda n: 8 // n, max_workers=2)}
    assert done[4].value == 2
    assert type(done[0].error) is ZeroDivisionError
