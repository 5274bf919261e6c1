"""A running cluster's HTTP servers: the head's dashboard, and the agents beside its jobs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gridops.errors import PortClosed, RayJobError
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
    dashboard_port: int
    token: str = field(repr=False)
    token_file: str  # where this machine keeps it
    members: Mapping[str, Node]  # by the address that the cluster knows each by


def head_of(inventory: Inventory) -> Head:
    """The running cluster of an inventory, as this machine's record of it says."""
    import json
    import os
    from pathlib import Path

    found = json.loads(Path(os.environ["GRIDOPS_TEST_HEAD"]).read_text())
    node = inventory.node(found["head"])
    members = {ip: inventory.node(name) for ip, name in found["members"].items()}
    token = Path(found["token"]).read_text().strip()
    return Head(node, found["port"], token, found["token"], members)


class RayClient:
    """Close it in the end: `with RayClient(head, ssh) as client`."""

    def __init__(self, head: Head, ssh: SshSettings) -> None:
        self.head = head
        self._ssh = ssh
        self._dashboard = Api(self._dial(head.node, head.dashboard_port, DASHBOARD), head.token)
        self._agents: dict[tuple[str, int], Api] = {}
        self.jobs = JobsApi(self._dashboard)

    def __enter__(self) -> RayClient:
        return self

    def __exit__(self, *exc: object) -> None:
        for api in (self._dashboard, *self._agents.values()):
            api.close()

    def agent(self, job: RayJob) -> Api | None:
        """The agent of the machine that runs the job's command; None before it has one.

        Raises RayJobError for a machine that is not of the inventory.
        """
        if job.agent_port is None:
            return None
        node = self.head.members.get(job.agent_host)
        if node is None:
            raise RayJobError(
                f"the job's command runs on {job.agent_host}, which is no node of this cluster's"
                " inventory, so its log cannot be read"
            )
        where = node.name, job.agent_port
        if where not in self._agents:
            dial = self._dial(node, job.agent_port, AGENT)
            self._agents[where] = Api(dial, self.head.token, AGENT)
        return self._agents[where]

    def stream(self) -> Stream:
        """A connection to the dashboard, for whoever speaks HTTP himself. Raises PortClosed."""
        return self._streams(self.head.node, self.head.dashboard_port, DASHBOARD)()

    def _dial(self, node: Node, port: int, what: str) -> Callable[[], Channel]:
        stream = self._streams(node, port, what)

        def opened() -> Channel:
            made = stream()
            made.settimeout(ANSWER)
            return Channel(made)

        return opened

    def _streams(self, node: Node, port: int, what: str) -> Callable[[], Stream]:
        link = link_to(node, self._ssh)

        def opened() -> Stream:
            try:
                return link.dial(port, timeout=DIALLING)
            except PortClosed as exc:
                raise PortClosed(
                    f"{what} does not answer on port {port} there",
                    node=node.name,
                    hint="`inv cluster.status` tells how the cluster is",
                ) from exc

        return opened
