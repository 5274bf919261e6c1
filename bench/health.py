"""The health probe of many nodes: every tool runs the very same script on them."""

from __future__ import annotations

from pathlib import Path

from bench.common import HERE, PEERS, Claim, Measured, close_pool, inv
from bench.many import Many, many
from bench.measure import Contender, compare
from gridops.probe.checker import GPU_LIMIT, WINDOW, probe_script

AT_ONCE = 100  # of the peers; their defaults are far lower


def health(work: Path, nodes: int, rounds: int) -> list[Measured]:
    with many(work, nodes) as nodes_:
        peers = contenders(work, nodes_)
        ours = own(nodes_)
        title = f"health of {nodes} nodes, whole process, curve25519-sha256 for all"
        result = compare(title, [*peers, *ours], rounds)
        close_pool(nodes_.inventory)
    names = [peer.name for peer in peers]
    claims = [
        Claim("cold / the fastest peer", result.ratio("gridops, cold", names), 1.0),
        Claim("warm / the fastest peer", result.ratio("gridops, warm", names), 0.25),
    ]
    return [(result, claims)]


def few(work: Path, rounds: int) -> list[Measured]:
    """What somebody waits for who looks at ten machines."""
    with many(work, 10) as nodes:
        result = compare("health of 10 nodes, whole process", own(nodes), rounds)
        close_pool(nodes.inventory)
    return [(result, [Claim("warm", result.median("gridops, warm"), 0.5, "s")])]


def own(nodes: Many) -> list[Contender]:
    words = ("health", "--lenient", "--inventory", str(nodes.inventory), "--format", "json")
    return [
        Contender("gridops, cold", inv(*words), before=lambda: close_pool(nodes.inventory)),
        Contender("gridops, warm", inv(*words)),
    ]


def contenders(work: Path, nodes: Many) -> list[Contender]:
    """The peers, each with what it needs to reach the nodes."""
    script = work / "probe.sh"
    script.write_text(probe_script())
    command = f"sh {script} '~/gridops' {WINDOW:g} {GPU_LIMIT:g}"
    hosts, port, key = ",".join(nodes.hosts), str(nodes.port), str(nodes.key)
    return [
        Contender(
            "parallel-ssh",
            [str(PEERS / "python"), str(HERE / "peers/pssh_probe.py"), hosts, port, key, command],
        ),
        Contender(
            "pyinfra",
            [str(PEERS / "pyinfra"), "-y", "--parallel", str(AT_ONCE),
             str(HERE / "peers/pyinfra_inventory.py"), "exec", "--", command],
            env={
                "BENCH_HOSTS": hosts, "BENCH_PORT": port, "BENCH_KEY": key,
                "BENCH_KNOWN_HOSTS": str(nodes.known_hosts),
            },
        ),
    ]  # fmt: skip
