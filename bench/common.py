"""What the workloads share."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Result
from gridops.inventory import load
from gridops.reach.endpoint import Endpoint
from gridops.reach.masters import socket_path
from gridops.sandbox import Sandbox

HERE = Path(__file__).resolve().parent
PEERS = HERE.parent / ".venv-bench" / "bin"
INV = str(Path(sys.executable).with_name("inv"))


@dataclass(frozen=True)
class Claim:
    """A figure, and the limit it is held to (None: it is only told)."""

    text: str
    value: float
    limit: float | None
    unit: str = "x"
    at_least: bool = False  # else at most

    @property
    def holds(self) -> bool:
        if self.limit is None:
            return True
        return self.value >= self.limit if self.at_least else self.value <= self.limit


Measured = tuple[Result, list[Claim]]


def inv(*words: str) -> list[str]:
    return [INV, "--search-root", str(HERE.parent), *words]


def open_pool(sandbox: Sandbox) -> list[str]:
    """Open the shared connections; returns plain ssh's words for its own use of the first one."""
    where = ("--inventory", str(sandbox.inventory))
    subprocess.run(inv("pool.open", *where), check=True, capture_output=True)
    inventory = load(sandbox.inventory)
    socket = socket_path(Endpoint.of(inventory.nodes[0], inventory.settings.ssh))
    return ["ssh", "-F", str(sandbox.ssh_config), "-S", socket, inventory.nodes[0].name]


def close_pool(inventory: Path) -> None:
    done = subprocess.run(
        inv("pool.close", "--inventory", str(inventory)), capture_output=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace"))
