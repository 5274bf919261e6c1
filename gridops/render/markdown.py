"""The grid as Markdown, for a CI step's summary or a message.

Nothing that came from a node or a command is more than text in it.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from gridops.model import NodeHealth
from gridops.observe.rows import RunRow
from gridops.render.history import status
from gridops.render.overview import Overview
from gridops.render.tables import gpu_words
from gridops.render.units import duration, moment, percent
from gridops.system.text import plain

SIGN = {"healthy": "✅", "degraded": "⚠️", "unreachable": "❌"}
TROUBLE = ("unreachable", "degraded", "healthy")
MAX_NODE_ROWS, MAX_RUN_ROWS = 100, 30  # rows; a summary is limited to 1 MiB
MAX_CELL = 300  # characters of a cell
MARKUP = re.compile(r"([\\`*_\[\]|~])")
NODE_COLUMNS = ("Node", "State", "Score", "CPU", "Memory", "Disk", "GPU memory", "Jobs", "Notes")
RUN_COLUMNS = ("When", "Node", "Status", "Took", "Run", "Command")


def report(overview: Overview) -> str:
    """The report: a headline, nodes with those in trouble first, runs newest first; ends a line."""
    return "\n".join(_lines(overview)) + "\n"


def text(value: str) -> str:
    """`value` as a cell that shows just that."""
    shown = plain(" ".join(value.split()))
    shown = shown if len(shown) <= MAX_CELL else shown[:MAX_CELL] + "…"
    return MARKUP.sub(r"\\\1", html.escape(shown, quote=False))


def code(value: str) -> str:
    """`value` as code in a cell: HTML, whose inside no backtick ends."""
    shown = plain(" ".join(value.split()))[:MAX_CELL]
    entities = MARKUP.sub(lambda found: f"&#{ord(found[1])};", html.escape(shown))
    return f"<code>{entities}</code>" if shown else ""


def _lines(overview: Overview) -> Iterator[str]:
    counts = Counter[str](health.state for health in overview.nodes)
    total = len(overview.nodes)
    worst = next((state for state in TROUBLE if counts[state]), "healthy")
    yield f"### {SIGN[worst]} {counts['healthy']} of {total} node{'s' * (total != 1)} healthy"
    yield ""
    yield f"{text(overview.inventory)}, {moment(overview.at)}"
    if overview.warning:
        yield ""
        yield f"> {text(overview.warning)}"
    if overview.nodes:
        ordered = sorted(overview.nodes, key=lambda health: TROUBLE.index(health.state))
        yield from _table(NODE_COLUMNS, map(_node, ordered[:MAX_NODE_ROWS]))
        yield from _rest(total - MAX_NODE_ROWS, "nodes")
    if overview.runs:
        with_commands = any(run.command for run in overview.runs)
        header = RUN_COLUMNS if with_commands else RUN_COLUMNS[:-1]
        rows = (_run(run)[: len(header)] for run in overview.runs[:MAX_RUN_ROWS])
        yield from _table(header, rows)
        yield from _rest(len(overview.runs) - MAX_RUN_ROWS, "runs")


def _rest(count: int, what: str) -> Iterator[str]:
    if count > 0:
        yield ""
        yield f"… and {count} more {what}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield ""
    yield _row(header)
    yield _row(["---"] * len(header))
    for row in rows:
        yield _row(row)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _node(health: NodeHealth) -> Sequence[str]:
    cpu, memory, disk, jobs = health.cpu, health.memory, health.disk, health.jobs
    return (
        f"**{text(health.node.name)}**",
        f"{SIGN[health.state]} {health.state}",
        "–" if health.score is None else f"{health.score:.1f}",
        f"{percent(cpu.percent)} of {cpu.cores}" if cpu else "–",
        percent(memory.percent) if memory else "–",
        percent(disk.percent) if disk else "–",
        gpu_words(health).replace("-", "–"),
        f"{jobs.running} of {jobs.slots}" if jobs else "–",
        text(health.error or "; ".join(health.reasons)),
    )


def _run(run: RunRow) -> Sequence[str]:
    good = run.state == "finished" and run.status == 0
    bad = run.state == "failed" or (run.state == "finished" and not good)
    sign = "✅ " if good else "❌ " if bad else ""
    said = f"{sign}{status(run)}" + (f": {text(run.error)}" if run.error else "")
    return (
        moment(run.started),
        text(run.node or "–"),
        said,
        duration(run.seconds).replace("-", "–"),
        code(run.id),
        code(run.command),
    )
