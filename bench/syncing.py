"""A tree of 10 000 files to one node and to many: `inv sync` beside rsync."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from bench.common import Claim, Measured, close_pool, inv, open_pool
from bench.measure import Contender, Result, Sample, compare, run_once
from gridops.sandbox import Sandbox

FILES = 10_000
MANY = 20


def unchanged(work: Path, rounds: int) -> list[Measured]:
    """A sync that finds nothing to do."""
    tree = make_tree(work)
    with Sandbox.up(work / "one", 1) as sandbox:
        words = ours(tree, sandbox)
        subprocess.run(words, check=True, capture_output=True)
        shell = " ".join(open_pool(sandbox)[:-1])
        bare = ["rsync", "-a", "--exclude=.git", "-e", shell, f"{tree}/", "node1:gridops/tree/"]
        result = compare(
            f"sync of {FILES} files, none changed, over an open connection",
            [Contender("rsync -a", bare), Contender("inv sync", words)],
            rounds,
        )
        scp = [
            "scp",
            "-rq",
            "-o",
            f"ControlPath={shell.split()[-1]}",
            "-F",
            str(sandbox.ssh_config),
        ]
        copied = run_once(Contender("scp -r", [*scp, str(tree), "node1:scp"])).seconds
        close_pool(sandbox.inventory)
    result = Result(result.title, {**result.samples, "scp -r": [Sample(copied, 0, 0)] * rounds})
    beyond = result.median("inv sync") - 1.3 * result.median("rsync -a")
    return [
        (
            result,
            [
                Claim("inv sync beyond 1.3 x rsync", beyond, 0.25, "s"),
                Claim("scp -r / inv sync", copied / result.median("inv sync"), 10.0, at_least=True),
            ],
        )
    ]


def changing(work: Path) -> list[Measured]:
    """The first one, one file in a hundred changed, all touched; to one node and to twenty."""
    return [_changes(work / "1", 1), _changes(work / str(MANY), MANY)]


def _changes(work: Path, nodes: int) -> Measured:
    tree = make_tree(work)
    samples = {}
    with Sandbox.up(work / "s", nodes) as sandbox:
        shell = " ".join(open_pool(sandbox)[:-1])
        names = " ".join(node.name for node in sandbox.nodes)
        # Each over its own connection, as many at once as there are.
        own = f"ssh -F {sandbox.ssh_config}" if nodes > 1 else shell
        rsync = (
            f"for n in {names}; do"
            f" rsync -rlpt --delete --exclude=.git -e '{own}' {tree}/ $n:bare/ & done; wait"
        )
        steps: dict[str, Callable[[], None]] = {
            "first": lambda: None,
            "none changed": lambda: None,
            "1 % changed": lambda: change(tree, FILES // 100),
            "all touched": lambda: touch(tree),
        }
        for name, step in steps.items():
            step()
            samples[f"rsync, {name}"] = [run_once(Contender("rsync", ["sh", "-c", rsync]))]
            samples[f"inv sync, {name}"] = [run_once(Contender("inv sync", ours(tree, sandbox)))]
        close_pool(sandbox.inventory)
    where = "one node" if nodes == 1 else f"{nodes} nodes (rsync with a login each)"
    result = Result(f"sync of {FILES} files to {where}, once each", samples)
    first = result.median("inv sync, none changed")
    return result, [Claim("none changed, a node", first / nodes, None, "s")]


def ours(tree: Path, sandbox: Sandbox) -> list[str]:
    return inv("sync", "--src", str(tree), "--inventory", str(sandbox.inventory))


def make_tree(work: Path) -> Path:
    tree = work / "tree"
    for number in range(FILES):
        path = tree / f"d{number % 100}" / f"f{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n" * 20)
    subprocess.run(["git", "init", "-q", str(tree)], check=True)
    return tree


def change(tree: Path, count: int) -> None:
    for number in range(count):
        (tree / f"d{number % 100}" / f"f{number}.txt").write_text(f"changed {number}\n" * 30)


def touch(tree: Path) -> None:
    now = time.time()
    for number in range(FILES):
        os.utime(tree / f"d{number % 100}" / f"f{number}.txt", (now, now))
