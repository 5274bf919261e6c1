"""A run: choose a node, sync the tree, start the command, follow it to its end; else the next best.

Moving on to another node is safe only until the command has been handed over. From there on a
failure is reported, never repeated. (A durable run takes the place of `Attached` here.)
"""

from __future__ import annotations

import contextvars
import queue
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gridops.errors import ConnectionLost, NoNode, RunTimeout
from gridops.failover import Candidate, first_able
from gridops.jobs.attached import OUTPUT_CLOSED, TIMEOUT, Attached, Ended, Stop, stop_on_signals
from gridops.model import Node, NodeHealth, Reply, RunResult, RunSpec, SyncReport
from gridops.observe import events
from gridops.probe.checker import check
from gridops.probe.score import rank
from gridops.reach import link_to
from gridops.reach.streams import Sink
from gridops.sync import Tree, earlier_target, list_tree, sync_tree

if TYPE_CHECKING:
    from gridops.detached import Detached
    from gridops.settings import Settings

PATIENCE = 1.0  # seconds to wait for slower nodes once a healthy one has answered, at least
EXEC_LIMIT = 16 * 1024 * 1024  # bytes of one stream that `exec` keeps of a node
STOPPED_STATUS = {"SIGHUP": 129, "SIGINT": 130, "SIGTERM": 143, OUTPUT_CLOSED: 141}


@dataclass(frozen=True, slots=True)
class Output:
    """Where a run's two streams go."""

    stdout: Sink
    stderr: Sink


def new_run_id() -> str:
    """Sortable by time, unique: 20261124-153012-5f3a9c."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(3)}"


def candidates(nodes: Sequence[Node], settings: Settings) -> tuple[Candidate, ...]:
    """The nodes that can take a run, best first.

    A single node is not probed. Raises NoNode when none is reachable.
    """
    if len(nodes) == 1:
        return (Candidate(nodes[0], "the only node selected"),)
    began = time.monotonic()
    healths = _answers(nodes, settings, patient=False)
    if all(health.state == "unreachable" for health in healths):
        healths = _answers(nodes, settings, patient=True)  # it may be a matter of seconds
    ranking = rank(healths)
    found = tuple(
        Candidate(r.health.node, r.reason, r.health.score, r.health.state == "degraded")
        for r in ranking
        if r.health.state != "unreachable"
    )
    if not found:
        raise NoNode(
            f"none of the {len(nodes)} selected nodes can be reached",
            hint=_reasons(healths),
        )
    events.emit(
        events.NODES_RANKED,
        seconds=time.monotonic() - began,
        candidates=len(found),
        silent=len(nodes) - len(healths),
    )
    return found


def _reasons(healths: Sequence[NodeHealth]) -> str:
    said = [f"{health.node.name}: {health.error}" for health in healths[:3]]
    more = [f"and {len(healths) - 3} more: `inv health`"] if len(healths) > 3 else []
    return "; ".join(said + more) or "`inv health` says why"


def _answers(nodes: Sequence[Node], settings: Settings, *, patient: bool) -> Sequence[NodeHealth]:
    """What the nodes say, in the inventory's order."""
    order = {node.name: at for at, node in enumerate(nodes)}
    arrived = _arriving(nodes, settings, patient=patient)
    return sorted(arrived, key=lambda health: order[health.node.name])


def _arriving(nodes: Sequence[Node], settings: Settings, *, patient: bool) -> Iterator[NodeHealth]:
    """Probe all nodes; once a healthy one has answered, wait for the slower ones only a little.

    A run is not to wait for the connect timeout of a node that is switched off.
    """
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
        if end is None and health.state == "healthy":
            now = time.monotonic()
            end = now + max(PATIENCE, 2 * (now - began))


