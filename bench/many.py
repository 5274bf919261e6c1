"""Many nodes: one sshd on every loopback address, and what each tool needs to reach them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.delay import delayed
from gridops.sandbox import Sandbox, Setup
from gridops.sandbox.server import free_port

# The same key exchange for every tool; some know it by its first name only.
KEX = {"KexAlgorithms": "curve25519-sha256,curve25519-sha256@libssh.org"}


@dataclass(frozen=True)
class Many:
    """Nodes by address, for gridops (an inventory) and for others (addresses, port, key)."""

    inventory: Path
    hosts: tuple[str, ...]
    port: int
    key: Path
    config: Path  # of ssh
    known_hosts: Path  # a line a host: Paramiko knows no wildcards with a port
    listener: int  # the pid of their sshd


@contextmanager
def many(
    work: Path, nodes: int, *, round_trip: float = 0.0, options: Mapping[str, str] = KEX
) -> Iterator[Many]:
    """`nodes` nodes, `round_trip` seconds away, until the block ends."""
    with ExitStack() as stack:
        # Sessions as any node has them; what the sandbox puts in between is not to count.
        bare = {"shared": Setup(bare=True)}
        sandbox = stack.enter_context(
            Sandbox.up(work / "many", nodes, shared=True, options=options, setup=bare)
        )
        known = sandbox.nodes
        listener, port = known[0].pid or 0, known[0].port
        if round_trip:
            to, port = port, free_port("0.0.0.0")
            stack.enter_context(delayed(port, to, round_trip / 2))
        yield _described(work, sandbox, tuple(node.host for node in known), port, listener)


def _described(
    work: Path, sandbox: Sandbox, hosts: tuple[str, ...], port: int, listener: int
) -> Many:
    host_key = " ".join((sandbox.root / "known_hosts").read_text().split()[1:3])
    known_hosts = work / "known_hosts"
    known_hosts.write_text("".join(f"[{host}]:{port} {host_key}\n" for host in hosts))
    few = work / "one_known_host"  # for ssh, which would search a thousand lines for every node
    few.write_text(f"[127.*]:{port} {host_key}\n")
    # No block for each node: every ssh would read all of them.
    config = work / "ssh_config"
    own = sandbox.ssh_config.read_text().rpartition("Host *\n")[2]
    config.write_text(f"Host *\n    UserKnownHostsFile {few}\n{own}")
    inventory = work / "inventory.yaml"
    inventory.write_text(
        json.dumps(
            {
                "nodes": {
                    f"node{number}": {"host": host, "port": port}
                    for number, host in enumerate(hosts, 1)
                },
                "ssh": {"config_file": str(config)},
                "health_check": {"max_load_per_core": 1000},  # this machine is busy
            }
        )
    )
    return Many(inventory, hosts, port, sandbox.root / "client_key", config, known_hosts, listener)
