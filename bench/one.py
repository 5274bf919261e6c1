"""One command on one node over the open connection, in this process: beside ssh's own."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

from bench.common import Claim, Measured, close_pool, open_pool
from bench.measure import Result, Sample
from gridops.inventory import load
from gridops.reach import link_to
from gridops.sandbox import Sandbox, Setup


def one_command(work: Path, rounds: int) -> list[Measured]:
    with Sandbox.up(work / "one", 1, setup={"node1": Setup(bare=True)}) as sandbox:
        words = [*open_pool(sandbox), "true"]
        inventory = load(sandbox.inventory)
        link = link_to(inventory.nodes[0], inventory.settings.ssh)
        theirs: list[Sample] = []
        own: list[Sample] = []
        for number in range(20 * rounds + 1):
            began = time.perf_counter()
            subprocess.run(words, check=True, stdin=subprocess.DEVNULL)
            between = time.perf_counter()
            if link.script("true", timeout=10).status:
                raise RuntimeError("`true` failed")
            ended = time.perf_counter()
            if number:
                theirs.append(Sample(between - began, 0, 0))
                own.append(Sample(ended - between, 0, 0))
        close_pool(sandbox.inventory)
    samples = {"ssh -S socket node true": theirs, "gridops, in process": own}
    result = Result("one command on one node, over an open connection", samples)
    ratio = result.ratio("gridops, in process", ["ssh -S socket node true"])
    return [(result, [Claim("gridops / ssh", ratio, 1.0)])]
