"""HTTP client of a running cluster: the head's dashboard, and the agents beside its jobs."""

from __future__ import annotations

from collections.abc import Callable

from gridops.errors import PortClosed
from gridops.ray.jobsapi import JobsApi, RayJob
from gridops.ray.model import ClusterFacts
from gridops.ray.rest import SERVER_TIMEOUT, Api, Channel
from gridops.reach.link import Link, Stream

DIAL_TIMEOUT = 20.0  # seconds, a login included
DASHBOARD, AGENT = "Ray's dashboard", "Ray's agent"


class RayClient:
    """Client of one running cluster; connects on first use.

    Close it in the end: `with RayClient(facts, link) as client`.
    """

    def __init__(self, facts: ClusterFacts, head: Link) -> None:
        self.facts = facts
        self._link = head
        self._dashboard = Api(self._channels(self.stream), facts.token, DASHBOARD)
        self._agents: dict[tuple[str, int], Api] = {}
        self.jobs = JobsApi(self._dashboard)

    def __enter__(self) -> RayClient:
        return self

    def __exit__(self, *exc: object) -> None:
        for api in (self._dashboard, *self._agents.values()):
            api.close()

    @property
    def node(self) -> str:
        """The head's name."""
        return self.facts.head.name

    def stream(self) -> Stream:
        """Open a connection to the dashboard, for callers that speak HTTP themselves.

        Raises PortClosed, and what else `Link.dial` raises.
        """
        return self._dial(DASHBOARD, self.facts.dashboard_port)

    def agent(self, job: RayJob) -> Api | None:
        """The agent of the machine that runs the job's command; None before there is one.

        It is reached through the head.
        """
        if job.agent is None:
            return None
        if job.agent not in self._agents:
            host, port = job.agent
            dial = self._channels(lambda: self._dial(f"{AGENT} on {host}", port, host))
            self._agents[job.agent] = Api(dial, self.facts.token, AGENT)
        return self._agents[job.agent]

    def _dial(self, what: str, port: int, host: str | None = None) -> Stream:
        try:
            return self._link.dial(port, host=host, timeout=DIAL_TIMEOUT)
        except PortClosed as exc:
            raise PortClosed(
                f"{what} does not answer on port {port}",
                node=self.node,
                hint="check the cluster by `inv cluster.status`",
            ) from exc

    def _channels(self, dial: Callable[[], Stream]) -> Callable[[], Channel]:
        def open_channel() -> Channel:
            stream = dial()
            stream.settimeout(SERVER_TIMEOUT)
            return Channel(stream)

        return open_channel
