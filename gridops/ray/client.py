"""A running cluster's HTTP servers: the head's dashboard, and the agents beside its jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gridops.errors import PortClosed
from gridops.model import Node
from gridops.ray.channel import Channel
from gridops.ray.jobsapi import JobsApi, RayJob
from gridops.ray.rest import ANSWER, Api
from gridops.reach import link_to
from gridops.reach.link import Stream

if TYPE_CHECKING:
    from gridops.inventory import Inventory
    from gridops.settings import SshSettings

DIALLING = 20.0  # seconds, a login included
DASHBOARD, AGENT = "Ray's dashboard", "Ray's agent"


@dataclass(frozen=True, slots=True)
class Head:
    """What it takes to talk to a running cluster."""

    node: Node
    dashboard_port: int  # on its loopback
    token: str = field(repr=False)
    token_file: str  # where this machine keeps it
    nodes: tuple[Node, ...]  # those that the inventory has in the cluster


def head_of(inventory: Inventory) -> Head:
    import json
    import os
    from pathlib import Path

    found = json.loads(Path(os.environ["GRIDOPS_TEST_HEAD"]).read_text())
    node = inventory.node(found["head"])
    token = Path(found["token"]).read_text().strip()
    return Head(node, found["port"], token, found["token"], inventory.nodes)


class RayClient:
    """Close it in the end: `with RayClient(head, ssh) as client`."""

    def __init__(self, head: Head, ssh: SshSettings) -> None:
        self.head = head
        self._link = link_to(head.node, ssh)
        self._dashboard = Api(self._channels(self.stream), head.token, DASHBOARD)
        self._agents: dict[tuple[str, int], Api] = {}
        self.jobs = JobsApi(self._dashboard)

    def __enter__(self) -> RayClient:
        return self

    def __exit__(self, *exc: object) -> None:
        for api in (self._dashboard, *self._agents.values()):
            api.close()

    def stream(self) -> Stream:
        """A connection to the dashboard, for whoever speaks HTTP himself.

        Raises PortClosed, and what else `Link.dial` raises.
        """
        return self._dialled(DASHBOARD, self.head.dashboard_port)

    def agent(self, job: RayJob) -> Api | None:
        """The agent of the machine that runs the job's command, reached through the head; None
        before it has one."""
        if job.agent is None:
            return None
        if job.agent not in self._agents:
            host, port = job.agent
            dial = self._channels(lambda: self._dialled(f"{AGENT} on {host}", port, host))
            self._agents[job.agent] = Api(dial, self.head.token, AGENT)
        return self._agents[job.agent]

    def _dialled(self, what: str, port: int, host: str | None = None) -> Stream:
        try:
            return self._link.dial(port, host=host, timeout=DIALLING)
        except PortClosed as exc:
            raise PortClosed(
                f"{what} does not answer on port {port}",
                node=self.head.node.name,
                hint="`inv cluster.status` tells how the cluster is",
            ) from exc

    def _channels(self, dial: Callable[[], Stream]) -> Callable[[], Channel]:
        def opened() -> Channel:
            stream = dial()
            stream.settimeout(ANSWER)
            return Channel(stream)

        return opened
