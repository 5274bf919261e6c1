"""Progress of a task on stderr, a line an event."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from signal import SIGKILL

from gridops.observe import events
from gridops.observe.messages import sentence
from gridops.tasks._terminal import is_terminal, say, tell_progress


class Narrator:
    """Listener of observe.events: tells of a run or a sync, a line an event.

    `only` names the events to tell of; empty: all that it has words for. What is at least as grave
    as `logged` (a level of logging) has a line in the log, and is not told again.
    """

    def __init__(self, only: Sequence[str] = (), logged: int = logging.ERROR) -> None:
        self._only = only
        self._logged = logged
        self._live = is_terminal(sys.stderr)
        self._queued = False
        self._stopping = False

    def __call__(self, event: events.Event) -> None:
        said = sentence(event)
        if (self._only and event.name not in self._only) or (said and said[0] >= self._logged):
            return
        tell = getattr(self, "_" + event.name.replace(".", "_"), None)
        if tell is not None:
            tell(**event.fields)

    def _line(self, text: str) -> None:
        if self._live:
            tell_progress("")
        say(text)

    def _node_selected(self, node: str, reason: str, degraded: bool, **_: object) -> None:
        if degraded:
            self._line(f"warning: no healthy node; taking the least loaded: {node} ({reason})")
        else:
            self._line(f"{node}: {reason}")

    def _node_skipped(self, reason: str, **_: object) -> None:
        self._line(f"{reason}; trying the next best node")

    def _sync_progress(self, node: str, percent: float, **_: object) -> None:
        if self._live:
            tell_progress(f"gridops: {node}: syncing {percent:.0f} %")

    def _sync_finished(
        self, node: str, status: str, files: int, bytes: int, seconds: float, **more: object
    ) -> None:
        from gridops.render.units import number_of, size

        what = number_of(files, "file") + (f", deleted {n}" if (n := more.get("deleted")) else "")
        without = f" (without {n} fetched)" if (n := more.get("fetched")) else ""
        if status == "success":
            self._line(f"{node}: synced {what}, {size(bytes)} in {seconds:.1f} s{without}")

    def _fetch_progress(self, node: str, percent: float, **_: object) -> None:
        if self._live:
            tell_progress(f"gridops: {node}: fetching {percent:.0f} %")

    def _fetch_finished(
        self, node: str, files: int, replaced: int, bytes: int, seconds: float, **_: object
    ) -> None:
        from gridops.render.units import number_of, size

        what = number_of(files, "file") + (f" ({replaced} replaced)" if replaced else "")
        if bytes:
            self._line(f"{node}: fetched {what}, {size(bytes)} in {seconds:.1f} s")

    def _run_queued(
        self, nodes: Sequence[str], id: str, seconds: float, wanted: str, **_: object
    ) -> None:
        self._queued = True
        named = ", ".join(nodes[:5]) + (", …" if len(nodes) > 5 else "")
        self._line(
            f"{named}: no {wanted} is free: the run {id} stands in line, {seconds:g} s at most"
        )

    def _job_state(self, node: str, state: str, **_: object) -> None:
        if self._queued and state == "running":
            self._line(f"{node}: the run begins")

    def _run_started(self, node: str, id: str, **_: object) -> None:
        self._line(f"{node}: the run is {id}")

    def _run_stopping(self, node: str, reason: str, **_: object) -> None:
        self._stopping = True
        self._line(
            f"{node}: {reason}: asking the node to stop the command (KILL follows after 10 s);"
            " Ctrl-C leaves it"
        )

    def _run_finished(
        self, node: str, signal: int | None = None, left: str = "", **_: object
    ) -> None:
        if self._stopping:
            how = ", by KILL" if signal == SIGKILL else ""
            self._line(f"{node}: the run has ended{how}" + (f"; {left}" if left else ""))

    def _run_left(self, node: str, id: str, reason: str, fate: str, **_: object) -> None:
        self._line(
            f"{node}: {reason}: left; the run {fate}:"
            f" `inv jobs.logs {id} --follow`, `inv jobs.kill {id}`"
        )

    def _tree_kept(self, bytes: int, path: str, **_: object) -> None:
        from gridops.render.units import size

        self._line(f"the tree as it is now ({size(bytes)}) is kept in {path} meanwhile")

    def _run_restarted(self, error: str, **_: object) -> None:
        self._line(f"{error}; running it again")

    def _connection_lost(self, node: str, error: str, **_: object) -> None:
        self._line(f"{node}: the connection is lost: {error}; the run goes on, reconnecting")

    def _connection_regained(self, node: str, seconds: float, **_: object) -> None:
        self._line(f"{node}: connected again after {seconds:.1f} s")

    def _port_forwarded(self, node: str, local: int, remote: int, **_: object) -> None:
        self._line(f"{node}: http://127.0.0.1:{local} leads to port {remote} there")

    def _port_busy(self, node: str, remote: int, **_: object) -> None:
        self._line(
            f"warning: {node}: something listens on port {remote} there already, and --port leads"
            " to that until it ends"
        )

    def _port_failed(self, node: str, remote: int, error: str, **_: object) -> None:
        self._line(f"{node}: --port {remote}: {error}")

    def _package_ready(
        self, node: str, files: int, bytes: int, seconds: float, uploaded: bool, **_: object
    ) -> None:
        from gridops.render.units import number_of, size

        did = "sent" if uploaded else "there already, checked"
        packed = f"{number_of(files, 'file')}, {size(bytes)} packed"
        self._line(f"{node}: {packed}: {did} in {seconds:.1f} s")

    def _cluster_job_submitted(self, node: str, id: str, **_: object) -> None:
        self._line(f"{node}: the cluster has the job {id}")

    def _cluster_job_waits(self, node: str, reason: str, **_: object) -> None:
        self._line(f"{node}: the job waits: {reason}")

    def _cluster_step(self, node: str, what: str, **_: object) -> None:
        self._line(f"{node}: {what}")

    def _cluster_progress(self, node: str, what: str, **_: object) -> None:
        if self._live:
            tell_progress(f"gridops: {node}: {what}")

    def _retry(self, what: str, attempt: int, delay: float, error: str, **_: object) -> None:
        self._line(f"{what}: attempt {attempt} failed: {error}; again in {delay:.1f} s")

    def _node_changed(self, node: str, before: str, state: str, reason: str, **_: object) -> None:
        self._line(f"{node}: {state}, was {before}{f': {reason}' if reason else ''}")

    def _inventory_changed(self, inventory: str, nodes: int, **_: object) -> None:
        self._line(f"{inventory} has changed: {nodes} nodes now")

    def _warning(self, message: str, **_: object) -> None:
        self._line(f"warning: {message}")
