"""Many runs while clients, connections, sshd and supervisors are killed and links stall.

GRIDOPS_FAULT_RUNS says how many (`make soak`: 2000), GRIDOPS_FAULT_SEED repeats a sequence.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers import wait_until
from jobhelpers import pids_with_environment

sys.path.insert(0, str(Path(__file__).parent))
from faultbench import Bench, Run, bench, carry_out

from gridops.errors import GridError
from gridops.sandbox import Sandbox

RUNS = int(os.environ.get("GRIDOPS_FAULT_RUNS", "200"))
SEED = int(os.environ.get("GRIDOPS_FAULT_SEED", "0")) or random.randrange(1, 1_000_000)
AT_ONCE = 6
FAULTS = {"none": 20, "client": 25, "session": 20, "sshd": 5, "stall": 10, "supervisor": 20}


def check(bench: Bench, run: Run) -> str:
    """What is wrong with how the run went; empty when nothing is."""
    try:
        job = carry_out(bench, run)
    except GridError as exc:
        return f"run {run.number} ({run.fault}): {exc}; the bench: {bench.troubles[-3:]}"
    out, err = run.expected
    streams = bytes(run.out), bytes(run.err)
    where = f"run {run.number} ({run.fault}): {job.state} {job.reason}"
    if job.state == "lost":
        if run.fault != "supervisor":
            return f"{where}: lost although its supervisor was left alone"
        if run.times_run > 1 or (run.times_run == 1 and not job.began):
            return f"{where}: ran {run.times_run} times, began {job.began}"
        # bash may say of a `sleep` that it was "Terminated", before it is itself
        said = b"".join(x for x in streams[1].splitlines(True) if b"Terminated" not in x)
        if not out.startswith(streams[0]) or not err.startswith(said):
            return f"{where}: what came is not the beginning of what was written"
        return ""
    if job.state != "finished" or job.status != run.code:
        return f"{where}: status {job.status} instead of {run.code}"
    if run.times_run != 1:
        return f"{where}: ran {run.times_run} times"
    if streams != (out, err):
        return f"{where}: streams differ ({len(streams[0])} of {len(out)} bytes)"
    return ""


@pytest.mark.timeout(600 + 10 * RUNS)
@pytest.mark.usefixtures("fresh_runtime_dir")
def test_runs_under_fire_are_exact_or_said_to_be_lost(
    make_sandbox: Callable[..., Sandbox], home: Path
) -> None:
    rng = random.Random(SEED)
    marks = home / "marks"
    marks.mkdir()
    names = rng.choices(list(FAULTS), list(FAULTS.values()), k=RUNS)
    for place in range(19, RUNS, 100):
        names[place] = "long stall"
    runs = [Run(n, fault, random.Random(f"{SEED}.{n}"), marks) for n, fault in enumerate(names)]
    sandbox = make_sandbox(1, options={"MaxStartups": "500:30:1000", "MaxSessions": "50"})
    with bench(sandbox, home) as made:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            wrong = [text for text in pool.map(lambda run: check(made, run), runs) if text]
        assert not wrong, f"seed {SEED}:\n" + "\n".join(wrong)
        base = made.home / ".gridops"
        wait_until(lambda: not list(base.glob("jobs/*/p.*")), 20)
        wait_until(lambda: not pids_with_environment("GRIDOPS_RUN_ID="), 20)
        left = [path for path in base.glob("locks/*/leases/*") if not _ended(base, path)]
        assert left == []
        assert not list(base.glob("locks/*/queue/*"))


def _ended(base: Path, lease: Path) -> bool:
    return (base / "jobs" / lease.name.rpartition(".")[2] / "exit").is_symlink()
