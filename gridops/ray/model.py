"""Values of the Ray cluster: its wanted form, its state on nodes and in Ray's own words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gridops.errors import ClusterError
from gridops.inventory.nodeset import fold
from gridops.model import Node, RayRole
from gridops.reach.link import Link

if TYPE_CHECKING:
    from gridops.inventory.settings import RaySettings, SshSettings

Connect = Callable[[Node], Link]


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster as the inventory wants it."""

    key: str  # what it is called on its nodes and at home: HEAD-PORT
    head: Node
    workers: tuple[Node, ...]
    settings: RaySettings
    ssh: SshSettings
    connect: Connect = field(repr=False, compare=False)  # to one of its nodes

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes, the head first."""
        return (self.head, *self.workers)

    def role(self, node: Node) -> RayRole:
        return "head" if node.name == self.head.name else "worker"


@dataclass(frozen=True, slots=True)
class Part:
    """A node's running part in the cluster, as it was started."""

    role: RayRole
    launch: str  # this start of it: the tag of its processes
    id: str  # of the cluster's start that it belongs to
    address: str  # this node's
    head: str  # the head's address
    port: int
    dashboard_port: int
    ray: str
    python_version: str
    venv: str


@dataclass(frozen=True, slots=True)
class Look:
    """State of one node: perhaps an environment, perhaps a running part, and its resources."""

    part: Part | None
    died: str  # the last words of a part that ended by itself
    venv: str  # where the inventory's environment is, or will be
    ray: str  # its versions; empty where it is not whole
    python_version: str
    temp: str
    addresses: tuple[str, ...] = ()
    ahead: float | None = None  # seconds that its clock is before ours
    disk_free: int | None = None  # KiB, where Ray's directory is
    disk_percent: float | None = None
    memory_total: int | None = None  # KiB
    memory_available: int | None = None

    @property
    def python(self) -> str:
        return f"{self.venv}/bin/python"


@dataclass(frozen=True, slots=True)
class Member:
    """A machine as the cluster knows it."""

    name: str
    id: str
    address: str
    alive: bool
    head: bool
    why: str = ""  # it is not alive
    total: Mapping[str, float] = field(default_factory=dict)
    ports: tuple[int, ...] = ()  # at which the others must reach it

    @property
    def places(self) -> list[str]:
        return [f"{self.address}:{port}" for port in self.ports]


@dataclass(frozen=True, slots=True)
class Said:
    """The answer of node_ask.py: members, and perhaps use, demand and jobs."""

    members: tuple[Member, ...]
    used: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # by member's id
    demand: tuple[str, ...] = ()  # what nobody could place yet, in words
    jobs: tuple[Mapping[str, str], ...] = ()  # id, status, entrypoint

    @property
    def alive(self) -> dict[str, Member]:
        return {member.name: member for member in self.members if member.alive}


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


def differences(what: str, versions: Mapping[str, str], hint: str) -> dict[str, ClusterError]:
    """One error for each node whose version is not that of most; none when all are the same."""
    counts = Counter(versions.values())
    if len(counts) < 2:
        return {}
    usual = max(counts, key=lambda version: (counts[version], version))
    same = fold(name for name, version in versions.items() if version == usual)
    return {
        name: ClusterError(
            f"{what} {version or 'none'} here, but {usual} on {same}; Ray needs one version",
            node=name,
            hint=hint,
        )
        for name, version in versions.items()
        if version != usual
    }
