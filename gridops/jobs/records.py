"""Parse a node's records of its runs into Job values. Each run is checked by itself.

The node sends `state ID WORD` for what has not ended on record, `left ID PID:USER:NAME ...` for
what could not be ended, `file MTIME SIZE 'ID/NAME'` (and
` -> 'TARGET'`) for each of a run's records and files (job.sh says what they mean), and the first
line of each run file (`# {json}`, as the client gave it) behind its name:

    # ==> ID/spec/run <==
    # # {json}

A run whose records are not what they should be is "unreadable" and hides no other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from gridops.errors import GridError, UnreadableAnswer
from gridops.jobs.paths import ID, JobPaths
from gridops.model import Job, JobState, Leftover
from gridops.reach.answers import MAX_TIME, Fields, document, whole

FILE = re.compile(
    r"file (-?\d{1,19}) (\d{1,19}) '?([^/' ]+)/([^' ]+)'?(?: -> '?(.*?)'?)?", re.ASCII
)
NAME_OF_NEXT = re.compile(r"# ==> (.+)/spec/run <==")
SUPERVISOR = re.compile(r"\d+\.\d+\.[^.]+\..+", re.ASCII)  # PID.TICK.BOOT.HOST
LEFTOVER = re.compile(r"(\d{1,10}):([\w.@-]{1,64}):([\w.@:-]{0,64})", re.ASCII)
WORD = re.compile(r"[a-z]{1,32}", re.ASCII)
LOST = ("supervisor", "rebooted", "shutdown")
REFUSED = ("busy", "gpus", "snapshot", "unconfirmed", "error", "setup")
UNENDED: Mapping[str, tuple[JobState, str]] = {
    "queued": ("queued", ""),
    "held": ("held", ""),
    "running": ("running", ""),
    "orphan": ("lost", "supervisor"),
    "cancelled": ("killed", "cancelled"),
}
MAX_RUNS = 50_000  # of one node
MAX_STATUS = 255
MAX_SIGNAL = 255
MAX_GPUS = 100_000
MAX_SECONDS = 10**11
MAX_LEFT = 10


@dataclass(slots=True)
class _Facts:
    word: str = ""  # the node's own verdict; "" when the end is on record
    times: dict[str, int] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    left: str = ""
    about: str | None = None  # the first line of its run file; None where there is none


class Records:
    """Parser that takes an answer's lines as they come."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._found: dict[str, _Facts] = {}
        self._named = ""  # the run whose run file comes next
        self.last = ""  # the last line

    def hear(self, line: str) -> None:
        """Take a line. Raises UnreadableAnswer when there are too many runs."""
        self.last = line
        if self._named:
            self._facts(self._named).about = line[2:]
            self._named = ""
            if line.startswith("# "):
                return
        if line.startswith("state "):
            _, job_id, word = [*line.split(" ", 2), "", ""][:3]
            self._facts(job_id).word = word
        elif line.startswith("left "):
            _, job_id, left = [*line.split(" ", 2), "", ""][:3]
            self._facts(job_id).left = left
        elif line.startswith("file "):
            self._take_file(line)
        elif match := NAME_OF_NEXT.fullmatch(line):
            self._named = match[1]

    def jobs(self) -> dict[str, Job]:
        """The runs by id; one that the node does not know, or another has, is left out."""
        found: dict[str, Job] = {}
        while self._found:  # what is read is let go of: there may be thousands
            job_id, facts = self._found.popitem()
            if not ID.fullmatch(job_id):
                continue  # somebody else's directory: no run can have that name
            try:
                job = _job(job_id, self._node, facts)
            except (GridError, ValueError) as exc:
                error = exc.message if isinstance(exc, GridError) else str(exc)
                job = Job(job_id, self._node, "unreadable", error=error)
            if job is not None:
                found[job.id] = job
        return dict(reversed(found.items()))

    def _facts(self, job_id: str) -> _Facts:
        facts = self._found.get(job_id)
        if facts is None:
            if len(self._found) >= MAX_RUNS:
                raise UnreadableAnswer(
                    f"has over {MAX_RUNS} runs", node=self._node, hint="run `inv jobs.prune`"
                )
            facts = self._found[job_id] = _Facts()
        return facts

    def _take_file(self, line: str) -> None:
        match = FILE.fullmatch(line)
        if match is None:
            return
        when, size, job_id, name, target = match.groups()
        facts = self._facts(job_id)
        facts.sizes[name] = int(size)
        if 0 <= int(when) <= MAX_TIME:  # else its clock was off, and nobody knows when
            facts.times[name] = int(when)
        if target is not None:
            facts.links[name] = target


def jobs_from(lines: Iterable[str], node: str) -> dict[str, Job]:
    """The runs that the lines tell of, by id; one that the node does not know is left out."""
    records = Records(node)
    for line in lines:
        records.hear(line)
    return records.jobs()


