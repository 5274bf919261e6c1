"""Follow a Ray job to its end, across connections that break."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gridops.errors import GridError, NodeError, NodeTimeout, RayUnavailable, ReachError
from gridops.observe import events
from gridops.ray.client import RayClient
from gridops.ray.joblog import JobLog, WithoutRays
from gridops.ray.jobsapi import RayJob
from gridops.ray.rest import Sink
from gridops.retry import RetryConfig
from gridops.system.signals import Cancel

POLL_INTERVAL = 0.3  # seconds between two looks
STOP_CHECK_INTERVAL = 0.1  # seconds in which a request to stop is noticed
RAY_TIMEOUT = 30.0  # seconds for Ray to answer again while its node does
PENDING_GRACE = 5.0  # seconds that a job may be pending without a word
PAUSES = RetryConfig(initial_delay=0.5, max_delay=10.0)


class Outage:
    """Outages of one server: an event when one begins, and one when it is over."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._since: float | None = None
        self._tries = 0

    @property
    def delay(self) -> float:
        """Seconds to wait before the next attempt; 0 while all is well."""
        return PAUSES.delay(self._tries - 1) if self._since is not None else 0.0

    def add(self, exc: GridError, reach: float = math.inf) -> None:
        """Count a failed attempt. Raises `exc` when a further one is of no use.

        A node that cannot be reached has `reach` seconds, and one that can has RAY_TIMEOUT to get
        Ray to answer, too.
        """
        now = time.monotonic()
        first = self._since is None
        self._since = self._since or now
        self._tries += 1
        if isinstance(exc, ReachError | NodeTimeout) and not exc.needs_a_person:
            limit = reach
        else:
            limit = RAY_TIMEOUT if isinstance(exc, NodeError | RayUnavailable) else 0.0
        if now - self._since >= limit:
            raise exc
        if first:
            self._node = exc.node or self._node
            events.emit(events.CONNECTION_LOST, node=self._node, error=exc.message)

    def over(self) -> None:
        """Count an attempt that succeeded: the outage, if any, is over."""
        if self._since is not None:
            seconds = time.monotonic() - self._since
            events.emit(events.CONNECTION_REGAINED, node=self._node, seconds=seconds)
        self._since, self._tries = None, 0


@dataclass
class Following:
    """One job's output on its way to `sink`, without Ray's own lines."""

    client: RayClient
    job: RayJob
    sink: Sink
    cancel: Cancel = field(default_factory=Cancel)
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        self._output = WithoutRays(self.job, self.sink)
        self._log: JobLog | None = JobLog(self.job.id, self._output)
        self._dashboard, self._agent = Outage(self._node), Outage(self._node)
        self._says_waiting_at = time.monotonic() + PENDING_GRACE
        self._told = False

    @property
    def _node(self) -> str:
        return self.client.node

    def once(self) -> RayJob:
        """Hand on the output that there is now. Raises what the requests raise."""
        agent = self.client.agent(self.job)
        if agent and self._log:
            self._log.read(agent)
        self._output.flush()
        return self.job

    def to_the_end(self) -> RayJob:
        """Hand on all output until the job has ended; the job then.

        Raises NoRayJob when the cluster has forgotten it, the error that only a person can mend,
        and the last one when Ray does not answer for RAY_TIMEOUT seconds though its node does.
        """
        try:
            while self._goes_on():
                self._pause(max(POLL_INTERVAL, self._dashboard.delay, self._agent.delay))
            return self.job
        finally:
            self._output.flush()

    def _goes_on(self) -> bool:
        if not self._asked():
            return True
        whole = self._read()
        self._say_waiting()
        return self.job.active or not whole

    def _asked(self) -> bool:
        """Ask the head for the job, and pass our request on; true if both succeeded."""
        try:
            self.job = self.client.jobs.job(self.job.id)
            if self.cancel.reason and self.job.active and not self._told:
                self.client.jobs.stop(self.job.id)
                self._told = True
        except GridError as exc:
            self._dashboard.add(exc)
            return False
        self._dashboard.over()
        return True

    def _read(self) -> bool:
        """Hand on the output that there is; true if it is all, or all obtainable."""
        if self._log is None:
            return True
        try:
            agent = self.client.agent(self.job)
            if agent:
                self._log.read(agent)
            self._output.tick()
        except GridError as exc:
            return self._given_up(exc)
        self._agent.over()
        return True

    def _given_up(self, exc: GridError) -> bool:
        """True if the log is out of reach for good.

        The log of a job that has ended is waited for RAY_TIMEOUT at most.
        """
        try:
            self._agent.add(exc, math.inf if self.job.active else RAY_TIMEOUT)
        except GridError:
            events.emit(events.WARNING, message=f"its output cannot be followed: {exc}")
            self._log = None
        return self._log is None

    def _say_waiting(self) -> None:
        if self.job.state == "pending" and time.monotonic() > self._says_waiting_at:
            self._says_waiting_at = math.inf
            job = self.job
            events.emit(events.CLUSTER_JOB_WAITS, node=self._node, id=job.id, reason=job.message)

    def _pause(self, seconds: float) -> None:
        before = self.cancel.reason
        while seconds > 0 and self.cancel.reason == before:
            self.sleep(min(STOP_CHECK_INTERVAL, seconds))
            seconds -= STOP_CHECK_INTERVAL


def ended(client: RayClient, job: RayJob, patience: float) -> RayJob:
    """Wait until the job has ended, `patience` seconds at most; the job then."""
    end = time.monotonic() + patience
    while job.active and time.monotonic() < end:
        time.sleep(POLL_INTERVAL)
        job = client.jobs.job(job.id)
    return job
