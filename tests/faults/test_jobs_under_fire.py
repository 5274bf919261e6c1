"""Many runs while clients, connections, sshd and supervisors are killed, links stall, and all
processes of a run are ended as by a shutdown or by logind.

GRIDOPS_FAULT_RUNS says how many (`make soak`: 2000), GRIDOPS_FAULT_SEED repeats a sequence.
"""

from __future__ import annotations

import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from support.jobs import pids_with, pids_with_environment
from support.nodes import close_masters, sshd_sessions, wait_until

sys.path.insert(0, str(Path(__file__).parent))
from faultbench import SLOTS, Bench, benches
from faultruns import FAULTS, LOSING, Run, Seen, carry_out, look_again

from gridops.errors import GridError
from gridops.jobs import follow
from gridops.jobs.spec import JobSpec
from gridops.jobs.start import start_job
from gridops.reach import pool
from gridops.sandbox import Sandbox

RUNS = int(os.environ.get("GRIDOPS_FAULT_RUNS", "200"))
SEED = int(os.environ.get("GRIDOPS_FAULT_SEED", "0")) or random.randrange(1, 1_000_000)
NODES = 3
AT_ONCE = 3  # on a node
LOST = 125
ENOUGH = 200  # runs in which each fault has met some
BASH_SAYS = re.compile(rb"Terminated|Hangup|Killed")
SINKS = {"on_stdout": lambda data: None, "on_stderr": lambda data: None}


def runs_for(seed: int, count: int, marks: Path) -> list[Run]:
    """The same for the same seed."""
    rng = random.Random(seed)
    faults = rng.choices(list(FAULTS), list(FAULTS.values()), k=count)
    faults[19::100] = ["long stall"] * len(faults[19::100])
    processes = [rng.random() < 0.25 for _ in faults]
    return [
        Run(n, fault, by_process, random.Random(f"{seed}.{n}"), marks)
        for n, (fault, by_process) in enumerate(zip(faults, processes, strict=True))
    ]


def what_is_wrong(run: Run, seen: Seen) -> str:
    """Nothing is: ""."""
    job = seen.job
    if seen.wrong or job is None:
        return seen.wrong or ("ran, and its node knows nothing of it" if run.times else "")
    if run.times > 1:
        return f"ran {run.times} times"
    if job.state == "lost":
        return _wrong_with_lost(run, seen)
    if job.state != "finished" or job.status != run.code:
        return f"is {job.state}, {job.reason}, status {job.status} instead of {run.code}"
    if seen.status not in (None, run.code):
        return f"its client ended with {seen.status} instead of {run.code}"
    if run.times != 1:
        return "did not run"
    if (seen.out, seen.err) != run.expected:
        sizes = [len(x) for x in (seen.out, run.expected[0], seen.err, run.expected[1])]
        return "streams differ: {} of {} and {} of {} bytes".format(*sizes)
    return ""


def _wrong_with_lost(run: Run, seen: Seen) -> str:
    out, err = run.expected
    if run.fault not in LOSING:
        return "is lost although its supervisor was left alone"
    if seen.job and seen.job.reason not in LOSING[run.fault]:
        return f"is lost, and the reason given is {seen.job.reason}"
    if seen.status not in (None, LOST):
        return f"is lost, and its client ended with {seen.status}"
    if seen.job and run.times and not seen.job.began:
        return "ran, and is said not to have begun"
    # bash may say of a `sleep` how that was ended, before it is itself
    said = b"".join(x for x in seen.err.splitlines(True) if not BASH_SAYS.search(x))
    if not out.startswith(seen.out) or not err.startswith(said):
        return "what came is not the beginning of what was written"
    return ""


def under_fire(bench: Bench, run: Run) -> tuple[Run, str]:
    """The run, and what is wrong with how it went."""
    try:
        seen = carry_out(bench, run)
    except GridError as exc:
        return run, f"{exc}; the bench: {bench.troubles[-3:]}"
    run.known = seen.job is not None
    run.state = seen.job.state if seen.job else "unknown to its node"
    return run, what_is_wrong(run, seen)


def said(bench: Bench, run: Run, wrong: str) -> str:
    how = "process" if run.by_process else "library"
    return f"run {run.number} ({run.fault}, by {how}, on {bench.name}) {wrong}"


