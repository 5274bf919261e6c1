"""Values to rows: aligned lines where no terminal is, rich tables on one, CSV for machines."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from gridops.model import Jobs, Node, NodeHealth, Space, SyncReport
from gridops.render.units import percent, round_or_none, spreadsheet_cell
from gridops.system.text import plain, size

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from gridops.probe.score import Ranked

Row = Sequence[str]


HEALTH_HEADER = (
    "NODE", "STATE", "SCORE", "CPU", "LOAD", "MEM", "DISK", "GPU", "SLOTS", "LATENCY", "NOTES",
)  # fmt: skip


def health_row(health: NodeHealth) -> Row:
    cpu = health.cpu
    return (
        health.node.name,
        health.state,
        "-" if health.score is None else f"{health.score:.1f}",
        f"{percent(cpu.percent)} of {cpu.cores}" if cpu else "-",
        f"{cpu.load1:.2f}" if cpu else "-",
        percent(health.memory.percent if health.memory else None),
        percent(health.disk.percent if health.disk else None),
        gpu_words(health),
        slot_words(health.jobs),
        "-" if health.latency_ms is None else f"{health.latency_ms:.0f} ms",
        plain(health.error or "; ".join(health.reasons)),
    )


def health_columns(healths: Iterable[NodeHealth]) -> tuple[Row, list[Row]]:
    """Header and rows; where some node belongs to a Ray cluster, with a column for that."""
    found = list(healths)
    rows = [health_row(health) for health in found]
    if not any(health.ray for health in found):
        return HEALTH_HEADER, rows
    header = (*HEALTH_HEADER[:-1], "RAY", HEALTH_HEADER[-1])
    parts = [health.ray or ("-" if health.error else "none") for health in found]
    return header, [(*row[:-1], part, row[-1]) for row, part in zip(rows, parts, strict=True)]


def gpu_words(health: NodeHealth) -> str:
    """GPUs in use, by processes or a lease, and used memory: `3/8 12%`."""
    if not health.gpus:
        return "?" if health.gpu_error else "-"
    taken = sum(not gpu.free for gpu in health.gpus)
    return f"{taken}/{len(health.gpus)} {percent(gpu_memory_percent(health))}"


def slot_words(jobs: Jobs | None) -> str:
    """Slots taken, and runs that wait for one: `1/2`, `2/2+3`."""
    if jobs is None:
        return "-"
    return f"{jobs.running}/{jobs.slots}" + (f"+{jobs.queued}" if jobs.queued else "")


def gpu_memory_percent(health: NodeHealth) -> float | None:
    """The used share of the memory of those GPUs that tell it."""
    told = [g for g in health.gpus if g.memory_total_mib and g.memory_used_mib is not None]
    if not told:
        return None
    used = sum(g.memory_used_mib or 0 for g in told)
    return 100 * used / sum(g.memory_total_mib or 0 for g in told)


RANKING_HEADER = ("PLACE", "NODE", "STATE", "SCORE", "WHY")


def ranking_row(ranked: Ranked) -> Row:
    health = ranked.health
    score = "-" if health.score is None else f"{health.score:.1f}"
    return (str(ranked.place), health.node.name, health.state, score, plain(ranked.reason))


NODES_HEADER = ("NODE", "HOST", "USER", "PORT", "CONNECTION", "SLOTS", "TAGS")


def node_row(node: Node) -> Row:
    return (
        node.name,
        node.host,
        node.user or "-",
        str(node.port or "-"),
        node.connection,
        str(node.slots),
        ",".join(node.tags) or "-",
    )


SYNC_HEADER = ("NODE", "FILES", "BYTES", "DELETED", "SECONDS", "TARGET")


def sync_row(report: SyncReport) -> Row:
    return (
        report.node.name,
        f"{report.files} of {report.total_files}",
        size(report.bytes),
        str(len(report.deleted)),
        f"{report.seconds:.2f}",
        plain(report.target),
    )


def plain_row(row: Row) -> Row:
    """The row with cells that cannot steer the terminal: they come from everywhere."""
    return [plain(cell) for cell in row]


def align(header: Row, rows: Iterable[Row]) -> str:
    """Columns for where no terminal is: one line a row, the last column as long as it is."""
    table = [header, *map(plain_row, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(header) - 1)]
    lines = (
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
        for row in table
    )
    return "\n".join(line.rstrip() for line in lines)


def to_csv(header: Row, rows: Iterable[Sequence[object]]) -> str:
    """CSV text. Figures are to be numbers in `rows`: what is text is kept from being a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([name.lower() for name in header])
    writer.writerows([spreadsheet_cell(value) for value in row] for row in rows)
    return text.getvalue().removesuffix("\n")


