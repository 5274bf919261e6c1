"""What is measured: each workload gives a Result, and the figures it is held to."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import durable, health, one, syncing
from bench.common import INV, Claim, Measured, inv
from bench.measure import Contender, compare


def start_up(work: Path, rounds: int) -> list[Measured]:
    """`inv --list` against a bare collection with as many empty tasks."""
    listing = subprocess.run(
        inv("--list", "--list-format", "flat"), capture_output=True, check=True
    )
    count = sum(
        line.startswith(b"  ") and line[2:3].isalpha() for line in listing.stdout.splitlines()
    )
    bare = work / "bare"
    bare.mkdir()
    tasks = "".join(f"@task\ndef t{i}(c):\n    '''A task.'''\n\n" for i in range(count))
    (bare / "tasks.py").write_text(f"from invoke import task\n\n{tasks}")
    result = compare(
        f"inv --list, {count} tasks",
        [
            Contender("bare invoke", [INV, "--search-root", str(bare), "--list"]),
            Contender("gridops", inv("--list")),
        ],
        rounds * 3,
    )
    return [(result, [Claim("gridops / bare", result.ratio("gridops", ["bare invoke"]), 1.3)])]


def all_workloads(nodes: int, rounds: int) -> dict[str, Callable[[Path], Sequence[Measured]]]:
    return {
        "start": lambda work: start_up(work, rounds),
        "health": lambda work: health.health(work, nodes, rounds),
        "few": lambda work: health.few(work, rounds),
        "thousand": health.thousand,
        "defaults": lambda work: health.defaults(work, nodes, rounds),
        "far": lambda work: health.far(work, nodes, rounds),
        "one": lambda work: one.one_command(work, rounds),
        "sync": lambda work: syncing.unchanged(work, rounds),
        "changes": lambda work: syncing.changing(work),
        "run": lambda work: durable.run(work, rounds),
        "follow": lambda work: durable.following(work, rounds),
        "lag": lambda work: durable.lag(work, rounds),
    }


def run_in_scratch(workload: Callable[[Path], Sequence[Measured]]) -> Sequence[Measured]:
    """Run it in a directory of its own, with a short path: sockets go there."""
    work = Path(tempfile.mkdtemp(prefix="gb-", dir="/tmp"))
    try:
        return workload(work)
    finally:
        shutil.rmtree(work, ignore_errors=True)
