"""Sections of the page: runs under way, and those that have ended."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from gridops.model import Job
from gridops.observe.rows import RunRow
from gridops.render.overview import Overview
from gridops.render.page import svg
from gridops.render.page.html import Html, element
from gridops.render.units import duration

SHOWN = 120  # characters of a command


def running(overview: Overview) -> Html:
    """The section of runs under way; empty when there is none."""
    jobs = [job for job in overview.jobs if job.active]
    ids = {job.id for job in jobs}
    rows = [_job_row(job, overview.at) for job in jobs]
    rows += [
        _attached_row(run, overview.at)
        for run in overview.runs
        if run.state == "running" and run.id not in ids
    ]
    if not rows:
        return Html("")
    return _section("running", "Running", ("Node", "State", "For", "Run", "What"), rows)


def recent(overview: Overview) -> Html:
    """The section of runs that have ended, newest first; empty when there is none."""
    known = {job.id: job for job in overview.jobs}
    runs = [run for run in overview.runs if run.state != "running" and not _active(run, known)]
    if not runs:
        return Html("")
    longest = max((run.seconds or 0.0 for run in runs), default=0.0)
    rows = [_run_row(run, longest) for run in runs]
    header = ("When", "Node", "Status", "Took", "Run", "What")
    return _section("runs", "Recent runs", header, rows)


def _active(run: RunRow, known: dict[str, Job]) -> bool:
    return run.id in known and known[run.id].active


def _section(name: str, title: str, header: Sequence[str], rows: Sequence[Html]) -> Html:
    cells = [element("th", one, scope="col", role="columnheader") for one in header]
    table = element(
        "table",
        element("thead", element("tr", *cells, role="row"), role="rowgroup"),
        element("tbody", *rows, role="rowgroup"),
        role="table",
        class_="runs",
        aria_labelledby=name,
    )
    return element("section", element("h2", title, id=name), table, class_="card")


def _job_row(job: Job, now: float) -> Html:
    began = job.started or job.submitted
    more = [job.user, f"{len(job.gpus)} GPU{'s' * (len(job.gpus) > 1)}" if job.gpus else ""]
    state = "lost, still there" if job.orphan else job.state
    return element(
        "tr",
        _cell("Node", element("b", job.node)),
        _cell("State", _status("busy" if job.state == "running" else "none", state)),
        _cell("For", "–" if began is None else duration(max(0.0, now - began))),
        _cell("Run", element("code", job.id)),
        _what(job.command, " · ".join(one for one in more if one)),
        role="row",
    )


def _attached_row(run: RunRow, now: float) -> Html:
    return element(
        "tr",
        _cell("Node", element("b", run.node or "–")),
        _cell("State", _status("busy", "running")),
        _cell("For", duration(max(0.0, now - run.started))),
        _cell("Run", element("code", run.id)),
        _what(run.command, run.task),
        role="row",
    )


def _run_row(run: RunRow, longest: float) -> Html:
    kind, said = _ending(run)
    bar = svg.bar(100 * run.seconds / longest, calm=True) if run.seconds and longest else ""
    took = "–" if run.seconds is None else duration(run.seconds)
    error = element("span", run.error, class_="error") if run.error else ""
    return element(
        "tr",
        _cell("When", moment(run.started)),
        _cell("Node", element("b", run.node or "no node")),
        _cell("Status", _status(kind, said), error),
        _cell("Took", element("span", took, class_="took"), bar),
        _cell("Run", element("code", run.id or "–")),
        _what(run.command, run.task),
        role="row",
        class_=kind,
    )


def _ending(run: RunRow) -> tuple[str, str]:
    """The sign and the words of how a run went."""
    if run.state == "finished":
        return ("good", "done") if run.status == 0 else ("bad", f"status {run.status}")
    if run.state == "failed":
        return "bad", "failed" if run.status is None else f"failed ({run.status})"
    return "none", {"detached": "left to its node", "unknown": "not known"}.get(
        run.state, run.state
    )


def _status(kind: str, text: str) -> Html:
    return element("span", svg.sign(kind), text, class_="state")


def _what(command: str, task: str) -> Html:
    words = " ".join(command.split())
    shown = words[:SHOWN] + ("…" if len(words) > SHOWN else "")
    return _cell("What", *_lines(element("code", shown) if shown else "", task))


def _lines(*lines: str) -> Iterator[Html]:
    for line in lines:
        if line:
            yield element("span", line, class_="line")


def _cell(label: str, *children: str) -> Html:
    return element("td", *children, role="cell", data_label=label)


def moment(at: float) -> Html:
    """A time in UTC; where scripts run it becomes the reader's own."""
    parts = time.gmtime(at)
    machine = time.strftime("%Y-%m-%dT%H:%M:%SZ", parts)
    return element("time", time.strftime("%Y-%m-%d %H:%M UTC", parts), datetime=machine)
