"""`python -m bench.ray_cluster WHEELS [ROUNDS]`: cluster.start beside bare `ray start`, as root.

Three machines of tests/support/namespaces.py; WHEELS is a directory of Ray's wheels (`pip download
"ray[default]==2.60.0"`). In each round a bare cluster is started by hand, the head and then one
worker after the other, ended, and then started and ended by gridops; medians over the rounds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.namespaces import Machine, Machines, machines

from bench.common import HERE, Claim, inv
from bench.workloads import run_in_scratch

RAY = "2.60.0"


def seconds(command: list[str], env: dict[str, str] | None = None) -> float:
    began = time.monotonic()
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, check=False
    )
    took = time.monotonic() - began
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stdout[-500:]}{done.stderr[-500:]}")
    return took


class Bench:
    def __init__(self, made: Machines, wheels: Path) -> None:
        self.made = made
        self.wheels = wheels
        ray = {"version": RAY, "python": str(Path(sys.base_prefix) / "bin/python3")}
        self.inventory = made.inventory(made.root / "nodes.yaml", ray)
        home = made.root / "home"
        home.mkdir()
        runtime = made.root / "r"
        runtime.mkdir(mode=0o700)
        self.env = {
            **os.environ,
            "HOME": str(home),
            "GRIDOPS_INVENTORY": str(self.inventory),
            "GRIDOPS_RUNTIME_DIR": str(runtime),
        }

    def grid(self, *words: str) -> float:
        return seconds(inv(*words), self.env)

    def ray(self, node: Machine, *words: str) -> float:
        (bin,) = node.home.glob("gridops/.ray/2*/bin")
        env = {"PATH": f"{bin}:{os.environ['PATH']}", "RAY_USAGE_STATS_ENABLED": "0"}
        common = ["--num-cpus=1", f"--node-ip-address={node.address}", "--temp-dir=/tmp/bare"]
        return seconds(node.inside(str(bin / "ray"), "start", *common, *words, env=env))

    def bare(self) -> tuple[float, float]:
        """Seconds of the head, and of the slowest worker."""
        head, *workers = self.made.nodes.values()
        first = self.ray(head, "--head", "--port=6379", "--dashboard-host=127.0.0.1")
        rest = [self.ray(one, f"--address={head.address}:6379") for one in workers]
        for one in (head, *workers):
            rays = [pid for pid, line in one.processes("/tmp/bare").items() if "sshd" not in line]
            rays += one.processes("ray/")
            one.run("kill", "-9", *map(str, {*rays}))
            one.run("rm", "-rf", "/tmp/bare")
        return first, max(rest)


def measure(work: Path, wheels: Path, rounds: int) -> list[Claim]:
    with machines(work / "m") as made:
        bench = Bench(made, wheels)
        bench.grid("cluster.install", "--wheelhouse", str(wheels))
        again = statistics.median(bench.grid("cluster.install") for _ in range(3))
        bench.bare()  # for practice: Python compiles what it imports
        figures = []
        for _ in range(rounds):
            head, worker = bench.bare()
            start = bench.grid("cluster.start")
            status = min(bench.grid("cluster.status") for _ in range(3))
            stop = bench.grid("cluster.stop")
            figures.append((head, worker, start, status, stop))
            print(f"bare head {head:.2f} s, slowest bare worker {worker:.2f} s; cluster.start"
                  f" {start:.2f} s, cluster.status {status:.2f} s, cluster.stop {stop:.2f} s",
                  flush=True)  # fmt: skip
        bench.grid("pool.close")
    ratio = statistics.median(start / (head + worker) for head, worker, start, _, _ in figures)
    return [
        Claim("cluster.start of 3 nodes / bare head and slowest bare worker", ratio, 1.3),
        Claim("the second cluster.install", again, 3.0, "s"),
        Claim("cluster.status, warm", statistics.median(f[3] for f in figures), 2.0, "s"),
    ]


def main() -> int:
    wheels, rounds = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    claims: list[Claim] = []

    def work(place: Path) -> list[tuple[object, list[Claim]]]:
        claims.extend(measure(place, wheels, rounds))
        return []

    run_in_scratch(work)  # type: ignore[arg-type]
    lines = [f"# Ray, {RAY}: {os.cpu_count()} cores for all three nodes, {rounds} rounds", ""]
    for claim in claims:
        verdict = "holds" if claim.holds else "MISSED"
        lines.append(
            f"- {claim.text}: {claim.value:.2f} {claim.unit} (at most {claim.limit:g}): {verdict}"
        )
    print("\n".join(lines))
    (HERE / "RAY.md").write_text("\n".join([*lines, ""]))
    return 0 if all(claim.holds for claim in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
