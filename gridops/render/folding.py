"""Output and errors that several nodes have in common, said once."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Sequence
from statistics import median
from typing import Any, TypeVar

from gridops.errors import GridError
from gridops.inventory.nodeset import fold
from gridops.model import NodeHealth, Outcome, Reply, SyncReport
from gridops.probe.score import STATES
from gridops.render.tables import Row
from gridops.system.text import plain, printable, size


def fold_replies(outcomes: Iterable[Outcome[Reply]]) -> list[tuple[str, int, Outcome[Reply]]]:
    """Nodes that said and did the same, together: (node set, how many, one of them)."""
    groups: dict[tuple[object, ...], list[Outcome[Reply]]] = {}
    for outcome in outcomes:
        reply = outcome.value
        key = (
            (reply.status, reply.stdout, reply.stderr)
            if reply
            else (type(outcome.error), outcome.error and outcome.error.message)
        )
        groups.setdefault(key, []).append(outcome)
    return [(fold(o.node.name for o in group), len(group), group[0]) for group in groups.values()]


def block(names: str, count: int, status: int, data: bytes) -> bytes:
    """Output that `count` nodes have in common, whole lines under a header."""
    ended = f" exit status {status}" if status else ""
    rule = "-" * 15
    header = f"{rule}\n{printable(names)} ({count}){ended}\n{rule}\n".encode()
    return header + data + (b"" if data.endswith(b"\n") else b"\n")


def failures(outcomes: Iterable[Outcome[Any]]) -> list[str]:
    """One line an error that several nodes share: `gpu[1-3]: what (hint)`."""
    errors = ((outcome.node.name, outcome.error) for outcome in outcomes)
    return _lines((name, error) for name, error in errors if error is not None)


def error_lines(errors: Iterable[GridError]) -> list[str]:
    """Lines as from `failures`, for errors that know their nodes."""
    return _lines((error.node or "", error) for error in errors)


def _lines(errors: Iterable[tuple[str, GridError]]) -> list[str]:
    groups: dict[tuple[str, str], list[str]] = {}
    for name, error in errors:
        groups.setdefault((error.message, error.hint), []).append(name)
    return [
        plain(f"{fold(names)}: {message}" + (f" ({hint})" if hint else ""))
        for (message, hint), names in groups.items()
    ]


T = TypeVar("T")

MAX_NOTE = 80  # characters of a note that are shown
MAX_KINDS = 8  # of notes that a state's nodes may have until the rarer ones share a row

HEALTH_GROUP_HEADER = ("STATE", "NODES", "SCORE", "GPU", "SLOTS", "NOTES", "WHICH")
SYNC_GROUP_HEADER = ("NODES", "FILES", "BYTES", "DELETED", "SECONDS", "TARGET", "WHICH")

_FIGURES = re.compile(r"\d+(\.\d+)?")


def health_rows(healths: Iterable[NodeHealth]) -> list[Row]:
    """A row for each state and kind of note.

    The healthy come first, and the most common before others. Two notes are of a kind when they
    differ in figures only.
    """
    groups = _group_by(healths, lambda health: (health.state, _FIGURES.sub("#", _note(health))))
    rows: list[Row] = []
    for state in STATES:
        kinds = sorted((g for (s, _), g in groups.items() if s == state), key=len, reverse=True)
        rows += [
            _health_row(state, _common([*map(_note, group)]), group) for group in kinds[:MAX_KINDS]
        ]
        if rest := [health for group in kinds[MAX_KINDS:] for health in group]:
            rows.append(_health_row(state, f"{len(kinds) - MAX_KINDS} other reasons", rest))
    return rows


def _note(health: NodeHealth) -> str:
    return plain(health.error or "; ".join(health.reasons))


def _common(said: Sequence[str]) -> str:
    """The text that all have, or one of theirs as an example."""
    text = said[0] if len(set(said)) == 1 else f"such as: {said[0]}"
    return text if len(text) <= MAX_NOTE else text[: MAX_NOTE - 1] + "…"


def _health_row(state: str, notes: str, group: Sequence[NodeHealth]) -> Row:
    gpus = [gpu for health in group for gpu in health.gpus]
    jobs = [health.jobs for health in group if health.jobs]
    return (
        state,
        str(len(group)),
        _spread([health.score for health in group if health.score is not None]),
        f"{sum(not gpu.free for gpu in gpus)}/{len(gpus)}" if gpus else "-",
        f"{sum(j.running for j in jobs)}/{sum(j.slots for j in jobs)}" if jobs else "-",
        notes or "-",
        fold(health.node.name for health in group),
    )


def _spread(figures: Sequence[float]) -> str:
    """Least, middle and most."""
    if not figures:
        return "-"
    low, middle, high = min(figures), median(figures), max(figures)
    return f"{low:.1f}" if low == high else f"{low:.1f} … {middle:.1f} … {high:.1f}"


def sync_rows(reports: Iterable[SyncReport]) -> list[Row]:
    """A row for each group of nodes that got the same. Bytes and seconds are the most of any."""
    groups = _group_by(reports, lambda report: (report.files, report.total_files, report.deleted))
    return [
        (
            str(len(group)),
            f"{group[0].files} of {group[0].total_files}",
            size(max(report.bytes for report in group)),
            str(len(group[0].deleted)),
            f"{max(report.seconds for report in group):.2f}",
            _common([plain(report.target) for report in group]),
            fold(report.node.name for report in group),
        )
        for group in groups.values()
    ]


def _group_by(items: Iterable[T], key: Callable[[T], Hashable]) -> dict[Any, list[T]]:
    groups: dict[Any, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
