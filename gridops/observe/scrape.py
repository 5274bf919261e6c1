"""Prometheus exposition, ready before a scrape comes.

The nodes' part is written once a round, the sums' when a process has added to the store; what is
left to do for a scrape is to ask whether that is so.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gridops.errors import StoreError
from gridops.observe import exposition
from gridops.observe.families import SELECTION_DURATION, TOTALS
from gridops.observe.rows import NodeRecord

if TYPE_CHECKING:
    from prometheus_client import Metric

    from gridops.observe.store import Store


@dataclass(frozen=True, slots=True)
class Rounds:
    """State of the exporter itself, as of its last round of probing."""

    number: int
    elapsed: float  # seconds that the last one took
    at: float  # when it ended, in seconds since the epoch
    inventory_ok: bool


class Scrape:
    """The exposition of the last round and of the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._sums = Sums()
        self._now = ""
        self._nodes = exposition.generate(exposition.of_nodes(()))
        self._rounds = Rounds(0, 0.0, 0.0, True)
        self._state = (-1, -1)  # of the store: revision, tasks under way
        self._lock = threading.Lock()

    def publish(self, records: Iterable[NodeRecord], rounds: Rounds) -> None:
        """Have this ready for the next scrape."""
        self._nodes = exposition.generate(exposition.of_nodes(records))
        self._rounds = rounds
        with suppress(StoreError):
            self._refresh()

    def text(self, *, openmetrics: bool) -> str:
        try:
            self._refresh()
            ok = True
        except StoreError:
            ok = False
        own = exposition.generate(self._of_exporter(ok), openmetrics=openmetrics)
        # Both in the middle are of gauges alone, and so the same in either format.
        return f"{self._sums.text(openmetrics)}{self._now}{self._nodes}{own}"

    def _refresh(self) -> None:
        """Read the store if it has changed."""
        with self._lock:
            state = (self._store.revision(), self._store.active())
            if state != self._state:
                self._sums.update(self._store.totals())
                self._now = exposition.generate(exposition.of_now(self._store.stamps(), state[1]))
                self._state = state

    def _of_exporter(self, store_ok: bool) -> Iterator[Metric]:
        from prometheus_client import ProcessCollector
        from prometheus_client.core import CounterMetricFamily

        now = self._rounds
        rounds = CounterMetricFamily("grid_exporter_rounds_total", "Rounds of probing.")
        rounds.add_metric((), now.number)
        yield rounds
        for name, help, value in (
            ("round_duration_seconds", "How long the last round took.", now.elapsed),
            ("last_round_timestamp_seconds", "When the last round ended.", now.at),
            ("inventory_ok", "Whether the inventory as it is now is in use.", now.inventory_ok),
            ("store_ok", "Whether the store of sums can be read.", store_ok),
        ):
            yield exposition.single(f"grid_exporter_{name}", help, value)
        yield from ProcessCollector(registry=None).collect()


class Sums:
    """Exposition of the sums; a series is written again only when it has changed."""

    def __init__(self) -> None:
        self._series: dict[tuple[str, str], tuple[dict[str, float], str]] = {}
        self._lines: dict[str, str] = {}
        self._heads = {
            (name, openmetrics): exposition.head_of(family, openmetrics=openmetrics)
            for name, family in TOTALS.items()
            for openmetrics in (False, True)
        }
        self.update(())

    def update(self, totals: exposition.Totals) -> None:
        found = exposition.group_totals(totals)
        if not found[SELECTION_DURATION]:
            found[SELECTION_DURATION] = {
                "[]": {}
            }  # it has no labels, and so is there from the start
        self._lines = {
            name: "".join(self._render_series(name, *one) for one in series.items())
            for name, series in found.items()
        }

    def _render_series(self, name: str, labels: str, parts: dict[str, float]) -> str:
        known, text = self._series.get((name, labels), ({}, ""))
        if not text or known != parts:
            text = exposition.lines_of(TOTALS[name], labels, parts)
            self._series[name, labels] = (parts, text)
        return text

    def text(self, openmetrics: bool) -> str:
        return "".join(
            f"{self._heads[name, openmetrics]}{lines}" for name, lines in self._lines.items()
        )
