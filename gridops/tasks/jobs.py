"""`jobs` and `jobs.*`: durable runs, from any machine that has the inventory."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gridops.errors import UsageError
from gridops.observe import events
from gridops.tasks import _parse
from gridops.tasks._parse import FETCH, FETCH_EVENTS, OVERWRITE
from gridops.tasks._task import SELECTION, Call, format_flag, grid_task
from gridops.tasks._terminal import say, show, show_table, track, write_bytes

if TYPE_CHECKING:
    from gridops.model import Job

RUN_ID_HELP = "the run's id, the beginning or the end of one, or @last for the newest"
INTO_HELP = "the local directory (default: this one); files land in it as they lie on the node"
LEFT_STATUS = 130
CONNECTION_EVENTS = (events.CONNECTION_LOST, events.CONNECTION_REGAINED, events.WARNING)


@grid_task(
    name="list",
    default=True,
    flags=(*SELECTION, *format_flag("table", "json")),
    help={
        "state": "only runs in these states: running,queued",
        "all": "list all runs, also attempts that never began (default with JSON)",
        "limit": "the newest N of the ended runs (default: 20)",
    },
)
def list_(call: Call, state: str | None = None, all: bool = False, limit: str | None = None) -> int:
    """List the runs of all selected nodes, oldest first. Exit 125 if no node can be reached."""
    from gridops.jobs.listing import ENDED, filter_jobs, states
    from gridops.jobs.lookup import merge_jobs
    from gridops.render import documents, jobs, tables
    from gridops.render.folding import failures

    if all and limit is not None:
        raise UsageError("--all and --limit exclude each other")
    of, ended = states(state), _count(limit, "limit")
    if ended is None and not all and call.format != "json":
        ended = ENDED
    arriving = call.grid.jobs(call.nodes)
    found = {o.node.name: o for o in track(arriving, len(call.nodes), "nodes that have answered:")}
    outcomes = [found[node.name] for node in call.nodes]
    (runs, older), now = filter_jobs(merge_jobs(outcomes), of, ended), time.time()
    if call.format == "json":
        show(documents.to_json(jobs.jobs_document(call.source, runs, outcomes, now)))
    elif any(outcome.ok for outcome in outcomes):
        rows = [jobs.row(job, now) for job in runs]
        show_table(
            lambda: tables.align(jobs.JOBS_HEADER, rows),
            lambda: tables.table(jobs.JOBS_HEADER, rows),
        )
    if older and limit is None:
        say(f"{older} that ended earlier are not shown (--limit N, --all)")
    for line in failures(outcomes):
        say(line)
    return 0 if any(outcome.ok for outcome in outcomes) else 125


@grid_task(
    flags=SELECTION,
    short={"follow": "f"},
    help={
        "id": RUN_ID_HELP,
        "follow": "follow the run to its end and exit with its status",
        "tail": "start at the last N lines of each stream",
        "stderr": "print only its stderr, on stdout",
    },
)
def logs(
    call: Call, id: str, follow: bool = False, tail: str | None = None, stderr: bool = False
) -> int:
    """Print a run's output, byte for byte: stdout to stdout, stderr to stderr."""
    from gridops.reach.pump import Sinks

    count = _count(tail, "tail")
    job = _find(call, id, in_time=follow)
    output = Sinks(write_bytes(1), write_bytes(2))

    def read() -> Job:
        return call.grid.logs(job, output, follow=follow, tail=count, only_stderr=stderr)

    after = _attend(call, job, read)
    if after is None:
        return LEFT_STATUS
    return _conclude(after) if follow else 0


def _find(
    call: Call,
    id: str,
    *,
    certain: bool = False,
    in_time: bool = False,
    timeout: float | None = None,
) -> Job:
    """Find the run, and report doubts about it. `in_time`: also once it can be had."""
    with call.narrate(only=(events.WARNING,)):
        if in_time:
            return call.grid.find_job_in_time(id, call.nodes, timeout=timeout)
        return call.grid.find_job(id, call.nodes, certain=certain)


def _count(text: str | None, flag: str) -> int | None:
    if text is not None and not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise UsageError(f"--{flag} {text!r} is not a number of {_COUNTED[flag]}")
    return None if text is None else int(text)


_COUNTED = {"tail": "lines", "limit": "runs"}


@grid_task(
    flags=SELECTION,
    iterable=["fetch"],
    help={
        "id": RUN_ID_HELP,
        "timeout": "wait at most this long: 90, 10m, 1h30m (exit status 124)",
        "fetch": FETCH,
        "into": INTO_HELP,
        "overwrite": OVERWRITE,
    },
)
def wait(
    call: Call,
    id: str,
    timeout: str | None = None,
    fetch: Sequence[str] | None = None,
    into: str | None = None,
    overwrite: bool = False,
) -> int:
    """Wait until a run has ended and exit with its status."""
    from gridops.transfers.fetch import check_patterns

    limit, patterns = _parse.seconds(timeout, "timeout"), check_patterns(fetch or ())
    if (into or overwrite) and not patterns:
        raise UsageError(f"--{'into' if into else 'overwrite'} goes with --fetch PATTERN")
    began = time.monotonic()
    job = _find(call, id, in_time=True, timeout=limit)
    after = _attend(call, job, lambda: call.grid.wait(job, limit, since=began))
    if after is None:
        return LEFT_STATUS
    status = _conclude(after)
    if not patterns or not after.began:
        return status
    with call.narrate(only=FETCH_EVENTS):
        return call.grid.bring_home(after, status, patterns, into or ".", overwrite=overwrite)


