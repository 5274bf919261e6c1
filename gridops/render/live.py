"""The live view of `health --watch`: all that is known of every node, fitted to a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from gridops.model import Node, NodeHealth
from gridops.observe.rows import Sample, sample_of
from gridops.probe.figures import record_of
from gridops.probe.score import rank
from gridops.render.history import Line
from gridops.render.sparkline import spark
from gridops.render.tables import HEALTH_HEADER, STATE_STYLE, health_row, plain_row
from gridops.render.trends import Trend, span
from gridops.system.text import plain

HIGHLIGHT_MAX_AGE = 30.0  # seconds that a change stands out
MAX_CHANGES = 5  # changes that are listed
HISTORY_MAX_AGE = 3600.0  # seconds of history that are kept
HISTORY_INTERVAL = 10.0  # seconds between two samples, at least
TREND_WIDTHS = (40, 24, 12)  # characters of a trend: as many as there is room for
DROPPED = ("LOAD", "LATENCY", "DISK", "TREND", "GPU", "MEM")  # first, where room is short
GAP = 2

Cell = tuple[str, str]  # text and style


@dataclass(frozen=True, slots=True)
class Change:
    at: float
    node: str
    before: str
    after: str
    why: str

    def line(self, ascii: bool) -> Line:
        when = time.strftime("%H:%M:%S", time.localtime(self.at))
        arrow = "->" if ascii else "→"
        why = f": {plain(self.why)}" if self.why else ""
        return Line(
            (
                (f"{when}  {self.node}  {self.before} {arrow} ", "dim"),
                (self.after, STATE_STYLE.get(self.after, "")),
                (why, "dim"),
            )
        )


class Board:
    """Nodes as last seen, in the order of `sort`, and their changes."""

    def __init__(
        self,
        nodes: Sequence[Node],
        history: Mapping[str, Sequence[Sample]],
        *,
        sort: str = "score",
        ascii: bool = False,
    ) -> None:
        self._order = {node.name: number for number, node in enumerate(nodes)}
        self._samples = {name: list(history.get(name, ())) for name in self._order}
        self._sort = sort
        self._ascii = ascii
        self._found: dict[str, NodeHealth] = {}
        self.changes: list[Change] = []

    def add(self, health: NodeHealth, at: float) -> None:
        """Add the latest answer of a node."""
        name = health.node.name
        before = self._found.get(name)
        self._found[name] = health
        if before and before.state != health.state:
            why = health.error or "; ".join(health.reasons)
            self.changes.append(Change(at, name, before.state, health.state, why))
        samples = self._samples[name]
        if not samples or at - samples[-1].at >= HISTORY_INTERVAL or before is None:
            samples.append(sample_of(record_of(health, at)))
        while samples and at - samples[0].at > HISTORY_MAX_AGE:
            samples.pop(0)

    def in_order(self) -> list[NodeHealth]:
        found = sorted(self._found.values(), key=lambda health: self._order[health.node.name])
        if self._sort == "name":
            return sorted(found, key=lambda health: health.node.name)
        return [one.health for one in rank(found)] if self._sort == "score" else found

    def lines(self, width: int, height: int, now: float, said: str) -> list[Line]:
        """At most `height` lines of `width` columns; `said` is the text beside the headline."""
        found = self.in_order()
        good = sum(health.state == "healthy" for health in found)
        head = Line(((f"{good} of {len(self._order)} healthy", "bold"), (f"  {said}", "dim")))
        most = max(0, min(MAX_CHANGES, height - 8))
        log = [change.line(self._ascii) for change in reversed(self.changes[-MAX_CHANGES:])][:most]
        room = height - 2 - (len(log) + 1 if log else 0)
        shown = self._choose(found, max(1, room), now)
        hidden = len(found) - len(shown)
        table = self._table(shown, width, now)
        if hidden:
            table.append(Line(((f"… and {hidden} more" if not self._ascii else
                                f"... and {hidden} more", "dim"),)))  # fmt: skip
        notes = self._notes(shown)[: max(0, room - len(shown) - bool(hidden))]
        return [head, *table, *notes, *([Line(())] if log else []), *log][:height]

    def _choose(self, found: Sequence[NodeHealth], room: int, now: float) -> list[NodeHealth]:
        """The nodes that fit, in their order: changed ones and those in trouble go first."""
        if len(found) <= room:
            return list(found)
        recent = self._recent(now)
        urgent = [h for h in found if h.node.name in recent or h.state != "healthy"]
        rest = [h for h in found if h not in urgent]
        kept = {h.node.name for h in [*urgent, *rest][: max(1, room - 1)]}
        return [h for h in found if h.node.name in kept]

    def _recent(self, now: float) -> set[str]:
        return {change.node for change in self.changes if now - change.at <= HIGHLIGHT_MAX_AGE}

    def _notes(self, shown: Iterable[NodeHealth]) -> list[Line]:
        texts = [(h, plain(h.error or "; ".join(h.reasons))) for h in shown]
        return [
            Line(((f"{h.node.name}: ", STATE_STYLE[h.state]), (text, "")))
            for h, text in texts
            if text
        ]

    def _table(self, shown: Sequence[NodeHealth], width: int, now: float) -> list[Line]:
        """Header and a row for each node; columns go where they do not fit."""
        recent = self._recent(now)
        rows = [self._cells(health, health.node.name in recent) for health in shown]
        names: tuple[str, ...] = HEALTH_HEADER[:-1]
        table, parts = rows, 0
        for number in range(len(DROPPED) + 1):
            gone = DROPPED[:number]
            kept = [at for at, name in enumerate(HEALTH_HEADER[:-1]) if name not in gone]
            names = tuple(HEALTH_HEADER[at] for at in kept)
            table = [[row[at] for at in kept] for row in rows]
            room = width - _wide(names, table)
            parts = next((p for p in TREND_WIDTHS if p + GAP <= room and "TREND" not in gone), 0)
            if parts or ("TREND" in gone and room >= 0):
                break
        if not parts:
            return _align(names, table)
        trends = self._trends(shown, now, parts)
        drawn = [
            [*row[:3], (trend, "cyan"), *row[3:]] for row, trend in zip(table, trends, strict=True)
        ]
        return _align((*names[:3], "TREND", *names[3:]), drawn)

    def _cells(self, health: NodeHealth, changed: bool) -> list[Cell]:
        texts = plain_row(health_row(health))[:-1]
        cells = [(text, "") for text in texts]
        style = STATE_STYLE[health.state]
        mark = ("!" if self._ascii else "●") if changed else ""
        cells[0] = (texts[0], "bold" if changed else "")
        cells[1] = (
            f"{texts[1]}{f' {mark}' if mark else ''}",
            f"{style} reverse" if changed else style,
        )
        return cells

    def _trends(self, shown: Iterable[NodeHealth], now: float, parts: int) -> list[str]:
        over = span(self._samples, now, parts)
        found = (Trend(self._samples[health.node.name], over) for health in shown)
        return [
            spark(trend.means(lambda sample: sample.score), trend.outages(), ascii=self._ascii)
            for trend in found
        ]


def _widths(names: Sequence[str], rows: Iterable[Sequence[Cell]]) -> list[int]:
    columns = zip(names, *([text for text, _ in row] for row in rows), strict=True)
    return [max(map(len, column)) for column in columns]


def _wide(names: Sequence[str], rows: Sequence[Sequence[Cell]]) -> int:
    widths = _widths(names, rows)
    return sum(widths) + GAP * (len(widths) - 1)


def _align(names: Sequence[str], rows: Sequence[Sequence[Cell]]) -> list[Line]:
    widths = _widths(names, rows)
    return [_line(row, widths) for row in [[(name, "bold") for name in names], *rows]]


def _line(row: Sequence[Cell], widths: Sequence[int]) -> Line:
    pieces: list[Cell] = []
    for (text, style), width in zip(row, widths, strict=True):
        pieces += [(text, style), (" " * (width - len(text) + GAP), "")]
    return Line(tuple(pieces))
