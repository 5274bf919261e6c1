"""Events: every listener hears everything, and none can break the work."""

from __future__ import annotations

import threading
import time
from contextvars import copy_context

import pytest

from gridops.observe import events
from gridops.observe.events import Event, bound, context, emit, listening


@pytest.fixture
def heard():
    found: list[Event] = []
    with listening(found.append):
        yield found


def test_a_listener_hears_name_fields_and_time(heard):
    before = time.time()
    emit(events.NODE_PROBED, node="a", state="healthy")
    assert [(event.name, dict(event.fields)) for event in heard] == [
        ("node.probed", {"node": "a", "state": "healthy"})
    ]
    assert before <= heard[0].at <= time.time()


def test_it_hears_nothing_after_its_block():
    found: list[Event] = []
    with listening(found.append):
        emit("inside")
    emit("outside")
    assert [event.name for event in found] == ["inside"]


def test_it_stops_listening_when_the_block_fails():
    found: list[Event] = []
    with pytest.raises(ValueError, match="x"), listening(found.append):
        raise ValueError("x")
    emit("outside")
    assert found == []


def test_a_listener_that_raises_harms_neither_the_work_nor_the_others(heard):
    def broken(event: Event) -> None:
        raise RuntimeError("sink is full")

    later: list[Event] = []
    with listening(broken), listening(later.append):
        emit("one")
        emit("two")
    assert [event.name for event in heard] == ["one", "two"] == [event.name for event in later]


def test_a_listener_may_leave_while_it_is_told():
    found: list[str] = []

    def once(event: Event) -> None:
        found.append(event.name)
        inner.__exit__(None, None, None)

    later: list[Event] = []
    inner = listening(once)
    inner.__enter__()
    with listening(later.append):
        emit("one")
        emit("two")
    assert found == ["one"]
    assert [event.name for event in later] == ["one", "two"]


def test_context_is_bound_inside_the_block_and_nests(heard):
    with bound(task="run"):
        with bound(run_id="r1"):
            emit("inner")
            assert context() == {"task": "run", "run_id": "r1"}
        emit("outer")
    emit("outside")
    assert [dict(event.context) for event in heard] == [
        {"task": "run", "run_id": "r1"},
        {"task": "run"},
        {},
    ]


def test_context_follows_into_a_thread_that_copies_it(heard):
    def work() -> None:
        emit("from the thread")

    with bound(task="health"):
        thread = threading.Thread(target=copy_context().run, args=(work,))
        thread.start()
        thread.join()
    assert dict(heard[0].context) == {"task": "health"}


def test_many_threads_can_emit_at_once(heard):
    threads = [threading.Thread(target=lambda: [emit("x") for _ in range(200)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(heard) == 1600


def test_names_of_events_are_unique():
    names = [value for key, value in vars(events).items() if key.isupper()]
    assert len(names) == len(set(names)) > 10
