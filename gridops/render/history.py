"""History of runs and nodes as rows, records and terminal drawings."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gridops.observe.rows import RunRow, Sample
from gridops.render.sparkline import bar, spark
from gridops.render.trends import Span, Trend, Value
from gridops.render.units import duration, moment, percent
from gridops.system.text import plain

if TYPE_CHECKING:
    from gridops.render.tables import Row

SCHEMA = 1
HISTORY_HEADER = ("WHEN", "TASK", "NODE", "STATUS", "TOOK", "RUN", "COMMAND")
HISTORY_CSV = (
    "id", "task", "node", "started", "duration_s", "state", "status", "command", "error",
)  # fmt: skip
LOADS: dict[str, tuple[str, Value]] = {
    "load": ("score", lambda sample: sample.score),
    "cpu": ("CPU busy", lambda sample: sample.cpu_percent),
    "memory": ("memory used", lambda sample: sample.memory_percent),
    "gpu": ("GPU memory used", lambda sample: sample.gpu_memory_percent),
}
PLOTS = ("durations", *LOADS)
MIN_BAR = 8  # columns that a drawing has at least, however narrow the terminal


@dataclass(frozen=True, slots=True)
class Line:
    """A drawn line: its text in pieces, each with rich's name of a style or none."""

    pieces: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.pieces).rstrip()


def status(run: RunRow) -> str:
    """Outcome of the run in a word or two: `ok`, `status 1`, `failed (125)`, or its state."""
    if run.state == "finished":
        return "ok" if run.status == 0 else f"status {run.status}"
    if run.state == "failed":
        return "failed" if run.status is None else f"failed ({run.status})"
    return run.state


def style(run: RunRow) -> str:
    if run.state == "running":
        return "cyan"
    if run.state == "failed" or (run.state == "finished" and run.status):
        return "red"
    return "green" if run.state == "finished" else ""


def row(run: RunRow, now: float) -> Row:
    return (
        moment(run.started),
        run.task,
        run.node or "-",
        status(run),
        duration(took(run, now)),
        plain(run.id) or "-",
        plain(" ".join((run.command or run.error).split())),
    )


def took(run: RunRow, now: float) -> float | None:
    """Seconds that the run took; of one that goes on, so far."""
    if run.seconds is None and run.state == "running":
        return max(0.0, now - run.started)
    return run.seconds


def csv_row(run: RunRow) -> Sequence[object]:
    record = run_record(run)
    return ["" if record[name] is None else record[name] for name in HISTORY_CSV]


def history_document(runs: Iterable[RunRow]) -> dict[str, Any]:
    return {"schema": SCHEMA, "runs": [run_record(run) for run in runs]}


def run_record(run: RunRow) -> dict[str, Any]:
    return {
        "id": run.id or None,
        "task": run.task,
        "node": run.node,
        "started": run.started,
        "duration_s": None if run.seconds is None else round(run.seconds, 2),
        "state": run.state,
        "status": run.status,
        "command": run.command,
        "error": run.error or None,
    }


# -- drawn -----------------------------------------------------------------------------------------


def durations(runs: Sequence[RunRow], now: float, width: int, *, ascii: bool) -> list[Line]:
    """A bar for each run, oldest first, in at most `width` columns."""
    ordered = list(reversed(runs))
    times = [took(run, now) for run in ordered]
    longest = max((seconds or 0.0 for seconds in times), default=0.0)
    words = [
        (moment(run.started)[5:16], run.node or "-", status(run), duration(seconds))
        for run, seconds in zip(ordered, times, strict=True)
    ]
    columns = [max(map(len, column)) for column in zip(*words, strict=True)]
    room = max(MIN_BAR, width - sum(columns) - 2 * len(columns))
    lines = []
    for run, seconds, (when, node, said, length) in zip(ordered, times, words, strict=True):
        drawn = bar((seconds or 0.0) / longest if longest else 0.0, room, ascii=ascii)
        lines.append(
            Line(
                (
                    (f"{when:<{columns[0]}}  {node:<{columns[1]}}  ", ""),
                    (f"{said:<{columns[2]}}  ", style(run)),
                    (f"{length:>{columns[3]}}  ", ""),
                    (drawn, style(run)),
                )
            )
        )
    return lines


def loads(
    history: Mapping[str, Sequence[Sample]],
    what: str,
    begin: float,
    end: float,
    width: int,
    *,
    ascii: bool,
) -> list[Line]:
    """A line for each node: `what` (of LOADS) from `begin` to `end`, and its last figure."""
    title, value = LOADS[what]
    names = max(map(len, history), default=0)
    room = max(MIN_BAR, width - names - 2 - 7)
    over = Span(begin, end, room)
    lines = [Line(((f"{title}, 0 to 100", "bold"),))]
    for node, samples in history.items():
        trend = Trend(samples, over)
        drawn = spark(trend.means(value), trend.outages(), ascii=ascii)
        last = samples[-1] if samples else None
        told = _last_figure(last, what, value(last) if last else None)
        lines.append(Line(((f"{node:<{names}}  ", ""), (drawn, "cyan"), (f"  {told:>5}", ""))))
    lines.append(Line(((f"{'':<{names}}  {_axis(begin, end, room)}", "dim"),)))
    return lines


def _last_figure(last: Sample | None, what: str, figure: float | None) -> str:
    if last and last.state == "unreachable":
        return "out"
    if what == "load" and figure is not None:
        return f"{figure:.1f}"
    return percent(figure)


def _axis(begin: float, end: float, width: int) -> str:
    """Times of the line's two ends, to stand below them."""
    form = "%H:%M" if end - begin < 86400 else "%m-%d %H:%M"
    first, last = (time.strftime(form, time.localtime(at)) for at in (begin, end))
    return first + last.rjust(max(len(last) + 1, width - len(first)))
