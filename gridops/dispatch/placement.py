"""Placement of a run: the nodes that can take it, best first."""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from gridops.dispatch.candidates import Candidate
from gridops.errors import (
    NoNode,
)
from gridops.model import Node, NodeHealth
from gridops.observe import events

if TYPE_CHECKING:
    from gridops.inventory.settings import Settings

STRAGGLER_GRACE = 1.0  # seconds to wait for slower nodes once a healthy one has answered, at least


def candidates(nodes: Sequence[Node], settings: Settings, gpus: int = 0) -> tuple[Candidate, ...]:
    """Nodes that can take a run on `gpus` GPUs, best first.

    A single node is not probed. Raises NoNode when none is reachable, or none has the GPUs.
    """
    if len(nodes) == 1:
        return (Candidate(nodes[0], "the only node selected"),)
    from gridops.probe.score import rank  # the probe is for a choice alone

    began = time.monotonic()
    healths = _answers(nodes, settings, gpus, patient=False)
    if all(health.state == "unreachable" for health in healths):
        healths = _answers(nodes, settings, gpus, patient=True)  # it may be a matter of seconds
    ranking = rank(healths, gpus)
    found = tuple(
        Candidate(r.health.node, r.reason, r.health.score, r.health.state == "degraded")
        for r in ranking
        if r.serves
    )
    if not found:
        raise _none(healths, gpus)
    events.emit(
        events.NODES_RANKED,
        seconds=time.monotonic() - began,
        candidates=len(found),
        silent=len(nodes) - len(healths),
    )
    return found


def _none(healths: Sequence[NodeHealth], gpus: int) -> NoNode:
    reached = [health for health in healths if health.state != "unreachable"]
    if not reached:
        return NoNode(
            f"none of the {len(healths)} selected nodes can be reached", hint=_reasons(healths)
        )
    return NoNode(
        f"none of the {len(reached)} nodes that answer has {gpus} GPUs", hint="see `inv health`"
    )


def _reasons(healths: Sequence[NodeHealth]) -> str:
    said = [f"{health.node.name}: {health.error}" for health in healths[:3]]
    more = [f"and {len(healths) - 3} more: `inv health`"] if len(healths) > 3 else []
    return "; ".join(said + more) or "`inv health` says why"


def _answers(
    nodes: Sequence[Node], settings: Settings, gpus: int, *, patient: bool
) -> Sequence[NodeHealth]:
    """The nodes' health, in the inventory's order."""
    order = {node.name: at for at, node in enumerate(nodes)}
    arrived = _arriving(nodes, settings, gpus, patient=patient)
    return sorted(arrived, key=lambda health: order[health.node.name])


def _arriving(
    nodes: Sequence[Node], settings: Settings, gpus: int, *, patient: bool
) -> Iterator[NodeHealth]:
    """Probe all nodes; once a good one has answered, wait only a little for the slower ones.

    A run is not to wait for the connect timeout of a node that is switched off.
    """
    from gridops.probe import capacity
    from gridops.probe.checker import check

    answers: queue.SimpleQueue[NodeHealth | None] = queue.SimpleQueue()

    def probe() -> None:
        try:
            for health in check(nodes, settings, patient=patient):
                answers.put(health)
        finally:
            answers.put(None)

    began = time.monotonic()
    run = contextvars.copy_context().run  # the events in there are of this task, too
    threading.Thread(target=run, args=(probe,), daemon=True, name="probe").start()
    end: float | None = None
    while True:
        try:
            health = answers.get(timeout=None if end is None else max(0.0, end - time.monotonic()))
        except queue.Empty:
            return
        if health is None:
            return
        yield health
        if end is None and health.state == "healthy" and capacity.fit(health, gpus) == "now":
            now = time.monotonic()
            end = now + max(STRAGGLER_GRACE, 2 * (now - began))
