"""Periodic probing of the grid: rounds of probes, and the last one's findings.

Whoever asks gets the last round's findings at once, whatever the one under way is waiting for.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gridops.errors import GridError
from gridops.grid import Grid
from gridops.model import Job, Node, NodeHealth
from gridops.observe import events
from gridops.probe.checker import check
from gridops.render.overview import Round

JOBS_INTERVAL = 60.0  # seconds between two looks at the runs of a node whose counts stay the same
ROUND_DELAY = 0.5  # seconds between two rounds, however long they take


@dataclass
class Selection:
    """An inventory's nodes, read again when the file changes.

    An edit that makes no sense changes nothing: what was there before stays in use.
    """

    path: str | Path | None  # as the user named it
    nodes: str | None = None  # a node set
    tags: str | None = None
    grid: Grid = field(init=False)
    chosen: tuple[Node, ...] = field(init=False)
    warning: str = field(init=False, default="")

    def __post_init__(self) -> None:
        """Load the file. Raises InventoryError, UnknownNameError, UsageError."""
        self._file: Path | None = None
        self._load(self.path)
        self._file = self.grid.inventory.path
        self._seen = self._look()

    @property
    def source(self) -> str:
        return str(self._file) if self._file else "this machine"

    def refresh(self) -> None:
        """Read the file again if it has changed."""
        seen = self._look()
        if self._file is None or seen == self._seen:
            return
        self._seen = seen
        try:
            self._load(self._file)
            self.warning = ""
            events.emit(events.INVENTORY_CHANGED, nodes=len(self.chosen), inventory=self.source)
        except GridError as exc:
            self.warning = f"the inventory cannot be read, and the earlier one stays in use: {exc}"
            events.emit(events.WARNING, message=self.warning)

    def _load(self, path: str | Path | None) -> None:
        grid = Grid.load(path)
        self.chosen = grid.select(self.nodes, self.tags)
        self.grid = grid

    def _look(self) -> tuple[object, ...]:
        """Fingerprint of the file and its .env files, for noticing an edit."""
        if self._file is None:
            return ()
        files = (self._file, self._file.parent / ".env", Path(".env"))
        return tuple(_signature(path) for path in files)


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Monitor:
    """Rounds of probing over a selection; `last` has the findings of the last one."""

    def __init__(self, selection: Selection, every: float) -> None:
        """`every`: seconds from the beginning of one round to that of the next."""
        self.every = every
        self.last = Round(selection.source)
        self.selection = selection
        self._states: dict[str, str] = {}
        self._counts: dict[str, tuple[int, int]] = {}
        self._asked = 0.0

    def run(self, stop: threading.Event, after: Callable[[Round], None]) -> None:
        """Make rounds until `stop` is set; `after` is called at the end of each.

        Only then are the nodes asked for their runs, which may take longer.
        """
        while not stop.is_set():
            began = time.monotonic()
            try:
                after(self.round())
                self.look_at_runs()
            except Exception as exc:  # noqa: BLE001 - the next round may go better
                said = f"{type(exc).__name__}: {exc}"
                events.emit(events.WARNING, message=f"a round of probing failed: {said}")
            stop.wait(max(ROUND_DELAY, began + self.every - time.monotonic()))

    def round(self) -> Round:
        """Probe all nodes once; returns the findings."""
        selection = self.selection
        selection.refresh()
        nodes, settings = selection.chosen, selection.grid.settings
        began = time.monotonic()
        found = {health.node.name: health for health in check(nodes, settings, patient=False)}
        healths = tuple(found[node.name] for node in nodes)
        self._tell(healths)
        self.last = Round(
            selection.source,
            time.time(),
            time.monotonic() - began,
            healths,
            self.last.jobs,
            selection.warning,
            self.last.number + 1,
        )
        return self.last

    def _tell(self, healths: Sequence[NodeHealth]) -> None:
        """Say which nodes have changed since the round before."""
        for health in healths:
            name = health.node.name
            before = self._states.get(name)
            if before is not None and before != health.state:
                why = health.error or "; ".join(health.reasons)
                events.emit(
                    events.NODE_CHANGED, node=name, before=before, state=health.state, reason=why
                )
        self._states = {health.node.name: health.state for health in healths}

    # -- durable runs ------------------------------------------------------------------------

    def look_at_runs(self) -> None:
        """Ask nodes for their runs, if it is time to.

        Only those are asked where the last round saw runs.
        """
        healths = self.last.nodes
        if self._to_ask(healths):
            jobs = tuple(self._jobs(self.selection.grid, healths))
            self.last = replace(self.last, jobs=jobs)

    def _to_ask(self, healths: Sequence[NodeHealth]) -> bool:
        """Check that it is time to ask for the runs: their counts changed, or a while passed."""
        counts = {h.node.name: n for h in healths if (n := _runs_of(h))}
        if counts == self._counts and time.monotonic() - self._asked < JOBS_INTERVAL:
            return False
        self._counts, self._asked = counts, time.monotonic()
        return True

    def _jobs(self, grid: Grid, healths: Sequence[NodeHealth]) -> Iterator[Job]:
        nodes = [health.node for health in healths if health.node.name in self._counts]
        for told in grid.jobs(nodes) if nodes else ():
            yield from (job for job in told.value or () if job.active)


def _runs_of(health: NodeHealth) -> tuple[int, int] | None:
    """Counts of the node's runs, running and waiting; None when there are none."""
    jobs = health.jobs
    if jobs is None:
        return None
    return (jobs.running, jobs.queued) if jobs.running or jobs.queued else None