HEALTH_CSV = (
    "name", "host", "state", "score", "latency_ms", "cores", "load1", "load5", "load15",
    "cpu_percent", "memory_total_bytes", "memory_available_bytes", "memory_percent", "disk_path",
    "disk_total_bytes", "disk_available_bytes", "disk_percent", "gpus", "gpus_free",
    "gpu_memory_percent", "jobs_running", "slots", "jobs_queued", "reasons", "error", "ray",
)  # fmt: skip


def health_csv_row(health: NodeHealth) -> Sequence[object]:
    cpu, memory, disk, jobs = health.cpu, health.memory, health.disk, health.jobs
    return (
        health.node.name,
        health.node.host,
        health.state,
        round_or_none(health.score),
        round_or_none(health.latency_ms),
        *(
            (cpu.cores, cpu.load1, cpu.load5, cpu.load15, round_or_none(cpu.percent))
            if cpu
            else [""] * 5
        ),
        *(_space(memory) if memory else [""] * 3),
        *((disk.path, *_space(disk)) if disk else [""] * 4),
        len(health.gpus),
        sum(gpu.free for gpu in health.gpus),
        round_or_none(gpu_memory_percent(health)),
        *((jobs.running, jobs.slots, jobs.queued) if jobs else [""] * 3),
        "; ".join(health.reasons),
        health.error or "",
        health.ray or "",
    )


def _space(space: Space) -> Sequence[object]:
    return (space.total_bytes, space.available_bytes, round_or_none(space.percent))


# -- what needs rich: terminals only ---------------------------------------------------------------

STATE_STYLE = {"healthy": "green", "degraded": "yellow", "unreachable": "red"}
BAR = "▏▎▍▌▋▊▉█"
BAR_WIDTH = 6
BARRED = (3, 5, 6, 7)  # the columns of HEALTH_HEADER that have a bar
DISPENSABLE = ("LATENCY", "LOAD")  # the columns that go where not all fit, the first one first
NOTES_WIDTH = 40  # columns that notes should have beside the table
GAP = 2


def bar(value: float | None, width: int = BAR_WIDTH) -> str:
    """A bar of `width` cells in eighths."""
    if value is None:
        return ""
    eighths = round(max(0.0, min(100.0, value)) / 100 * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (BAR[rest - 1] if rest else "")).ljust(width)


def health_table(healths: Iterable[NodeHealth], width: int = 200) -> Group:
    """Table for a terminal of `width` columns.

    Where room is short the bars go first, then the notes go below the table, then columns that can
    be done without go.
    """
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    known = list(healths)
    header, rows = health_columns(known)
    columns = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    room = width - sum(columns[:-1]) - GAP * len(columns)
    beside = room >= min(columns[-1], NOTES_WIDTH)
    bars = room >= min(columns[-1], NOTES_WIDTH) + len(BARRED) * (BAR_WIDTH + 1)
    shown = range(len(header)) if beside else _fitting(columns[:-1], width)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in shown:
        name = header[column]
        table.add_column(name, no_wrap=name != "NOTES", overflow="fold")
    notes = []
    for health, row in zip(known, rows, strict=True):
        row = plain_row(row)
        cells = [Text(cell) for cell in row]
        cells[1].stylize(STATE_STYLE[health.state])
        for column, value in zip(BARRED, _shares(health), strict=True):
            if value is not None and bars:
                cells[column] = Text.assemble((bar(value), heat(value)), " ", row[column])
        table.add_row(*(cells[column] for column in shown))
        if row[-1] and not beside:
            notes.append(Text(f"{row[0]}: {row[-1]}"))
    return Group(table, *notes)


def _fitting(columns: Sequence[int], width: int) -> Sequence[int]:
    """Indices of the columns to show; `columns` are their widths."""
    kept = list(range(len(columns)))
    for name in DISPENSABLE:
        if sum(columns[at] for at in kept) + GAP * (len(kept) - 1) > width:
            kept.remove(HEALTH_HEADER.index(name))
    return kept


def _shares(health: NodeHealth) -> Sequence[float | None]:
    """The figures of the columns BARRED, in percent."""
    return (
        health.cpu.percent if health.cpu else None,
        health.memory.percent if health.memory else None,
        health.disk.percent if health.disk else None,
        gpu_memory_percent(health),
    )


def heat(value: float) -> str:
    return "red" if value >= 90 else "yellow" if value >= 70 else "green"


def table(header: Row, rows: Iterable[Row]) -> Table:
    from rich.table import Table
    from rich.text import Text

    result = Table(box=None, pad_edge=False, header_style="bold")
    for name in header:
        result.add_column(name, overflow="fold")
    for row in map(plain_row, rows):
        result.add_row(*(Text(cell, style=STATE_STYLE.get(cell, "")) for cell in row))
    return result
