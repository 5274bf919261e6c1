"""What is measured: each workload gives a Result, and the figures it is held to."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import durable, health
from bench.common import INV, Claim, Measured, close_pool, inv, open_pool
from bench.measure import Contender, compare
from gridops.sandbox import Sandbox

FILES = 10_000


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


def sync(work: Path, rounds: int) -> list[Measured]:
    """A sync that finds nothing to do, against bare rsync over the same socket."""
    tree = work / "tree"
    for number in range(FILES):
        path = tree / f"d{number % 100}" / f"f{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n" * 20)
    subprocess.run(["git", "init", "-q", str(tree)], check=True)
    with Sandbox.up(work / "one", 1) as sandbox:
        words = inv("sync", "--src", str(tree), "--inventory", str(sandbox.inventory))
        subprocess.run(words, check=True, capture_output=True)
        shell = " ".join(open_pool(sandbox)[:-1])
        bare = ["rsync", "-a", "--exclude=.git", "-e", shell, f"{tree}/", "node1:gridops/tree/"]
        result = compare(
            f"sync of {FILES} files, none changed, over an open connection",
            [Contender("rsync -a", bare), Contender("inv sync", words)],
            rounds,
        )
        close_pool(sandbox.inventory)
    above = result.median("inv sync") - result.median("rsync -a")
    return [(result, [Claim("inv sync above rsync", above, 0.4, "s")])]


def all_workloads(nodes: int, rounds: int) -> dict[str, Callable[[Path], Sequence[Measured]]]:
    return {
        "start": lambda work: start_up(work, rounds),
        "health": lambda work: health.health(work, nodes, rounds),
        "few": lambda work: health.few(work, rounds),
        "sync": lambda work: sync(work, rounds),
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
