"""The health probe of many nodes: every tool runs the very same script on them."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

from bench.common import Claim, Measured, close_pool, inv
from bench.contenders import AT_ONCE, peers
from bench.many import Many, many
from bench.measure import Contender, Result, compare, run_once
from gridops.probe.checker import GPU_TIMEOUT, SAMPLE_INTERVAL, probe_script

ROUND_TRIP = 0.03  # seconds
SLOW = ("Fabric", "Ansible")  # that would take minutes for a thousand nodes
MASTER = 5.0  # MiB that a shared connection may take


def health(work: Path, nodes: int, rounds: int) -> list[Measured]:
    with many(work, nodes) as nodes_:
        others = peers(work, nodes_, command(work))
        title = f"health of {nodes} nodes, whole process, curve25519-sha256 for all"
        result = compare(title, [*others, *own(nodes_)], rounds)
        close_pool(nodes_.inventory)
    return [(result, claims(result, others))]


def thousand(work: Path) -> list[Measured]:
    """In one round, for each takes minutes; and what a client and its masters take."""
    with many(work, 1000) as nodes:
        others = [one for one in peers(work, nodes, command(work)) if one.name not in SLOW]
        result = compare(
            "health of 1000 nodes, whole process, curve25519-sha256 for all",
            [*others, *own(nodes)],
            1,
        )
        master = share_of_a_master()
        close_pool(nodes.inventory)
    peak = max(result.peak("gridops, cold"), result.peak("gridops, warm"))
    memory = [
        Claim("memory of the client", peak, 250.0, "MiB"),
        Claim("memory of a master (Pss, mean)", master, MASTER, "MiB"),
    ]
    return [(result, [*claims(result, others), *memory, Claim("rounds", 1, None, "")])]


def claims(result: Result, others: Sequence[Contender]) -> list[Claim]:
    names = [peer.name for peer in others]
    return [
        Claim("cold / the fastest peer", result.ratio("gridops, cold", names), 1.0),
        Claim("warm / the fastest peer", result.ratio("gridops, warm", names), 0.25),
    ]


def share_of_a_master() -> float:
    """MiB, counting what several share in parts."""
    sizes = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line, memory = (
                (process / "cmdline").read_bytes(),
                (process / "smaps_rollup").read_text(),
            )
        except OSError:
            continue
        if line.startswith(b"ssh\0") and b"\0ControlMaster=yes\0" in line:
            sizes.append(int(re.findall(r"^Pss: +(\d+)", memory, re.MULTILINE)[0]) / 1024)
    return sum(sizes) / len(sizes) if sizes else float("nan")


def few(work: Path, rounds: int) -> list[Measured]:
    """What somebody waits for who looks at ten machines."""
    with many(work, 10) as nodes:
        others = peers(work, nodes, command(work))
        result = compare("health of 10 nodes, whole process", [*others, *own(nodes)], rounds)
        close_pool(nodes.inventory)
    return [(result, [Claim("warm", result.median("gridops, warm"), 0.5, "s")])]


def defaults(work: Path, nodes: int, rounds: int) -> list[Measured]:
    """Every tool as it comes: its own key exchange, its own number of nodes at once."""
    with many(work, nodes, options={}) as nodes_:
        others = peers(work, nodes_, command(work), at_once=None)
        title = f"health of {nodes} nodes, each tool's own defaults"
        result = compare(title, [*others, *own(nodes_)], rounds)
        close_pool(nodes_.inventory)
    names = [peer.name for peer in others]
    return [
        (result, [Claim("cold / the fastest peer", result.ratio("gridops, cold", names), None)])
    ]


def far(work: Path, nodes: int, rounds: int) -> list[Measured]:
    """Nodes at the other end of a country."""
    with many(work, nodes, round_trip=ROUND_TRIP) as nodes_:
        others = [
            one
            for one in peers(work, nodes_, command(work))
            if one.name not in ("Fabric", "Ansible")
        ]
        title = f"health of {nodes} nodes, {1000 * ROUND_TRIP:g} ms round trip"
        result = compare(title, [*others, *own(nodes_)], rounds)
        serial = nodes_.inventory.with_name("serial.yaml")
        document = json.loads(nodes_.inventory.read_text())
        document["health_check"] |= {"max_workers": 1, "deadline": 600}
        serial.write_text(json.dumps(document))
        one_by_one = run_once(own(nodes_, serial)[0]).seconds
        close_pool(nodes_.inventory)
    warm = result.ratio("gridops, warm", ["gridops, cold"])
    faster = one_by_one / result.median("gridops, cold")
    return [
        (
            result,
            [
                Claim("warm / own cold", warm, 0.3),
                Claim(f"one node at a time ({one_by_one:.1f} s, cold) / all at once",
                      faster, 20.0, at_least=True),
            ],
        )
    ]  # fmt: skip


def own(nodes: Many, inventory: Path | None = None) -> list[Contender]:
    path = inventory or nodes.inventory
    words = ("health", "--lenient", "--inventory", str(path), "--format", "json")
    return [
        Contender("gridops, cold", inv(*words), before=lambda: _close(nodes.inventory)),
        Contender("gridops, warm", inv(*words)),
    ]


def _close(inventory: Path) -> None:
    close_pool(inventory)
    time.sleep(0.2)  # until the node's side of a hundred connections has ended, too


def command(work: Path) -> str:
    """The probe, as other tools can run it: a file that every node has."""
    script = work / "probe.sh"
    script.write_text(probe_script())
    return f"sh {script} '~/gridops' {SAMPLE_INTERVAL:g} {GPU_TIMEOUT:g}"


__all__ = ["AT_ONCE", "defaults", "far", "few", "health", "thousand"]