def _attend(call: Call, job: Job, work: Callable[[], Job]) -> Job | None:
    """The run as `work` returns it; None: Ctrl-C, and the run goes on."""
    try:
        with call.narrate(only=CONNECTION_EVENTS):
            return work()
    except KeyboardInterrupt:
        say(f"{job.node}: left; the run {job.id} goes on there, unless it has ended")
        return None


def _conclude(job: Job) -> int:
    """The exit status of a run that has ended; its verdict, if any, is said."""
    from gridops.jobs.outcome import describe_outcome, exit_status

    if said := describe_outcome(job):
        say(f"{job.node}: the run {job.id}: {said}")
    return exit_status(job)


@grid_task(
    flags=SELECTION,
    repeatable=["pattern"],
    help={
        "id": RUN_ID_HELP,
        "pattern": "a file, directory or wildcard (quoted) in the run's directory, or from / or"
        " ~/ on there; as --pattern also several times",
        "into": INTO_HELP,
        "overwrite": OVERWRITE,
    },
)
def fetch(
    call: Call, id: str, pattern: Sequence[str], into: str | None = None, overwrite: bool = False
) -> int:
    """Fetch results of a run, whether it has ended or not. Exit 1 if nothing matches."""
    from gridops.transfers.fetch import check_patterns

    patterns = check_patterns(pattern)
    job = _find(call, id)
    with call.narrate(only=FETCH_EVENTS):
        report = call.grid.fetch(job, patterns, into or ".", overwrite=overwrite)
    if job.active:
        say(f"{job.node}: the run {job.id} goes on; this is what there was by now")
    return 0 if report.found else 1


@grid_task(flags=SELECTION, help={"id": RUN_ID_HELP})
def kill(call: Call, id: str) -> int:
    """End a run and its whole process tree: TERM, and KILL after 10 seconds."""
    from gridops.jobs.outcome import describe_outcome, remains

    grid = call.grid
    before = _find(call, id, certain=True)
    after = grid.kill(before)
    name = f"{after.node}: the run {after.id}"
    if after.state == "unreadable":
        say(f"{name} was told to end, if it runs: {describe_outcome(after)}")
        return 125
    if after.active:
        rest = f"; {remains(after)}" if after.left else f" (`inv jobs.show {after.id}`)"
        say(f"{name} was told to end and has not yet{rest}")
        return 125
    said = describe_outcome(after)
    if before.active:
        say(f"{name}: {said or f'it ended by itself, with status {after.status}'}")
    else:
        say(f"{name} had ended already: {said or f'with status {after.status}'}")
    return 125 if after.left else 0


@grid_task(
    name="show",
    flags=(*SELECTION, *format_flag("table", "json")),
    help={
        "id": RUN_ID_HELP,
        "diff": "print only its uncommitted changes, for `git apply`",
    },
)
def show_(call: Call, id: str, diff: bool = False) -> int | None:
    """Show a run: its command, commit, node and the reason for it, times and outcome."""
    from gridops.render import documents, jobs

    if diff and call.format == "json":
        raise UsageError("--diff prints the changes themselves", hint="leave out --format")
    job = _find(call, id)
    if diff:
        return _show_diff(call, job)
    job = call.grid.show_job(job)
    if call.format == "json":
        show(documents.to_json(jobs.job_document(job, time.time())))
    else:
        show(jobs.lines(job, time.time()))
    return None


def _show_diff(call: Call, job: Job) -> int:
    """Print the run's uncommitted changes. Exit 1 when they are not known."""
    from gridops.transfers.sync.provenance import missing_parts

    changes = call.grid.job_diff(job)
    write_bytes(1)(changes)
    name = f"{job.node}: the run {job.id}"
    if not changes:
        say(f"{name}: " + ("nothing was changed" if job.commit else "its changes are not known"))
    elif missing := missing_parts(changes):
        say(f"{name}: the diff is incomplete, it lacks {missing}")
    return 0 if changes or job.commit else 1


@grid_task(
    flags=SELECTION, help={"older_than": "forget runs that ended longer ago than this: 90, 12h, 7d"}
)
def prune(call: Call, older_than: str = "7d") -> int:
    """Forget ended runs and their output, and print their ids."""
    from gridops.render.folding import failures

    age = _parse.seconds(older_than, "older-than") or 0.0
    outcomes = list(call.grid.prune(age, call.nodes))
    for job_id in sorted({job_id for outcome in outcomes for job_id in outcome.value or ()}):
        show(job_id)
    for line in failures(outcomes):
        say(line)
    return max((o.error.exit_status for o in outcomes if o.error), default=0)
