"""Checks of the nodes before Ray is started there: by their own answers, and by TCP."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gridops.errors import ClusterError, GridError
from gridops.model import Node
from gridops.ray.model import Cluster, Look, differences
from gridops.ray.remote import run_program
from gridops.reach.answers import Fields, document
from gridops.reach.fanout import fan_out

if TYPE_CHECKING:
    from gridops.inventory.settings import RaySettings

CLOCK_GRACE = 30.0  # seconds that two clocks may differ
DISK_PERCENT = 95  # from here on Ray creates no objects on disk (local_fs_capacity_threshold)
MEMORY_PERCENT = 5  # of memory left: from here on Ray ends tasks (memory_usage_threshold)
DISK_FREE = 1 << 20  # KiB
LISTEN_TIMEOUT = 15.0  # seconds that the head waits for the workers' calls
CALL_TIMEOUT = 8.0  # seconds in which a worker calls a head that does not listen yet
PYTHON_GRACE = 30.0  # seconds beyond that for starting Python there


Way = Mapping[str, str]  # source, there, back: see node_mesh.py


@dataclass(frozen=True, slots=True)
class Tries:
    """Answer of one node's node_mesh.py."""

    busy: Mapping[str, str] = field(default_factory=dict)  # port → who has it
    ways: Mapping[str, Way] = field(default_factory=dict)  # by the head's address

    @classmethod
    def of(cls, answer: bytes) -> Tries:
        """Read the document that node_mesh.py printed. Raises UnreadableAnswer."""
        told = Fields(document(answer))
        ways = told.inner("ways").object_values()
        return cls(
            told.inner("busy").text_values(),
            {address: way.text_values() for address, way in ways.items()},
        )


@dataclass(frozen=True, slots=True)
class Mesh:
    """Addresses by which the nodes reach each other."""

    head: str  # the head's address, as all workers reach it
    addresses: Mapping[str, str]  # each node's own, by name


def check_looks(
    cluster: Cluster, looks: Mapping[str, Look], starting: Sequence[Node]
) -> Iterator[GridError]:
    """Check Ray, Python, clock, disk and memory of the nodes to start.

    One error for each fault, by what all nodes told.
    """
    missing = [node for node in starting if not looks[node.name].ray]
    for node in missing:
        yield ClusterError(
            f"Ray {cluster.settings.version} is not installed as the inventory wants it",
            node=node.name,
            hint="run `inv cluster.install`",
        )
    if missing:
        return
    names = [node.name for node in starting]
    for what, hint, versions in (
        (
            "Ray",
            "run `inv cluster.start --restart`",
            {name: _ray(look) for name, look in looks.items()},
        ),
        ("Python", PYTHON, {name: _python(look) for name, look in looks.items()}),
    ):
        told = {name: version for name, version in versions.items() if version}
        yield from differences(what, told, hint).values()
    for name in names:
        yield from _fitness(name, looks[name], looks[cluster.head.name])


PYTHON = "set ray.python to one that all have, then run `inv cluster.install`"


def _ray(look: Look) -> str:
    return look.part.ray if look.part else look.ray


def _python(look: Look) -> str:
    return look.part.python_version if look.part else look.python_version


def _fitness(name: str, look: Look, head: Look) -> Iterator[GridError]:
    skew = abs((look.ahead or 0.0) - (head.ahead or 0.0))
    if skew > CLOCK_GRACE:
        yield ClusterError(
            f"its clock is {skew:.0f} s off the head's", node=name, hint="set the clocks by NTP"
        )
    full = look.disk_percent is not None and look.disk_percent >= DISK_PERCENT
    if full or (look.disk_free is not None and look.disk_free < DISK_FREE):
        yield ClusterError(
            f"the disk of {look.temp} is full: {(look.disk_free or 0) >> 10} MiB are left",
            node=name,
            hint="free some space, or set ray.temp_dir",
        )
    total, available = look.memory_total, look.memory_available
    if total and available is not None and 100 * available < MEMORY_PERCENT * total:
        yield ClusterError(
            f"its memory is used up: {available >> 10} of {total >> 10} MiB are available",
            node=name,
            hint="end what uses it (`inv health`); Ray would end its tasks at once",
        )


# -- addresses ----------------------------------------------------------------------------------


def open_ports(settings: RaySettings) -> str:
    """Ports that a firewall between the nodes must let through, in words."""
    rest = settings.ports or "1024-65535 (ray.ports narrows them)"
    return f"TCP between all nodes: {settings.port} on the head, {rest} on every one"