@dataclass(frozen=True, slots=True)
class Executor:
    """Runs specs on nodes, over the links that the settings describe."""

    settings: Settings

    def run(
        self, spec: RunSpec, choice: Sequence[Candidate], output: Output, stop: Stop
    ) -> RunResult:
        """Run `spec` on the first of `choice` that can take it.

        Raises the node's own error when only one was asked, NoNode when none of several could take
        it, RunTimeout when the time ran out, ConnectionLost when the connection broke meanwhile.
        """
        run_id = new_run_id()
        with events.bound(run_id=run_id):
            tree = self._tree(spec)
            candidate, (attached, report) = first_able(
                choice, lambda one: self._start(spec, one.node, tree, run_id)
            )
            return _follow(attached, candidate.node, spec, output, stop, run_id, report)

    def detach(self, spec: RunSpec, choice: Sequence[Candidate]) -> Detached:
        """Start `spec` as a durable run on the first of `choice` that can take it.

        Raises what `run` raises, and StartUnknown when it may have begun; then no other is tried.
        """
        from gridops.detached import Handover

        handover = Handover(spec, self.settings)
        with events.bound(run_id=handover.id):
            tree = self._tree(spec)
            _, detached = first_able(choice, lambda one: handover(one.node, one.reason, tree))
            return detached

    def _tree(self, spec: RunSpec) -> Tree | None:
        return list_tree(Path(spec.src), self.settings.sync) if spec.src and spec.sync else None

    def _start(
        self, spec: RunSpec, node: Node, tree: Tree | None, run_id: str
    ) -> tuple[Attached, SyncReport | None]:
        link = link_to(node, self.settings.ssh)
        report = sync_tree(link, tree, self.settings) if tree else None
        attached = Attached(
            link,
            spec,
            run_id=run_id,
            directory=report.target if report else earlier_target(node, spec.src),
            must_exist=report is not None,
            timeout=self._start_limit(),
        )
        return attached, report

    def _start_limit(self) -> float:
        return max(self.settings.health_check.timeout, 2 * self.settings.ssh.connect_timeout)

    def exec(self, spec: RunSpec, node: Node, run_id: str, stop: Stop) -> Reply:
        """Run `spec.command` in the node's home directory and keep what it prints.

        Each stream is kept up to EXEC_LIMIT bytes; what comes after is counted, and said in stderr.
        """
        link = link_to(node, self.settings.ssh)
        out, err = _Kept(), _Kept()
        attached = Attached(link, spec, run_id=run_id, timeout=self._start_limit())
        ended = _followed(attached, node, spec, Output(out, err), stop)
        return Reply(_status(ended), out.kept, err.kept + out.note("stdout") + err.note("stderr"))


def _follow(
    attached: Attached,
    node: Node,
    spec: RunSpec,
    output: Output,
    stop: Stop,
    run_id: str,
    report: SyncReport | None,
) -> RunResult:
    began = time.monotonic()
    cwd = report.target if report else None
    events.emit(events.RUN_STARTED, node=node.name, cwd=cwd, command=spec.command)
    with stop_on_signals(stop, lambda why: _say_stopping(node, why)):
        ended = _followed(attached, node, spec, output, stop)
    seconds = time.monotonic() - began
    status = _status(ended)
    events.emit(events.RUN_FINISHED, node=node.name, status=status, seconds=seconds)
    return RunResult(node, status, seconds, run_id, report, ended.stopped)


def _say_stopping(node: Node, reason: str) -> None:
    events.emit(events.RUN_STOPPING, node=node.name, reason=reason)


def _followed(attached: Attached, node: Node, spec: RunSpec, output: Output, stop: Stop) -> Ended:
    try:
        ended = attached.follow(output.stdout, output.stderr, stop)
    except ConnectionLost as exc:
        raise ConnectionLost(
            f"the connection broke while the command ran: {exc.message}",
            node=node.name,
            hint="the node ends the command once it notices; its exit status is not known",
        ) from exc
    if ended.stopped == TIMEOUT:
        raise RunTimeout(
            f"the command was ended after {spec.timeout:g} s", node=node.name, hint="--timeout"
        )
    return ended


def _status(ended: Ended) -> int:
    return STOPPED_STATUS.get(ended.stopped or "", ended.status)


class _Kept:
    """A sink that keeps the first EXEC_LIMIT bytes and counts the rest."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._dropped = 0

    def __call__(self, data: bytes) -> None:
        room = EXEC_LIMIT - len(self._data)
        self._data += data[:room]
        self._dropped += max(0, len(data) - room)

    @property
    def kept(self) -> bytes:
        return bytes(self._data)

    def note(self, stream: str) -> bytes:
        if not self._dropped:
            return b""
        return f"gridops: {self._dropped} more bytes of {stream} were not kept\n".encode()
