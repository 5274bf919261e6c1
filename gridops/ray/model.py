"""Values of the Ray cluster: its wanted form, installed nodes, facts of the running one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gridops.model import Node, RayRole

if TYPE_CHECKING:
    from gridops.inventory.settings import RaySettings, SshSettings


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster as the inventory wants it."""

    key: str  # what it is called on its nodes and at home: HEAD-PORT
    head: Node
    workers: tuple[Node, ...]
    settings: RaySettings
    ssh: SshSettings

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, the head first."""
        return (self.head, *self.workers)

    def role(self, node: Node) -> RayRole:
        return "head" if node.name == self.head.name else "worker"


@dataclass(frozen=True, slots=True)
class Installed:
    """Result of an installation on one node."""

    ray: str  # versions
    python: str
    fresh: bool  # it was installed now
    seconds: float


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """Addresses, token and members of a running cluster."""

    head: Node
    address: str  # the head's, as the nodes see it
    port: int
    dashboard_port: int  # on the head's loopback
    token: str = field(repr=False)
    token_file: str  # where this machine keeps it
    python: str  # of the cluster's environment on the head
    ray: str  # its version
    id: str  # of this start of the cluster
    members: Mapping[str, Node]  # by the address that the cluster knows each by
