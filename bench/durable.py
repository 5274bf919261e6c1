"""Durable runs: what one costs, how fast its output comes home, and how soon."""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.common import Claim, Measured, close_pool, inv, open_pool
from bench.measure import Contender, Result, Sample, compare
from gridops.inventory import load
from gridops.jobs import client
from gridops.jobs.attach import Attachment
from gridops.jobs.foreground import ForegroundCommand
from gridops.jobs.spec import JobSpec, new_id
from gridops.model import RunSpec
from gridops.reach import link_to
from gridops.reach.link import Link
from gridops.sandbox import Sandbox
from gridops.system.signals import Cancel

FOLLOWED_MB = 300
LINES = 12  # a round
PAUSES = "0.03 0.4 1.2"  # seconds between lines: a follower looks more rarely while nothing comes


# -- what a run costs ------------------------------------------------------------------------------


def run(work: Path, rounds: int) -> list[Measured]:
    """A whole `inv run` of nothing, and what durability adds to it."""
    return [_whole(work, rounds * 3), _durability(work, rounds * 5)]


def _whole(work: Path, rounds: int) -> Measured:
    bare = work / "bare"
    bare.mkdir()
    (bare / "tasks.py").write_text(
        "from invoke import task\n\n@task\ndef t(c):\n    '''Do it.'''\n"
    )
    with Sandbox.up(work / "one", 1) as sandbox:
        ssh = open_pool(sandbox)
        words = ("run", "--no-sync", "--cmd", "true", "--inventory", str(sandbox.inventory))
        result = compare(
            "inv run --no-sync --cmd true over an open connection, whole process",
            [
                Contender("ssh node true", [*ssh, "true"]),
                Contender("python -c pass", [sys.executable, "-c", "pass"]),
                Contender("bare invoke task", [inv()[0], "--search-root", str(bare), "t"]),
                Contender("inv run", inv(*words)),
            ],
            rounds,
        )
        close_pool(sandbox.inventory)
    start_up = result.over_sum("inv run", ["ssh node true", "bare invoke task"])
    python = result.over_sum("inv run", ["ssh node true", "python -c pass"])
    claims = [
        Claim("inv run", result.median("inv run"), 1.0, "s"),
        Claim("inv run / (ssh node true + a bare invoke task)", start_up, 5.0),
        Claim("inv run / (ssh node true + python -c pass)", python, None),
    ]
    return result, claims


def _durability(work: Path, rounds: int) -> Measured:
    """The same command over the same connection, in one process: with and without durability."""
    with Sandbox.up(work / "two", 1) as sandbox:
        open_pool(sandbox)
        inventory = load(sandbox.inventory)
        link = link_to(inventory.nodes[0], inventory.settings.ssh)
        ways = {"plain channel": lambda: _plain(link), "durable": lambda: _durable(link)}
        result = in_process("one command, within one process", ways, rounds)
        close_pool(sandbox.inventory)
    above = result.above("durable", "plain channel")
    return result, [Claim("durable above the plain channel", above, 0.06, "s")]


def _plain(link: Link) -> None:
    spec = RunSpec(command="true", src=".", sync=False)
    ForegroundCommand(link, spec, run_id=new_id(), timeout=20).follow(_drop, _drop, Cancel())


def _durable(link: Link) -> None:
    spec = JobSpec(command="true")
    with Attachment(link, spec.id, Cancel()) as attached:
        attached.start(spec)
        attached.follow(_drop, _drop)


def in_process(title: str, ways: dict[str, Callable[[], None]], rounds: int) -> Result:
    samples: dict[str, list[Sample]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            began, cpu = time.perf_counter(), time.process_time()
            way()
            spent = time.perf_counter() - began, time.process_time() - cpu
            if number:
                samples[name].append(Sample(*spent, _peak()))
    return Result(title, samples)


# -- how fast --------------------------------------------------------------------------------------


def following(work: Path, rounds: int) -> list[Measured]:
    """A large output, as it is printed and afterwards, against `ssh node cat`."""
    data = work / "data"
    with data.open("wb") as file:
        for _ in range(FOLLOWED_MB):
            file.write(b"0123456789abcdef" * 62_500)
    with Sandbox.up(work / "one", 1) as sandbox:
        ssh = open_pool(sandbox)
        where = ("--inventory", str(sandbox.inventory))
        run = ("run", "--no-sync", *where, "--cmd")
        result = compare(
            f"{FOLLOWED_MB} MB of output",
            [
                Contender("ssh node cat", [*ssh, f"cat {data}"]),
                Contender("inv run of nothing", inv(*run, "true"), before=lambda: _prune(sandbox)),
                Contender("inv run", inv(*run, f"cat {data}")),
                Contender("inv jobs.logs --follow", inv("jobs.logs", "@last", "--follow", *where)),
            ],
            rounds,
        )
        close_pool(sandbox.inventory)
    alone = ["ssh node cat"]
    logs = result.ratio("inv jobs.logs --follow", alone)
    beyond = result.ratio("inv run", alone, beyond="inv run of nothing")
    peak = max(result.peak(name) for name in ("inv run", "inv jobs.logs --follow"))
    claims = [
        Claim("inv jobs.logs --follow, start-up and all, against ssh", logs, 2.0),
        Claim("inv run beyond one of nothing, against ssh", beyond, 2.0),
        Claim("inv run, start-up and all, against ssh", result.ratio("inv run", alone), None),
        Claim("largest memory", peak, 150, "MiB"),
    ]
    return [(result, claims)]


def _prune(sandbox: Sandbox) -> None:
    """Forget the output of the last round: a disk that fills up slows the later ones down."""
    inventory = load(sandbox.inventory)
    client.prune(link_to(inventory.nodes[0], inventory.settings.ssh), 0)


# -- how soon --------------------------------------------------------------------------------------


def lag(work: Path, rounds: int) -> list[Measured]:
    """From the moment at which a line is written on the node until it is read at home.

    The nodes are on this machine: both moments are of one clock.
    """
    pauses = f"for p in {PAUSES}; do i=0; while [ $i -lt {LINES // 3} ]; do"
    command = f"{pauses} sleep $p; date +%s%N; i=$((i+1)); done; done"
    with Sandbox.up(work / "one", 1) as sandbox:
        ssh = open_pool(sandbox)
        where = ("--inventory", str(sandbox.inventory))
        ways = {
            "ssh node": [*ssh, command],
            "inv run": inv("run", "--no-sync", "--cmd", command, *where),
        }
        samples: dict[str, list[Sample]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, words in ways.items():
                samples[name] += [Sample(late, 0.0, 0.0) for late in _lags(words)]
        close_pool(sandbox.inventory)
    result = Result(f"lag of a line, {LINES * rounds} lines, pauses of {PAUSES} s", samples)
    return [
        (
            result,
            [
                Claim("inv run, median", result.median("inv run"), 0.15, "s"),
                Claim("inv run, 9 of 10", result.percentile("inv run", 90), 0.15, "s"),
            ],
        )
    ]


def _lags(words: list[str]) -> list[float]:
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as child:
        if child.stdout is None:
            raise RuntimeError("no output to read")
        return [time.time() - int(line) / 1e9 for line in child.stdout]


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _drop(data: bytes) -> None:
    pass
