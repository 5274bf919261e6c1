"""What is measured: each workload gives a Result, and the figures it is held to."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import durable
from bench.common import HERE, INV, Claim, Measured, close_pool, inv, open_pool
from bench.measure import Contender, compare
from gridops.probe.checker import GPU_LIMIT, WINDOW, probe_script
from gridops.sandbox import Sandbox, Setup

PEERS = HERE.parent / ".venv-bench" / "bin"
# The same key exchange for every tool; some know it by its first name only.
KEX = {"KexAlgorithms": "curve25519-sha256,curve25519-sha256@libssh.org"}
FILES = 10_000


def health(work: Path, nodes: int, rounds: int) -> list[Measured]:
    """The health probe of many nodes: every tool runs the very same script on them."""
    # sshd starts the account's login shell once; a second one, the sandbox's own, is not to count.
    plain = {"shared": Setup(shell="/bin/sh")}
    with Sandbox.up(work / "many", nodes, shared=True, options=KEX, setup=plain) as sandbox:
        script = work / "probe.sh"
        script.write_text(probe_script())
        command = f"sh {script} '~/gridops' {WINDOW:g} {GPU_LIMIT:g}"
        hosts = ",".join(node.host for node in sandbox.nodes)
        port, key = str(sandbox.nodes[0].port), str(sandbox.root / "client_key")
        known = work / "known_hosts"  # a line a host: Paramiko knows no wildcards with a port
        host_key = " ".join((sandbox.root / "known_hosts").read_text().split()[1:3])
        known.write_text("".join(f"[{n.host}]:{port} {host_key}\n" for n in sandbox.nodes))
        words = ("health", "--lenient", "--inventory", str(sandbox.inventory), "--format", "json")
        peers = [
            Contender(
                "parallel-ssh",
                [str(PEERS / "python"), str(HERE / "peers/pssh_probe.py"),
                 hosts, port, key, command],
            ),
            Contender(
                "pyinfra",
                [str(PEERS / "pyinfra"), "-y", "--parallel", "100",
                 str(HERE / "peers/pyinfra_inventory.py"), "exec", "--", command],
                env={
                    "BENCH_HOSTS": hosts, "BENCH_PORT": port, "BENCH_KEY": key,
                    "BENCH_KNOWN_HOSTS": str(known),
                },
            ),
        ]  # fmt: skip
        cold = Contender("gridops, cold", inv(*words), before=lambda: close_pool(sandbox.inventory))
        result = compare(
            f"health of {nodes} nodes, whole process, curve25519-sha256 for all",
            [*peers, cold, Contender("gridops, warm", inv(*words))],
            rounds,
        )
        close_pool(sandbox.inventory)
    names = [peer.name for peer in peers]
    claims = [
        Claim("cold / the faster peer", result.ratio("gridops, cold", names), 1.15),
        Claim("warm / the faster peer", result.ratio("gridops, warm", names), 0.35),
    ]
    return [(result, claims)]


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
    return [(result, [Claim("gridops / bare", result.ratio("gridops", ["bare invoke"]), 1.5)])]


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
        "health": lambda work: health(work, nodes, rounds),
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
