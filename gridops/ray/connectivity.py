"""Connectivity check of the nodes that have joined, by their own ports.

A worker whose ports are closed joins all the same, and is lost only when the head has called it in
vain for a minute: so the ports are tried with TCP connections.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gridops.errors import ClusterError, GridError
from gridops.model import Node, Outcome
from gridops.ray.model import Cluster, Look, Said
from gridops.ray.preflight import open_ports
from gridops.ray.remote import run_program
from gridops.reach.answers import Fields, document
from gridops.reach.fanout import fan_out

PORT_TIMEOUT = 3.0  # seconds
REACH_TIMEOUT = 30.0

Places = Mapping[str, str]  # HOST:PORT → whose it is


def find_barred(
    cluster: Cluster, looks: Mapping[str, Look], said: Said, launched: Sequence[str]
) -> Iterator[GridError]:
    """One error for each node whose ports another cannot reach.

    Tried are the launched workers' from the head, the head's from each of them, and from each node
    those of the next one: objects travel between any two.
    """
    routes = _routes(cluster, said, launched)
    nodes = [node for node in cluster.nodes if node.name in routes]

    def tries(node: Node) -> Mapping[str, str]:
        link, python = cluster.connect(node), looks[node.name].python
        places = routes[node.name]
        answer = run_program(
            link, python, "node_mesh", "reach", f"{PORT_TIMEOUT:g}", *places, timeout=REACH_TIMEOUT
        )
        return Fields(document(answer)).text_values()

    found = list(fan_out(nodes, tries, max_workers=cluster.ssh.pool_size))
    return _errors(cluster, found, routes)


def _routes(cluster: Cluster, said: Said, launched: Sequence[str]) -> dict[str, Places]:
    order = [node.name for node in cluster.nodes if node.name in said.alive]
    routes: dict[str, dict[str, str]] = {name: {} for name in order}

    def add(source: str, target: str) -> None:
        if source != target:
            routes[source].update(dict.fromkeys(said.alive[target].places, target))

    head = cluster.head.name
    for at, name in enumerate(order):
        if name in launched:
            add(head, name)
            add(name, head)
            add(name, order[(at + 1) % len(order)])
            add(order[at - 1], name)
    return {name: places for name, places in routes.items() if places}


def _errors(
    cluster: Cluster, found: Sequence[Outcome[Mapping[str, str]]], routes: Mapping[str, Places]
) -> Iterator[GridError]:
    told: dict[str, ClusterError] = {}
    for outcome in found:
        for place, why in (outcome.value or {}).items():
            name = routes[outcome.node.name].get(place)
            if name is None:
                continue  # it was not asked about that
            told[name] = ClusterError(
                f"joined, and will be lost: {outcome.node.name} cannot reach it at {place}: {why}",
                node=name,
                hint=f"open {open_ports(cluster.settings)}",
            )
    yield from told.values()
