"""State of the running cluster, from its dashboard. Asked on the head by node_ask.py."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from gridops.errors import UnreadableAnswer
from gridops.ray.model import Cluster, Member, Part, Said
from gridops.ray.remote import run_program
from gridops.reach.answers import Fields, document

ANSWER_GRACE = 20.0  # seconds beyond its own limit in which the program must have answered


def wait_for(
    cluster: Cluster, head: Part, names: Sequence[str], seconds: float, *, old: Collection[str] = ()
) -> Said:
    """Wait until the cluster counts all `names`, `seconds` at most; its state then.

    `old`: ids of members that are passed over, since they were there before a node was started.
    Raises ClusterError when it does not answer, NodeTimeout, or a ReachError.
    """
    return _ask(cluster, head, "wait", seconds, ",".join(old), *names)


def status(cluster: Cluster, head: Part, seconds: float) -> Said:
    return _ask(cluster, head, "status", seconds)


def _ask(cluster: Cluster, head: Part, verb: str, seconds: float, *words: str) -> Said:
    answer = run_program(
        cluster.connect(cluster.head),
        f"{head.venv}/bin/python",
        "node_ask",
        verb,
        str(head.dashboard_port),
        cluster.key,
        f"{seconds:.1f}",
        *words,
        timeout=seconds + ANSWER_GRACE,
    )
    try:
        return read(answer)
    except UnreadableAnswer as exc:
        exc.node = cluster.head.name
        raise


def read(answer: bytes) -> Said:
    """Read the document that node_ask.py printed. Raises UnreadableAnswer."""
    told = Fields(document(answer, "its dashboard's answer"), "its dashboard's answer")
    ports = told.inner("ports")
    return Said(
        members=tuple(_member(one, ports) for one in told.objects("nodes")),
        used={
            member: usage.real_values()
            for member, usage in told.inner("used").object_values().items()
        },
        demand=told.texts("demand"),
        jobs=tuple(job.text_values() for job in told.objects("jobs")),
    )


def _member(one: Fields, ports: Fields) -> Member:
    id = one.text("id", 1024)
    return Member(
        name=one.text("name", 1024),
        id=id,
        address=one.text("address", 1024),
        alive=one.flag("alive"),
        head=one.flag("head"),
        why=one.text("why"),
        total=one.inner("total").real_values(),
        ports=ports.wholes(id, 65535),
    )
