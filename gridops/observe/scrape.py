"""What a scrape gets, ready before it comes.

The nodes' part is written once a round, the sums' when a process has added to the store; what is
left to do for a scrape is to ask whether that is so.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gridops.errors import StoreError
from gridops.observe import exposition
from gridops.observe.rows import NodeRecord

if TYPE_CHECKING:
    from prometheus_client import Metric

    from gridops.observe.store import Store


@dataclass(frozen=True, slots=True)
class Rounds:
    """How the exporter itself is doing."""

    number: int
    elapsed: float  # seconds that the last one took
    at: float  # when it ended, in seconds since the epoch
    inventory_ok: bool


class Scrape:
    """The exposition of the last round and of the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._nodes = exposition.written(exposition.of_nodes(()))
        self._rounds = Rounds(0, 0.0, 0.0, True)
        self._sums: dict[bool, tuple[tuple[int, int], str]] = {}  # by format: of what, and the text
        self._lock = threading.Lock()

    def publish(self, records: Iterable[NodeRecord], rounds: Rounds) -> None:
        """Have this ready for the next scrape."""
        # Of gauges alone, and so the same in both formats.
        self._nodes = exposition.written(exposition.of_nodes(records))
        self._rounds = rounds

    def text(self, *, openmetrics: bool) -> str:
        ok = True
        try:
            sums = self._written_sums(openmetrics)
        except StoreError:
            ok, sums = False, self._sums.get(openmetrics, ((0, 0), ""))[1]
        own = exposition.written(self._of_exporter(ok), openmetrics=openmetrics)
        return f"{sums}{self._nodes}{own}"

    def _written_sums(self, openmetrics: bool) -> str:
        with self._lock:
            state = (self._store.revision(), self._store.active())
            known, text = self._sums.get(openmetrics, ((-1, -1), ""))
            if known != state:
                found = exposition.of_processes(
                    self._store.totals(), self._store.stamps(), state[1]
                )
                text = exposition.written(found, openmetrics=openmetrics, end=False)
                self._sums[openmetrics] = (state, text)
            return text

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
