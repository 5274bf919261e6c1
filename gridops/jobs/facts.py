"""From what a node's files tell of its runs to Job values.

The node sends `state ID WORD` for what has not ended on record, `file MTIME SIZE 'ID/NAME'` (and
` -> 'TARGET'`) for each of a run's records and files (job.sh says what they mean), and `# {json}`
as the client gave it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gridops.jobs.paths import JobPaths
from gridops.model import Job, JobState

FILE = re.compile(r"file (\d+) (\d+) '?([^/' ]+)/([^' ]+)'?(?: -> '?(.*?)'?)?")
LOST = ("supervisor", "rebooted", "shutdown")
REFUSED = ("busy", "gpus", "snapshot", "unconfirmed", "error", "setup")
UNENDED: Mapping[str, tuple[JobState, str]] = {
    "queued": ("queued", ""),
    "held": ("held", ""),
    "running": ("running", ""),
    "orphan": ("lost", "supervisor"),
    "cancelled": ("killed", "cancelled"),
}


@dataclass
class _Facts:
    word: str = ""  # the node's own verdict; "" when the end is on record
    times: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


def jobs_from(lines: Iterable[str], node: str) -> dict[str, Job]:
    """The runs that the lines tell of, by id; one that the node does not know is left out."""
    found: dict[str, _Facts] = {}
    for line in lines:
        if line.startswith("state "):
            _, job_id, word = line.split(" ", 2)
            found.setdefault(job_id, _Facts()).word = word
        elif line.startswith("file "):
            _take_file(line, found)
        elif line.startswith("# {"):
            about = json.loads(line[2:])
            found.setdefault(about["id"], _Facts()).about = about
    return {
        job_id: _job(job_id, node, facts)
        for job_id, facts in found.items()
        if facts.word not in ("absent", "elsewhere")
    }


def _take_file(line: str, found: dict[str, _Facts]) -> None:
    match = FILE.fullmatch(line)
    if match is None:
        return
    when, size, job_id, name, target = match.groups()
    facts = found.setdefault(job_id, _Facts())
    facts.times[name] = int(when)
    facts.sizes[name] = int(size)
    if target is not None:
        facts.links[name] = target


def _job(job_id: str, node: str, facts: _Facts) -> Job:
    about, links = facts.about, facts.links
    end = _End.of(links.get("exit", ""))
    began = links.get("child", "void") != "void" and not (end and end.reason == "setup")
    by = links.get("kill", "").partition(".")[2]
    state, reason = _state(facts, end, by)
    seconds = None if end is None or not began else end.seconds
    ended = facts.times.get("exit")
    started = _started(facts, ended, seconds) if began else None
    return Job(
        id=job_id,
        node=node,
        state=state,
        command=about.get("command", ""),
        env=tuple(about.get("env", ())),
        user=about.get("user", ""),
        began=began,
        submitted=_submitted(facts, started),
        started=started,
        ended=ended,
        seconds=seconds,
        status=end.status if end else None,
        signal=end.signal if end else None,
        reason=reason,
        by=by if state == "killed" else "",
        timeout=about.get("timeout"),
        gpus=tuple(filter(None, links.get("gpus", "").split(","))),
        gpus_wanted=about.get("gpus", 0),
        out_bytes=end.out_bytes if end else facts.sizes.get("out", 0),
        err_bytes=end.err_bytes if end else facts.sizes.get("err", 0),
        cut=links.get("out.cut") or links.get("err.cut", ""),
        orphan=facts.word == "orphan",
        cwd=JobPaths(job_id).tree if about.get("isolate") else about.get("cwd", ""),
        tree=about.get("tree", ""),
        isolated=bool(about.get("isolate")),
        commit=about.get("commit", ""),
        diff=JobPaths(job_id).diff if "spec/diff" in facts.sizes else "",
        diff_bytes=max(0, facts.sizes.get("spec/diff", 0) - 1),  # the run file adds a line end
        why=about.get("why", ""),
        placed=about.get("node", ""),
    )


def _started(facts: _Facts, ended: int | None, seconds: float | None) -> float | None:
    """To the second, but never so that a short run seems to have ended before it began."""
    began = facts.times.get("child")
    if began is None or ended is None or seconds is None:
        return began
    return min(began, ended - seconds) if ended - began < seconds else began


def _submitted(facts: _Facts, started: float | None) -> float | None:
    """To the second as well, but never after it began."""
    submitted = facts.times.get("sup")
    return min(submitted, started) if submitted is not None and started is not None else submitted


@dataclass(frozen=True, slots=True)
class _End:
    """`CODE.SIGNAL.CENTIS.OUT.ERR.REASON`, an x for what nobody knows."""

    status: int | None
    signal: int | None
    seconds: float | None
    out_bytes: int
    err_bytes: int
    reason: str

    @classmethod
    def of(cls, record: str) -> _End | None:
        words = record.split(".")
        if len(words) != 6:
            return None
        code, signal, centis = (int(word) if word.isdecimal() else None for word in words[:3])
        seconds = None if centis is None else centis / 100
        return cls(code, signal or None, seconds, int(words[3]), int(words[4]), words[5])


def _state(facts: _Facts, end: _End | None, by: str) -> tuple[JobState, str]:
    if end is None:
        return _unended(facts.word)
    if end.reason == "killed":
        return ("timed out", "timeout") if by == "timeout" else ("killed", "killed")
    if end.reason in LOST:
        return "lost", end.reason
    if end.reason in REFUSED:
        return "refused", end.reason
    return "finished", end.reason


def _unended(word: str) -> tuple[JobState, str]:
    return UNENDED.get(word, ("unknown", ""))
