"""The cluster by the inventory, and its state on the nodes."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gridops.errors import ClusterDown, ClusterError, UsageError
from gridops.model import Node, Outcome
from gridops.ray import paths
from gridops.ray.model import Cluster, ClusterFacts, Connect, Look, Part
from gridops.ray.remote import Told, ask
from gridops.reach.answers import whole
from gridops.reach.fanout import fan_out
from gridops.system.files import write_atomic

if TYPE_CHECKING:
    from gridops.inventory import Inventory

LOOK_ANSWER_TIMEOUT = 20.0  # seconds until a node must have told
TOKEN = re.compile(r"[!-~]{1,1024}")
TOKENS_SINCE = (2, 52)  # the first Ray that asks strangers for a token


def cluster_of(
    inventory: Inventory, connect: Connect, nodes: Sequence[Node] | None = None
) -> Cluster:
    """The inventory's cluster, limited to `nodes` (default: all of them), reached by `connect`.

    The head is the one that ray.head names, else the first of the inventory, and is always in it.
    Raises UsageError when no version of Ray is named, or one that cannot be closed to strangers.
    """
    settings = inventory.settings.ray
    _check_version(settings.version)
    head = inventory.node(settings.head) if settings.head else inventory.nodes[0]
    chosen = inventory.nodes if nodes is None else nodes
    workers = tuple(node for node in chosen if node.name != head.name)
    key = paths.cluster_key(head.name, settings.port)
    return Cluster(key, head, workers, settings, inventory.settings.ssh, connect)


def _check_version(version: str | None) -> None:
    match = re.match(r"(\d+)\.(\d+)\.\d+", version or "")
    if match is None:
        raise UsageError(
            f"ray.version {version!r} is not a version"
            if version
            else "the inventory has no ray.version",
            hint="such as ray: {version: 2.60.0}",
        )
    if (int(match[1]), int(match[2])) < TOKENS_SINCE:
        raise UsageError(
            f"Ray {version} lets anybody who reaches it run code",
            hint="use Ray 2.52 or later, which asks for a token",
        )


def look(cluster: Cluster, nodes: Sequence[Node]) -> Iterator[Outcome[Look]]:
    """Look at the state of each of `nodes`, all at once."""
    return fan_out(
        nodes,
        lambda node: _parse_look(ask_node(cluster, node, "look", *_versions_for(cluster, node))),
        max_workers=cluster.ssh.pool_size,
    )


def ask_node(
    cluster: Cluster,
    node: Node,
    verb: str,
    *args: str,
    timeout: float = LOOK_ANSWER_TIMEOUT,
    stdin: bytes = b"",
) -> Told:
    """Call a verb of node.sh. Raises ClusterError, NodeTimeout, or a ReachError."""
    words = (cluster.key, node.name, verb, *args)
    return ask(cluster.connect(node), "node", *words, timeout=timeout, stdin=stdin)


def _versions_for(cluster: Cluster, node: Node) -> tuple[str, str, str]:
    return node.remote_root, paths.venv_name(cluster.settings), cluster.settings.temp_dir


def _parse_look(told: Told) -> Look:
    ray, _, python = told["ready"].partition(" ")
    free, _, percent = told["disk"].partition(" ")
    now = told.number("now")
    total, _, available = told["memory"].strip().partition(" ")
    return Look(
        part=part_of(told),
        died=told["died"],
        venv=told["venv"],
        ray=ray,
        python_version=python,
        temp=told["temp"],
        addresses=tuple(told["addresses"].split()),
        ahead=None if now is None else now - time.time(),
        disk_free=_whole(free),
        disk_percent=_whole(percent),
        memory_total=_whole(total),
        memory_available=_whole(available),
    )


def _whole(text: str) -> int | None:
    try:
        return whole(text)
    except ValueError:
        return None


def part_of(told: Told) -> Part | None:
    """Read a node's running part; None without one. Raises ClusterError when it makes no sense."""
    role = told["role"]
    if not role:
        return None
    ports = _whole(told["port"]), _whole(told["dashboard"])
    if role not in ("head", "worker") or None in ports:
        raise ClusterError("its cluster record is unreadable", hint="run `inv cluster.stop`")
    return Part(
        role="head" if role == "head" else "worker",
        launch=told["launch"],
        id=told["id"],
        address=told["address"],
        head=told["head"],
        port=ports[0] or 0,
        dashboard_port=ports[1] or 0,
        ray=told["ray"],
        python_version=told["python"],
        venv=told["venv"],
    )


# -- talking to a running cluster ------------------------------------------------------------------


def facts_of(inventory: Inventory, connect: Connect) -> ClusterFacts:
    """Facts of the running cluster, in one round trip to its head.

    Its token is kept at home from then on. Raises ClusterDown when it is not started, or a
    ReachError.
    """
    cluster = cluster_of(inventory, connect)
    told = ask_node(cluster, cluster.head, "facts")
    part = part_of(told)
    if part is None or part.role != "head":
        raise down(cluster)
    token = told["token"]
    if not TOKEN.fullmatch(token):
        raise ClusterError(
            "its token cannot be read",
            node=cluster.head.name,
            hint="run `inv cluster.start --restart`",
        )
    pairs = [word.partition("=") for word in told["members"].split()]
    return ClusterFacts(
        head=cluster.head,
        address=part.address,
        port=part.port,
        dashboard_port=part.dashboard_port,
        token=token,
        token_file=keep_token(cluster.key, token),
        python=f"{part.venv}/bin/python",
        ray=part.ray,
        id=part.id,
        members={a: inventory.by_name[n] for n, _, a in pairs if n in inventory.by_name},
    )


def down(cluster: Cluster) -> ClusterDown:
    return ClusterDown(
        "the Ray cluster is not started", node=cluster.head.name, hint="run `inv cluster.start`"
    )


def keep_token(key: str, token: str) -> str:
    """Store the token at home, readable by us alone; its path."""
    file = paths.token_file(key)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(file, f"{token}\n".encode())
    return str(file)