def _job(job_id: str, node: str, facts: _Facts) -> Job | None:
    """Build a run's Job; None for one that the node does not know, or another has.

    Raises UnreadableAnswer or ValueError, which say what is wrong with its records.
    """
    links = facts.links
    if facts.word == "absent" and facts.about is None:
        return None
    if facts.word == "elsewhere" and SUPERVISOR.fullmatch(links.get("sup", "")):
        return None
    _check(facts)
    about = _about(job_id, facts)
    end = _End.of(links["exit"]) if "exit" in links else None
    began = links.get("child", "void") != "void" and not (end and end.reason == "setup")
    by = links.get("kill", "").partition(".")[2]
    state, reason = _state(facts, end, by)
    seconds = None if end is None or not began else end.seconds
    ended = facts.times.get("exit")
    started = _start_time(facts, ended, seconds) if began else None
    job = _as_asked_for(job_id, node, about, own="tree" in facts.times)
    return replace(
        job,
        state=state,
        began=began,
        submitted=_submit_time(facts, started),
        started=started,
        ended=ended,
        seconds=seconds,
        status=end.status if end else None,
        signal=end.signal if end else None,
        reason=reason,
        by=by if state == "killed" else "",
        gpus=tuple(filter(None, links.get("gpus", "").split(","))),
        out_bytes=end.out_bytes if end else facts.sizes.get("out", 0),
        err_bytes=end.err_bytes if end else facts.sizes.get("err", 0),
        cut=links.get("out.cut") or links.get("err.cut", ""),
        orphan=facts.word == "orphan",
        diff=JobPaths(job_id).diff if "spec/diff" in facts.sizes else "",
        diff_bytes=max(0, facts.sizes.get("spec/diff", 0) - 1),  # the run file adds a line end
        left=tuple(map(_leftover, facts.left.split()[:MAX_LEFT])),
    )


def _as_asked_for(job_id: str, node: str, about: Fields, *, own: bool) -> Job:
    """The run as its client described it; `own`: it has a directory of its own."""
    isolated = about.flag("isolate") or own
    return Job(
        id=job_id,
        node=node,
        state="unknown",
        command=about.os_text("command"),
        env=about.texts("env", 10_000),
        user=about.text("user", 1024),
        timeout=about.real("timeout", MAX_SECONDS),
        gpus_wanted=about.whole("gpus", MAX_GPUS) or 0,
        cwd=JobPaths(job_id).tree if isolated else about.os_text("cwd"),
        tree=about.os_text("tree"),
        isolated=isolated,
        commit=about.text("commit", 1024),
        why=about.text("why"),
        placed=about.text("node", 1024),
    )


def _leftover(word: str) -> Leftover:
    """Parse `PID:USER:NAME`. Raises ValueError."""
    match = LEFTOVER.fullmatch(word)
    if match is None:
        raise ValueError(f"a process that it left is {word[:64]!r}")
    return Leftover(int(match[1]), match[2], match[3])


def _check(facts: _Facts) -> None:
    """Check that a run's records agree. Raises ValueError when they contradict each other."""
    if facts.word == "absent":
        raise ValueError("it has no supervisor on record")
    if facts.word == "elsewhere":
        raise ValueError(f"its supervisor on record is {facts.links.get('sup', '')[:64]!r}")
    if "out" in facts.sizes and facts.about is None:
        raise ValueError("its run file is missing")
    for name in ("sup", "child", "kill", "exit"):
        if name in facts.sizes and name not in facts.links:
            raise ValueError(f"its record {name!r} is not a link")


def _about(job_id: str, facts: _Facts) -> Fields:
    """The facts that the client gave; none of one whose output was pruned."""
    if facts.about is None:
        return Fields({})
    if not facts.about.startswith("# {"):
        raise ValueError("its run file does not begin as it should")
    about = Fields(document(facts.about[2:], "its run file"), "its run file")
    if about.text("id") != job_id:
        raise ValueError("its run file is not that of this run")
    return about


def _start_time(facts: _Facts, ended: int | None, seconds: float | None) -> float | None:
    """Start time, to the second.

    Never such that a short run seems to have ended before it began.
    """
    began = facts.times.get("child")
    if began is None or ended is None or seconds is None:
        return began
    return min(began, ended - seconds) if ended - began < seconds else began


def _submit_time(facts: _Facts, started: float | None) -> float | None:
    """Submission time, to the second as well, but never after it began."""
    submitted = facts.times.get("sup")
    return min(submitted, started) if submitted is not None and started is not None else submitted


@dataclass(frozen=True, slots=True)
class _End:
    """End on record: `CODE.SIGNAL.CENTIS.OUT.ERR.REASON`, an x for what nobody knows."""

    status: int | None
    signal: int | None
    seconds: float | None
    out_bytes: int
    err_bytes: int
    reason: str

    @classmethod
    def of(cls, record: str) -> _End:
        """Parse an end on record. Raises ValueError."""
        words = record.split(".")
        try:
            code, signal, centis, out, err, reason = words
            if not WORD.fullmatch(reason):
                raise ValueError(reason)
            took = _number(centis, 100 * MAX_SECONDS)
            return cls(
                _number(code, MAX_STATUS),
                _number(signal, MAX_SIGNAL) or None,
                None if took is None else took / 100,
                whole(out),
                whole(err),
                reason,
            )
        except ValueError:
            raise ValueError(f"its end on record is {record[:64]!r}") from None


def _number(word: str, most: int) -> int | None:
    return None if word == "x" else whole(word, most)


def _state(facts: _Facts, end: _End | None, by: str) -> tuple[JobState, str]:
    if end is None:
        return _live_state(facts.word)
    if end.reason == "killed":
        return ("timed out", "timeout") if by == "timeout" else ("killed", "killed")
    if end.reason in LOST:
        return "lost", end.reason
    if end.reason in REFUSED:
        return "refused", end.reason
    return "finished", end.reason


def _live_state(word: str) -> tuple[JobState, str]:
    return UNENDED.get(word, ("unknown", ""))
