"""Measure this build beside an earlier one: `python -m bench.against REVISION [--rounds N]`.

Both are installed alike and run in turn, each on nodes of its own where it leaves records there.
Exit status 1 when a ratio is above LIMIT.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.common import HERE, Claim, Measured
from bench.many import Many, many
from bench.measure import Contender, compare
from bench.syncing import FILES, make_tree
from bench.workloads import run_in_scratch
from gridops.sandbox import Sandbox

LIMIT = 1.03
INSTALL_TIMEOUT = 600.0  # seconds


@dataclass(frozen=True)
class Build:
    """An installed checkout."""

    name: str
    checkout: Path

    def inv(self, *words: str) -> list[str]:
        """The command line of its `inv`."""
        program = str(self.checkout / ".venv" / "bin" / "inv")
        return [program, "--search-root", str(self.checkout), *words]

    def call(self, *words: str) -> None:
        """Have its `inv` do something that is not measured. Raises CalledProcessError."""
        subprocess.run(self.inv(*words), check=True, capture_output=True)


def install(revision: str, work: Path) -> Build:
    """The build of `revision`, cloned below `work`. Raises CalledProcessError."""
    checkout = work / "earlier"
    for command in (
        ["git", "clone", "-q", "--no-checkout", str(HERE.parent), str(checkout)],
        ["git", "-C", str(checkout), "checkout", "-q", revision],
        [str(checkout / ".ci" / "setup"), "run", sys.executable],
    ):
        subprocess.run(command, check=True, timeout=INSTALL_TIMEOUT)
    return Build(revision, checkout)


def health(builds: tuple[Build, Build], work: Path, nodes: int, rounds: int) -> Iterator[Measured]:
    """The probe of many nodes, over connections that are open and over new ones."""
    with many(work, nodes) as there:
        for build in builds:
            build.call("pool.open", "--inventory", str(there.inventory))
        yield measure(f"health of {nodes} nodes, warm", builds, rounds * 3, _health(there))
        yield measure(
            f"health of {nodes} nodes, cold",
            builds,
            rounds,
            _health(there),
            lambda one: one.call("pool.close", "--inventory", str(there.inventory)),
        )
        for build in builds:
            build.call("pool.close", "--inventory", str(there.inventory))


def _health(there: Many) -> Callable[[Build], list[str]]:
    words = ("health", "--lenient", "--inventory", str(there.inventory), "--format", "json")
    return lambda build: build.inv(*words)


def one_node(builds: tuple[Build, Build], work: Path, rounds: int) -> Iterator[Measured]:
    """A run of nothing, and a sync that finds nothing to do: each build on a node of its own."""
    with Sandbox.up(work / "s", len(builds)) as sandbox:
        nodes = dict(zip(builds, (node.name for node in sandbox.nodes), strict=True))

        def words(build: Build, *task: str) -> list[str]:
            return [*task, "--inventory", str(sandbox.inventory), "--nodes", nodes[build]]

        def run(build: Build) -> list[str]:
            return build.inv(*words(build, "run", "--no-sync", "--cmd", "true"))

        yield measure("inv run --no-sync --cmd true", builds, rounds * 4, run)
        trees = {build: make_tree(work / f"tree{at}") for at, build in enumerate(builds)}

        def sync(build: Build) -> list[str]:
            return build.inv(*words(build, "sync", "--src", str(trees[build])))

        for build in builds:
            subprocess.run(sync(build), check=True, capture_output=True)
        yield measure(f"sync of {FILES} files, none changed", builds, rounds * 3, sync)
        for build in builds:
            build.call("pool.close", "--inventory", str(sandbox.inventory))


def measure(
    title: str,
    builds: tuple[Build, Build],
    rounds: int,
    words: Callable[[Build], list[str]],
    before: Callable[[Build], None] = lambda build: None,
) -> Measured:
    """Both builds in turn at one workload; `before` is not measured."""
    earlier, now = builds
    contenders = [
        Contender(one.name, words(one), before=lambda one=one: before(one))  # type: ignore[misc]
        for one in builds
    ]
    result = compare(title, contenders, rounds)
    ratio = result.ratio(now.name, [earlier.name])
    return result, [Claim(f"{now.name} / {earlier.name}", ratio, LIMIT)]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.against")
    parser.add_argument("revision")
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=("health", "one"), help="half of it")
    options = parser.parse_args()

    def everything(work: Path) -> list[Measured]:
        builds = (install(options.revision, work), Build("now", HERE.parent))
        measured: list[Measured] = []
        if options.only != "one":
            measured += _told(health(builds, work, options.nodes, options.rounds))
        if options.only != "health":
            measured += _told(one_node(builds, work, options.rounds))
        return measured

    claims = [claim for _, claims in run_in_scratch(everything) for claim in claims]
    return 0 if all(claim.holds for claim in claims) else 1


def _told(measured: Iterator[Measured]) -> Iterator[Measured]:
    for result, claims in measured:
        medians = ", ".join(f"{name} {result.median(name):.3f} s" for name in result.samples)
        verdict = "; ".join(f"{c.text} {c.value:.3f} (at most {c.limit:g})" for c in claims)
        print(f"{result.title}: {medians}; {verdict}", flush=True)
        yield result, claims


if __name__ == "__main__":
    sys.exit(main())
