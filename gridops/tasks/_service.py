"""Pages of `metrics.serve`, made of a monitor's rounds and the store."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus

from gridops.errors import StoreError
from gridops.observe import exposition
from gridops.observe.exporter import Page, Request, Route
from gridops.observe.negotiation import prefers_openmetrics
from gridops.observe.rows import RunRow, Sample
from gridops.observe.scrape import Rounds, Scrape
from gridops.observe.store import Store
from gridops.probe.figures import record_of
from gridops.render import documents
from gridops.render.overview import RECENT_RUNS, Overview, Round, without_commands
from gridops.render.page import policy, render_page
from gridops.render.trends import TREND_MAX_AGE

ROUND_TIMEOUT = 120.0  # seconds that a round may take before we call ourselves ill
PUBLIC = frozenset({"/healthz"})


class Service:
    """The pages; `publish` is to be called after each round of the monitor."""

    def __init__(self, last: Callable[[], Round], every: float, *, commands: bool = False) -> None:
        """`last` has the last round, one comes `every` so many seconds.

        `commands`: the status page shows what was run, not only where and how it went.
        """
        self._last, self._every = last, every
        self._commands = commands
        self._store = Store()
        self._scrape = Scrape(self._store)
        self._history: tuple[int, Mapping[str, list[Sample]]] = (-1, {})
        self._began = time.time()
        self._lock = threading.Lock()

    def publish(self, done: Round) -> None:
        rounds = Rounds(done.number, done.elapsed, done.at, not done.warning)
        self._scrape.publish([record_of(health, done.at) for health in done.nodes], rounds)

    @property
    def routes(self) -> Mapping[str, Route]:
        return {
            "/": self.page,
            "/metrics": self.metrics,
            "/healthz": self.healthz,
            "/api/nodes": self.nodes,
        }

    def metrics(self, request: Request) -> Page:
        openmetrics = prefers_openmetrics(request.accept)
        kind = exposition.content_type(openmetrics=openmetrics)
        return Page(self.text(openmetrics=openmetrics), kind)

    def text(self, *, openmetrics: bool = False) -> str:
        """The metrics of the last round, and of all calls until now."""
        return self._scrape.text(openmetrics=openmetrics)

    def healthz(self, request: Request) -> Page:
        """Check that rounds are still made: 200, else 503."""
        last = self._last()
        age = time.time() - (last.at or self._began)
        if age > self._every + ROUND_TIMEOUT:
            said = f"the last round of probing was {age:.0f} s ago\n"
            return Page(said, status=HTTPStatus.SERVICE_UNAVAILABLE)
        return Page("ok\n")

    def nodes(self, request: Request) -> Page:
        last = self._last()
        document = documents.health_document(last.inventory, last.elapsed, last.nodes)
        return Page(documents.to_json(document) + "\n", "application/json")

    def page(self, request: Request) -> Page:
        overview = self._overview(self._last())
        if not self._commands:
            overview = without_commands(overview)
        headers = {"Content-Security-Policy": policy(), "Referrer-Policy": "no-referrer"}
        text = render_page(overview, live=True)
        return Page(text, "text/html; charset=utf-8", headers=headers)

    def _overview(self, last: Round) -> Overview:
        runs: list[RunRow] = []
        warning = last.warning
        try:
            history = self._recent(last)
            runs = self._store.runs(limit=RECENT_RUNS)
        except StoreError as exc:
            history, warning = {}, warning or str(exc)
        return Overview(
            last.inventory,
            last.at,
            self._every,
            last.elapsed,
            last.nodes,
            history,
            tuple(runs),
            last.jobs,
            warning,
        )

    def _recent(self, last: Round) -> Mapping[str, list[Sample]]:
        """Samples of the last hours, read once a round for all readers."""
        with self._lock:
            if self._history[0] != last.number:
                self._history = (last.number, self._store.samples(time.time() - TREND_MAX_AGE))
            return self._history[1]
