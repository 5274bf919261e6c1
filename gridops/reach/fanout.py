"""Ask many nodes at once, bounded in workers and in time.

Every node yields exactly one Outcome, in the order they finish. A worker that does not come back
in time is left behind (it is a daemon thread, and its own waits are bounded too); its node's
Outcome is a NodeTimeout, and a fresh worker takes its place so that the others are not delayed.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import copy_context
from typing import TypeVar

from gridops.errors import GridError, NodeError, NodeTimeout
from gridops.model import Node, Outcome

T = TypeVar("T")


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
    return _FanOut(nodes, work, max_workers, timeout, deadline).results()


class _FanOut:
    def __init__(
        self,
        nodes: Sequence[Node],
        work: Callable[[Node], T],
        max_workers: int,
        timeout: float | None,
        deadline: float | None,
    ) -> None:
        self._work = work
        self._timeout = timeout
        self._waiting = deque(enumerate(nodes))
        self._running: dict[int, tuple[Node, float]] = {}
        self._done: queue.SimpleQueue[tuple[int, Outcome[T]]] = queue.SimpleQueue()
        self._max_workers = max(1, max_workers)
        self._began = time.monotonic()
        self._end = None if deadline is None else self._began + deadline
        self._deadline = deadline

    def results(self) -> Iterator[Outcome[T]]:
        while self._waiting or self._running:
            self._fill()
            yield from self._collect()
            yield from self._expire()

    def _fill(self) -> None:
        while self._waiting and len(self._running) < self._max_workers:
            index, node = self._waiting.popleft()
            self._running[index] = (node, time.monotonic())
            context = copy_context()
            threading.Thread(
                target=context.run, args=(self._one, index, node), name=node.name, daemon=True
            ).start()

    def _one(self, index: int, node: Node) -> None:
        began = time.monotonic()
        value, error = None, None
        try:
            value = self._work(node)
        except GridError as exc:
            error = exc
        except Exception as exc:  # noqa: BLE001 - one node's fault must not end the others
            error = NodeError(f"{type(exc).__name__}: {exc}", node=node.name)
            error.__cause__ = exc
        self._done.put((index, Outcome(node, value, error, time.monotonic() - began)))

    def _collect(self) -> Iterator[Outcome[T]]:
        """What has finished; waits until something has, or the next limit passes."""
        try:
            item = self._done.get(timeout=self._patience())
        except queue.Empty:
            return
        while True:
            index, outcome = item
            if self._running.pop(index, None):  # else: it was given up before
                yield outcome
            try:
                item = self._done.get_nowait()
            except queue.Empty:
                return

    def _patience(self) -> float | None:
        ends = (
            [began + self._timeout for _, began in self._running.values()] if self._timeout else []
        )
        if self._end is not None:
            ends.append(self._end)
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _expire(self) -> Iterator[Outcome[T]]:
        now = time.monotonic()
        if self._end is not None and now >= self._end:
            late = [node for node, _ in self._running.values()]
            late += [node for _, node in self._waiting]
            self._running.clear()
            self._waiting.clear()
            for node in late:
                yield self._late(node, self._deadline, "the overall deadline")
        elif self._timeout is not None:
            for index, (node, began) in list(self._running.items()):
                if now >= began + self._timeout:
                    del self._running[index]
                    yield self._late(node, self._timeout, "its time")

    @staticmethod
    def _late(node: Node, seconds: float | None, what: str) -> Outcome[T]:
        error = NodeTimeout(
            f"no answer within {seconds:g} s", node=node.name, hint=f"{what} ran out"
        )
        return Outcome(node, None, error, seconds or 0.0)
