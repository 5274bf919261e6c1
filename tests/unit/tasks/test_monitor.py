"""Rounds of probing: what changes, and inventories that are edited meanwhile."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from gridops.errors import InventoryError, UnknownNameError
from gridops.model import Cpu, Jobs, Node, NodeHealth
from gridops.observe import events
from gridops.tasks import _monitor as module
from gridops.tasks._monitor import Monitor, Selection

Heard = list[events.Event]


@pytest.fixture
def heard() -> Iterator[Heard]:
    found: Heard = []
    with events.listening(found.append):
        yield found


class Answers:
    """What the nodes say in the next rounds: state by name; healthy if nothing else is said."""

    def __init__(self) -> None:
        self.states: dict[str, str] = {}
        self.running = 0
        self.asked: list[list[str]] = []

    def check(self, nodes: Sequence[Node], settings: object, **_: object) -> Iterator[NodeHealth]:
        self.asked.append([node.name for node in nodes])
        for node in reversed(nodes):  # in any order
            state = self.states.get(node.name, "healthy")
            if state == "unreachable":
                yield NodeHealth(node, "unreachable", error="Connection refused")
            else:
                cpu = Cpu(4, 0.1, 0.1, 0.1, 2.0)
                jobs = Jobs(self.running, node.slots)
                yield NodeHealth(node, state, 2.0, cpu=cpu, jobs=jobs)  # type: ignore[arg-type]


@pytest.fixture
def answers(monkeypatch) -> Answers:
    made = Answers()
    monkeypatch.setattr(module, "check", made.check)
    return made


@pytest.fixture
def inventory(write: Callable[..., Path]) -> Callable[[str], Path]:
    ticks = iter(range(1, 1000))

    def edit(text: str) -> Path:
        path = write(text, "nodes.yaml")
        later = time.time() + next(ticks)  # an edit within the clock's resolution is one, too
        os.utime(path, (later, later))
        return path

    return edit


def names(round: module.Round) -> list[str]:
    return [health.node.name for health in round.nodes]


def test_a_round_has_every_node_in_the_inventorys_order(answers, inventory):
    answers.states["b"] = "unreachable"
    last = Monitor(Selection(inventory("nodes: [c, b, a]")), 15).round()
    assert names(last) == ["c", "b", "a"]
    assert [health.state for health in last.nodes] == ["healthy", "unreachable", "healthy"]
    assert (last.number, last.inventory, last.warning) == (1, "nodes.yaml", "")
    assert abs(last.at - time.time()) < 5


def test_before_the_first_round_there_is_nothing(inventory):
    last = Monitor(Selection(inventory("nodes: [a]")), 15).last
    assert (last.at, last.nodes, last.inventory) == (0.0, (), "nodes.yaml")


def test_nodes_that_go_and_come_back_are_told_of_once(answers, inventory, heard):
    monitor = Monitor(Selection(inventory("nodes: [a, b]")), 15)
    for state in ("healthy", "unreachable", "unreachable", "healthy"):
        answers.states["a"] = state
        monitor.round()
    changes = [dict(event.fields) for event in heard if event.name == events.NODE_CHANGED]
    assert changes == [
        {
            "node": "a",
            "before": "healthy",
            "state": "unreachable",
            "reason": "Connection refused",
        },
        {"node": "a", "before": "unreachable", "state": "healthy", "reason": ""},
    ]


def test_an_edit_counts_from_the_next_round_on(answers, inventory, heard):
    monitor = Monitor(Selection(inventory("nodes: [a, b]")), 15)
    assert names(monitor.round()) == ["a", "b"]
    inventory("nodes: [b, c, d]")
    assert names(monitor.round()) == ["b", "c", "d"]
    assert [dict(e.fields) for e in heard if e.name == events.INVENTORY_CHANGED] == [
        {"nodes": 3, "inventory": "nodes.yaml"}
    ]


@pytest.mark.parametrize("text", ["nodes: [", "nodes: []", "nodez: [a]", ""])
def test_a_bad_edit_changes_nothing_and_is_told_once(answers, inventory, heard, text):
    monitor = Monitor(Selection(inventory("nodes: [a, b]")), 15)
    monitor.round()
    inventory(text)
    for _ in range(3):
        last = monitor.round()
        assert names(last) == ["a", "b"]
        assert "nodes.yaml" in last.warning
    assert [e.name for e in heard if e.name == events.WARNING] == [events.WARNING]
    inventory("nodes: [a]")
    last = monitor.round()
    assert (names(last), last.warning) == (["a"], "")


def test_a_file_that_goes_away_for_a_moment_changes_nothing(answers, inventory):
    path = inventory("nodes: [a, b]")
    monitor = Monitor(Selection(path), 15)
    path.rename("elsewhere.yaml")
    assert names(monitor.round()) == ["a", "b"]
    inventory("nodes: [c]")
    assert names(monitor.round()) == ["c"]


def test_an_edit_of_the_variables_it_uses_counts_too(answers, write):
    path = write("nodes: {a: {user: '${WHO}'}}", "nodes.yaml")
    write("WHO=ada\n", ".env")
    selection = Selection(path)
    assert selection.chosen[0].user == "ada"
    write("WHO=grace\n", ".env")
    Monitor(selection, 15).round()
    assert selection.chosen[0].user == "grace"


def test_a_selection_is_made_again_of_the_edited_file(answers, inventory):
    selection = Selection(inventory("nodes: {a: {tags: [x]}, b: }"), tags="x")
    monitor = Monitor(selection, 15)
    assert names(monitor.round()) == ["a"]
    inventory("nodes: {a: {tags: [x]}, b: {tags: [x]}}")
    assert names(monitor.round()) == ["a", "b"]
    inventory("nodes: [a, b]")  # nothing has the tag any more
    last = monitor.round()
    assert names(last) == ["a", "b"]
    assert "unknown tag" in last.warning


@pytest.mark.usefixtures("cwd")
def test_without_an_inventory_it_is_this_machine():
    assert Selection(None).source == "this machine"


def test_an_inventory_that_is_bad_from_the_start_is_an_error(inventory):
    with pytest.raises(InventoryError):
        Selection(inventory("nodes: ["))
    with pytest.raises(UnknownNameError):
        Selection(inventory("nodes: [a]"), nodes="b")


def test_a_round_that_fails_is_told_and_followed_by_another(inventory, heard, monkeypatch):
    calls: list[int] = []
    stop, published = threading.Event(), []

    def failing_once(nodes: object, settings: object, **_: object) -> Iterator[NodeHealth]:
        calls.append(1)
        if len(calls) == 1:
            raise RuntimeError("no thread left")
        yield NodeHealth(Node("a", "a"), "healthy", 1.0)

    def publish(done: module.Round) -> None:
        published.append(done)
        stop.set()

    monkeypatch.setattr(module, "check", failing_once)
    monkeypatch.setattr(module, "ROUND_DELAY", 0.01)
    Monitor(Selection(inventory("nodes: [a]")), 0.01).run(stop, publish)
    assert [done.number for done in published] == [1]
    (warning,) = [event for event in heard if event.name == events.WARNING]
    assert "no thread left" in warning.fields["message"]


def test_rounds_begin_at_even_times(answers, inventory, monkeypatch):
    stop = threading.Event()
    times: list[float] = []

    def publish(done: module.Round) -> None:
        times.append(time.monotonic())
        time.sleep(0.1)
        if len(times) == 4:
            stop.set()

    monkeypatch.setattr(module, "ROUND_DELAY", 0.0)
    Monitor(Selection(inventory("nodes: [a]")), 0.3).run(stop, publish)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(0.2 < gap < 0.45 for gap in gaps), gaps


def test_runs_are_asked_for_where_there_are_any_and_not_in_every_round(
    answers, inventory, monkeypatch
):
    asked: list[list[str]] = []

    class FakeGrid:
        def __init__(self, grid: object) -> None:
            self.settings = grid.settings  # type: ignore[attr-defined]

        def jobs(self, nodes: Sequence[Node]) -> Iterator[object]:
            asked.append([node.name for node in nodes])
            return iter(())

    selection = Selection(inventory("nodes: [a, b]"))
    selection.grid = FakeGrid(selection.grid)  # type: ignore[assignment]
    monitor = Monitor(selection, 15)

    def look() -> None:
        monitor.round()
        monitor.look_at_runs()

    look()
    assert asked == []
    answers.running = 1
    for _ in range(3):
        look()
    assert asked == [["a", "b"]]
    answers.running = 2
    look()
    assert len(asked) == 2
