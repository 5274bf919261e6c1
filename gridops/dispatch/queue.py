"""Queueing on several nodes at once: the run begins on the first with a free slot."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from gridops.dispatch.candidates import (
    Assignment,
    NoneAble,
    retry_with_new_id,
)
from gridops.dispatch.staging import renewing
from gridops.errors import GridError, NotStarted, ReachError, StartUnknown
from gridops.jobs import client
from gridops.jobs.outcome import describe_resources
from gridops.jobs.spec import Acknowledgement, JobSpec
from gridops.jobs.start import start_job
from gridops.model import Job, Outcome
from gridops.observe import events
from gridops.reach.fanout import fan_out
from gridops.reach.link import Link
from gridops.system.signals import Cancel

if TYPE_CHECKING:
    pass

T = TypeVar("T")
Request = Callable[[Link, JobSpec], T]

QUEUE_INTERVAL = 0.5  # seconds between two looks at the line, and as much more as a look takes
CANCEL_INTERVAL = 0.1  # seconds between two looks at `cancel`
ENQUEUE_TIMEOUT = 100.0  # seconds that a node may take to let us in
QUEUE_TIMEOUT = 10.0  # seconds that a node may take to tell how we stand; then others hear of us
LEAVE_TIMEOUT = 30.0  # seconds that a node may take to let us out


class Queue:
    """Places of one run in the queues of several nodes.

    All have its id. A node whose turn has come holds the slot for us until we have brought the tree
    there and told the run to begin, or not to.
    """

    def __init__(
        self,
        places: Sequence[Assignment],
        stage: Callable[[Assignment], Assignment],
        *,
        max_workers: int,
    ) -> None:
        """Take the run's assignments, one a node, best first.

        Each has a hold, and the time that it may wait.

        `stage` brings what the run needs to a node that holds a slot for it, and raises what
        `Dispatch.stage` may. At most `max_workers` nodes are asked at once.
        """
        self._stage = stage
        self._job = places[0].job
        self._max_workers = max_workers
        self._places = {place.link.node.name: place for place in places}

    def wait(self, cancel: Cancel) -> Assignment | None:
        """Wait for the first slot, and let the run begin there.

        Returns the run's assignment there, or None when `cancel` asked for an end before. Raises
        NotStarted when no slot came free in time; NoneAble or a node's own error when no node lets
        us queue.
        """
        chosen: Assignment | None = None
        try:
            self._enqueue()
            while chosen is None and not (cancel.reason or cancel.left):
                began = time.monotonic()
                chosen = next(filter(None, map(self._confirm, self._poll())), None)
                if chosen is None:
                    _pause(QUEUE_INTERVAL + time.monotonic() - began, cancel)
            return chosen
        finally:
            self._leave(but=chosen)

    def _enqueue(self) -> None:
        refusals: list[GridError] = []
        for outcome in self._ask(self._enqueue_at, ENQUEUE_TIMEOUT):
            if outcome.error and not isinstance(outcome.error, StartUnknown):
                refusals.append(outcome.error)
                del self._places[outcome.node.name]
        if not self._places:
            raise refusals[0] if len(refusals) == 1 else NoneAble(refusals)
        nodes, job = tuple(self._places), next(iter(self._places.values())).job
        events.emit(
            events.RUN_QUEUED,
            nodes=nodes,
            id=job.id,
            seconds=self._job.wait,
            gpus=job.gpus,
            command=job.command,
        )

    def _enqueue_at(self, link: Link, job: JobSpec) -> Acknowledgement:
        def begin(place: Assignment) -> Acknowledgement:
            self._places[link.node.name] = place
            return start_job(link, place.job)

        return retry_with_new_id(self._places[link.node.name], begin)

    def _poll(self) -> Iterator[Assignment]:
        """Places that now hold a slot for us, best first."""
        turns = set()
        for outcome in self._ask(_renew, QUEUE_TIMEOUT):
            if outcome.error:
                continue  # it may come back, and still have us in line
            if outcome.value is None or not outcome.value.active:
                del self._places[outcome.node.name]
            elif outcome.value.state == "held":
                turns.add(outcome.node.name)
        if not self._places:
            raise NotStarted(
                f"no {describe_resources(self._job.gpus)} came free within {self._job.wait:g} s",
                reason="busy",
                hint="`inv jobs` shows who has them",
            )
        yield from [place for name, place in self._places.items() if name in turns]

    def _confirm(self, place: Assignment) -> Assignment | None:
        """Bring the tree to a node that holds a slot; confirm the run."""
        node, link, job_id = place.link.node, place.link, place.job.id
        try:
            with renewing(link, job_id):
                brought = self._stage(place)
        except GridError as exc:
            if not exc.try_next_node:
                raise
            events.emit(events.NODE_SKIPPED, node=node.name, reason=str(exc))
            self._cancel([self._places.pop(node.name)])
            return None
        try:
            begins = client.confirm(link, job_id)
        except ReachError:
            begins = True  # it may have; whoever follows it will see
        if not begins:
            del self._places[node.name]
        return brought if begins else None

    def _leave(self, but: Assignment | None) -> None:
        self._cancel([p for p in self._places.values() if but is None or p.link is not but.link])

    def _cancel(self, places: Sequence[Assignment]) -> None:
        """Leave the lines of `places`.

        A node that cannot be told gives up by itself: nobody confirms the run there.
        """
        for _ in self._ask_at(places, _kill, LEAVE_TIMEOUT):
            pass

    def _ask(self, request: Request[T], limit: float) -> Iterator[Outcome[T]]:
        return self._ask_at(tuple(self._places.values()), request, limit)

    def _ask_at(
        self, places: Sequence[Assignment], request: Request[T], limit: float
    ) -> Iterator[Outcome[T]]:
        at = {place.link.node.name: place for place in places}
        return fan_out(
            [place.link.node for place in places],
            lambda node: request(at[node.name].link, at[node.name].job),
            max_workers=self._max_workers,
            timeout=limit,
        )


def _renew(link: Link, job: JobSpec) -> Job | None:
    return client.renew(link, job.id)


def _kill(link: Link, job: JobSpec) -> None:
    client.kill(link, job.id, grace=0, wait=5.0)


def _pause(seconds: float, cancel: Cancel) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not (cancel.reason or cancel.left):
        time.sleep(CANCEL_INTERVAL)