@pytest.mark.timeout(600 + 10 * RUNS)
def test_runs_under_fire_are_exact_or_said_to_be_lost(
    make_sandbox: Callable[..., Sandbox], home: Path, fresh_runtime_dir: Path
) -> None:
    marks = home / "marks"
    marks.mkdir()
    runs = runs_for(SEED, RUNS, marks)
    sandbox = make_sandbox(NODES, options={"MaxStartups": "500:30:1000", "MaxSessions": "50"})
    with benches(sandbox, home) as made, ExitStack() as pools:
        arriving = []
        for number, bench in enumerate(made):
            workers = pools.enter_context(ThreadPoolExecutor(AT_ONCE))
            mine = runs[number::NODES]
            arriving.append((bench, workers.map(lambda run, b=bench: under_fire(b, run), mine)))
        wrong = [
            said(bench, run, text) for bench, results in arriving for run, text in results if text
        ]
        for number, bench in enumerate(made):
            mine = runs[number::NODES]
            wrong += [said(bench, run, text) for run in mine if (text := afterwards(bench, run))]
            wrong += what_is_left(bench)
        wrong += what_is_left_here(fresh_runtime_dir, made)
    print(summary(runs))
    assert not wrong, f"seed {SEED}:\n" + "\n".join(wrong)
    if len(runs) >= ENOUGH:
        lost = {run.fault for run in runs if run.state == "lost"}
        assert lost == set(LOSING), f"seed {SEED}: what is to lose runs did not do so: {lost}"


def summary(runs: list[Run]) -> str:
    """How many runs each fault was done to, and what came of them."""
    counts = Counter((run.fault, run.state) for run in runs)
    told = "\n".join(f"{n:5} {fault}: {state}" for (fault, state), n in sorted(counts.items()))
    begun = sum(run.times for run in runs)
    return f"seed {SEED}: {len(runs)} runs, {begun} commands begun\n{told}"


def afterwards(bench: Bench, run: Run) -> str:
    """What is wrong with a run when all of them are over."""
    if not run.known:
        return what_is_wrong(run, look_again(bench, run))
    return f"has run {run.times} times by now" if run.times > 1 else ""


def what_is_left_here(runtime_dir: Path, made: list[Bench]) -> list[str]:
    """Connections and control sockets that outlive their use."""
    pool.close()
    close_masters(runtime_dir)  # those that nobody came to use: the client died while it logged in
    found: list[str] = []

    def look() -> bool:
        found[:] = [str(path) for path in runtime_dir.iterdir() if path.is_socket()]
        for bench in made:
            found.extend(f"sshd's {pid} on {bench.name}" for pid in sshd_sessions(bench.listener))
        return not found

    with suppress(AssertionError):
        wait_until(look, 20)
    return [f"here is left: {what}" for what in found]


def what_is_left(bench: Bench) -> list[str]:
    """Processes, pipes, locks and places in line that outlive the runs of a node."""
    base = bench.home / ".gridops"
    found: list[str] = []

    def look() -> bool:
        tagged = set(pids_with_environment("GRIDOPS_RUN_ID="))
        ours = tagged & set(pids_with_environment(str(bench.home.parent)))
        found[:] = [f"process {pid}" for pid in [*ours, *pids_with(f"{base}/lib/")]]
        found.extend(str(path) for path in base.glob("jobs/*/p.*"))
        found.extend(str(path) for path in base.glob("locks/*/queue/*"))
        return not found

    with suppress(AssertionError):
        wait_until(look, 20)
    # Whoever was killed with a lock or a slot in its hands does not keep the next one waiting.
    begun = time.monotonic()
    specs = [JobSpec(command="sleep 0.5", slots=SLOTS, wait=20.0) for _ in range(SLOTS)]
    for spec in specs:
        start_job(bench.link(), spec)
    ends = [follow.follow_through(bench.link(), one.id, **SINKS).job for one in specs]
    if not all(job.status == 0 for job in ends) or time.monotonic() - begun > 15:
        found.append(f"a lock or a slot: {SLOTS} more runs took {time.monotonic() - begun:.0f} s")
    with suppress(AssertionError):
        wait_until(lambda: not list(base.glob("locks/*/leases/*")), 5)
    found += [str(path) for path in base.glob("locks/*/leases/*")]
    return [f"on {bench.name} there is left: {what}" for what in found]
