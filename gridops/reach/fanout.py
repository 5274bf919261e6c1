"""Ask many at once, bounded in workers and in time.

Every item yields exactly one result, in the order they finish. A worker that does not come back in
time is left behind (it is a daemon thread, and its own waits are bounded too); its item's result is
a NodeTimeout, and a fresh worker takes its place so that the others are not delayed.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Generic, TypeVar

from gridops.errors import GridError, NodeError, NodeTimeout
from gridops.model import Node, Outcome
from gridops.system.rundir import make_room

K = TypeVar("K")
T = TypeVar("T")

FILES_PER_NODE = 10  # descriptors to ask one node: pipes, control socket, selector, child


@dataclass(frozen=True, slots=True)
class Finished(Generic[K, T]):
    """Result of one item: a value or an error. A limit that ran out is a NodeTimeout."""

    item: K
    value: T | None = None
    error: BaseException | None = None
    seconds: float = 0.0


def fan_out(
    nodes: Sequence[Node],
    work: Callable[[Node], T],
    *,
    max_workers: int = 64,
    timeout: float | None = None,
    deadline: float | None = None,
) -> Iterator[Outcome[T]]:
    """Call `work(node)` for every node, at most `max_workers` at a time.

    `timeout` is seconds for one node from the moment its turn comes; `deadline` is seconds for all
    of them together. `work` raises GridError for what went wrong on its node; any other exception
    is wrapped, never lost. Closing the iterator early starts no further node.
    """
    for done in race(nodes, work, max_workers=max_workers, timeout=timeout, deadline=deadline):
        node, error = done.item, done.error
        if error is not None and not isinstance(error, GridError):
            error = NodeError(f"{type(error).__name__}: {error}", node=node.name)
            error.__cause__ = done.error
        if error is not None:
            error.node = error.node or node.name
        yield Outcome(node, done.value, error, done.seconds)


def race(
    items: Sequence[K],
    work: Callable[[K], T],
    *,
    max_workers: int,
    timeout: float | None = None,
    deadline: float | None = None,
) -> Iterator[Finished[K, T]]:
    """Call `work(item)` for every item, as `fan_out` does; exceptions come back as they are."""
    workers = make_room(FILES_PER_NODE * min(max(1, max_workers), len(items))) // FILES_PER_NODE
    return _Race(items, work, max(1, workers), timeout, deadline).results()


class _Race(Generic[K, T]):
    def __init__(
        self,
        items: Sequence[K],
        work: Callable[[K], T],
        workers: int,
        timeout: float | None,
        deadline: float | None,
    ) -> None:
        self._work = work
        self._workers = workers
        self._timeout = timeout
        self._deadline = deadline
        self._end = None if deadline is None else time.monotonic() + deadline
        self._waiting = deque(enumerate(items))
        self._running: dict[int, tuple[K, float]] = {}  # item and when its turn came
        self._done: queue.SimpleQueue[tuple[int, Finished[K, T]]] = queue.SimpleQueue()

    def results(self) -> Iterator[Finished[K, T]]:
        while self._waiting or self._running:
            self._fill()
            yield from self._collect()
            yield from self._expire()

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self._workers:
            index, item = self._waiting[0]
            run = copy_context().run
            thread = threading.Thread(target=run, args=(self._one, index, item), daemon=True)
            try:
                thread.start()
            except RuntimeError:  # the system has no thread left for us: fewer at once, then
                if not self._running:
                    raise
                self._workers = len(self._running)
                return
            self._running[index] = (item, time.monotonic())
            self._waiting.popleft()

    def _one(self, index: int, item: K) -> None:
        began = time.monotonic()
        value: T | None = None
        error: BaseException | None = None
        try:
            value = self._work(item)
        except BaseException as exc:  # noqa: BLE001 - one item's fault must not end the others
            error = exc
        self._done.put((index, Finished(item, value, error, time.monotonic() - began)))

    def _collect(self) -> Iterator[Finished[K, T]]:
        """Finished items; waits until there is one, or the next limit passes."""
        try:
            index, done = self._done.get(timeout=self._patience())
            while True:
                if self._running.pop(index, None):  # else: it was given up before
                    yield done
                index, done = self._done.get_nowait()
        except queue.Empty:
            return

    def _patience(self) -> float | None:
        ends = [] if self._end is None else [self._end]
        if self._timeout is not None:
            ends += [began + self._timeout for _, began in self._running.values()]
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _expire(self) -> Iterator[Finished[K, T]]:
        now = time.monotonic()
        if self._end is not None and now >= self._end:
            late = [*self._running.values(), *((item, now) for _, item in self._waiting)]
            self._running.clear()
            self._waiting.clear()
            for item, began in late:
                yield self._late(item, now - began, self._deadline, "the time limit of all nodes")
        elif self._timeout is not None:
            for index, (item, began) in list(self._running.items()):
                if now >= began + self._timeout:
                    del self._running[index]
                    yield self._late(item, now - began, self._timeout, "its time limit")

    @staticmethod
    def _late(item: K, took: float, limit: float | None, what: str) -> Finished[K, T]:
        error = NodeTimeout(f"no answer within {limit:g} s", hint=f"{what} has passed")
        return Finished(item, None, error, took)