def try_addresses(
    cluster: Cluster, looks: Mapping[str, Look], starting: Sequence[Node]
) -> tuple[Mesh, list[GridError]]:
    """Try TCP connections both ways between head and starting nodes.

    Returns the addresses by which they reach each other, and what keeps them from it: ports in use,
    firewalls, addresses.
    """
    head = looks[cluster.head.name]
    workers = [node for node in starting if node.name != cluster.head.name]
    if head.part:
        answers = _run(cluster, looks, {
            node.name: ("greet", "5", head.part.address, str(head.part.port)) for node in workers
        })  # fmt: skip
        candidates: Sequence[str] = (head.part.address,)
    else:
        candidates = _address_given(cluster.head) or head.addresses or ("127.0.0.1",)
        answers = _run(cluster, looks, _mesh_calls(cluster, workers, candidates))
    wrong = [error for error in answers.values() if isinstance(error, GridError)]
    documents = {name: told for name, told in answers.items() if not isinstance(told, GridError)}
    wrong += _ports_in_use(cluster, documents.get(cluster.head.name, Tries()))
    if wrong:
        return Mesh("", {}), wrong
    ways = {node.name: documents[node.name].ways for node in workers}
    return _judge(cluster, workers, candidates, ways)


def _mesh_calls(
    cluster: Cluster, workers: Sequence[Node], candidates: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    settings = cluster.settings
    nonce, port = secrets.token_hex(8), str(settings.port)
    hold = LISTEN_TIMEOUT + 0.2 * len(workers)
    others = f"{settings.dashboard_port},{settings.client_port}"
    names = [node.name for node in workers]
    calls: dict[str, tuple[str, ...]] = {
        cluster.head.name: ("listen", nonce, port, f"{hold:.0f}", others, *names)
    }
    for node in workers:
        back = next(iter(_address_given(node)), "")
        calls[node.name] = (
            "call",
            nonce,
            port,
            f"{CALL_TIMEOUT:.0f}",
            node.name,
            back,
            *candidates,
        )
    return calls


def _address_given(node: Node) -> tuple[str, ...]:
    """The address that the inventory fixes, if any."""
    address = node.ray.get("node_ip")
    return (str(address),) if address else ()


def _run(
    cluster: Cluster, looks: Mapping[str, Look], calls: Mapping[str, tuple[str, ...]]
) -> dict[str, Tries | GridError]:
    """Run node_mesh.py on each node; its answer, or the node's error."""
    nodes = [node for node in cluster.nodes if node.name in calls]

    def one(node: Node) -> Tries:
        link = cluster.connect(node)
        limit = LISTEN_TIMEOUT + 0.2 * len(nodes) + PYTHON_GRACE
        python = looks[node.name].python
        return Tries.of(run_program(link, python, "node_mesh", *calls[node.name], timeout=limit))

    # Never fewer than two: the head waits for a worker to call.
    workers = max(2, cluster.ssh.pool_size)
    outcomes = fan_out(nodes, one, max_workers=workers)
    return {one.node.name: one.error or one.value or Tries() for one in outcomes}


def _ports_in_use(cluster: Cluster, told: Tries) -> Iterator[GridError]:
    names = {
        str(cluster.settings.port): "ray.port",
        str(cluster.settings.dashboard_port): "ray.dashboard_port",
        str(cluster.settings.client_port): "ray.client_port",
    }
    for port, holder in told.busy.items():
        yield ClusterError(
            f"port {port} is in use there, by {holder}",
            node=cluster.head.name,
            hint=f"end it, or choose another {names.get(port, 'port')}",
        )


def _judge(
    cluster: Cluster,
    workers: Sequence[Node],
    candidates: Sequence[str],
    ways: Mapping[str, Mapping[str, Way]],
) -> tuple[Mesh, list[GridError]]:
    def works(name: str, address: str) -> bool:
        way = ways[name].get(address, {"there": "not tried"})
        return not way.get("there") and not way.get("back")

    best = max(candidates, key=lambda address: sum(works(name, address) for name in ways))
    wrong = [
        _barred_error(cluster, node.name, best, ways[node.name])
        for node in workers
        if not works(node.name, best)
    ]
    addresses = {cluster.head.name: best}
    for node in workers:
        source = ways[node.name].get(best, {}).get("source", "")
        addresses[node.name] = next(iter(_address_given(node)), source)
    return Mesh(best, addresses), wrong or list(_twice(addresses))


def _barred_error(cluster: Cluster, name: str, best: str, ways: Mapping[str, Way]) -> GridError:
    settings, head = cluster.settings, cluster.head.name
    way = ways.get(best) or {"there": "no answer"}
    if way.get("there"):
        return ClusterError(
            f"cannot reach the head {head} at {best}:{settings.port}: {way['there']}",
            node=name,
            hint=f"open {open_ports(settings)}; or set the head's ray.node_ip",
        )
    return ClusterError(
        f"the head {head} cannot reach it at {way.get('source')}: {way['back']}",
        node=name,
        hint=f"open {open_ports(settings)}; or set its ray.node_ip",
    )


def _twice(addresses: Mapping[str, str]) -> Iterator[GridError]:
    known: dict[str, str] = {}
    for name, address in addresses.items():
        if address in known:
            yield ClusterError(
                f"has the address {address}, as {known[address]} has",
                node=name,
                hint="Ray accepts a machine once: leave one out by --nodes, or set ray.node_ip",
            )
        known.setdefault(address, name)
