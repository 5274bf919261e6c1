"""Start of Ray on one node: the shell script for `ray start`, and the calls that run it there."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gridops.jobs.spec import guard_by_setup
from gridops.model import Node, RayRole
from gridops.observe import events
from gridops.ray.model import Cluster, Look
from gridops.ray.paths import node_token_file
from gridops.ray.state import ask_node

if TYPE_CHECKING:
    from gridops.inventory.settings import RaySettings

START_GRACE = 15.0  # seconds beyond Ray's own limit in which the node must have said how it went
RAYS_OWN = range(10002, 20000)  # where Ray lets its workers listen, unless told otherwise
# What would make `ray start` another one than ours, and what ties it to a run that starts it.
UNSET = (
    "GRIDOPS_RUN_ID",
    "RAY_ADDRESS",
    "RAY_AUTH_TOKEN",
    "RAY_RUNTIME_ENV_HOOK",
    "RAY_START_HOOK",
    "RAY_REDIS_ADDRESS",
)
# What bin/ray does, once the file that is the first argument is there; the second: seconds to wait.
# "" is the working directory, where somebody may have a file ray.py.
HELD = """
import os, sys, time
sys.path.remove("")
from ray.scripts.scripts import main
_, go, seconds, *words = sys.argv
end = time.monotonic() + float(seconds)
while not os.path.exists(go):
    if time.monotonic() > end:
        sys.exit("Error: the head did not start")
    time.sleep(0.02)
sys.argv = ["ray", *words]
sys.exit(main())
"""


def new_id() -> str:
    """Make an id for a start: the cluster's, or of one node's part in it."""
    return secrets.token_hex(6)


@dataclass(frozen=True, slots=True)
class Launch:
    """One node's part in the cluster `id`, about to be started."""

    cluster: Cluster
    node: Node
    look: Look
    role: RayRole
    id: str
    address: str  # this node's, as the others see it
    head: str  # the head's
    launch: str = field(default_factory=new_id)  # this start of it: the tag of its processes

    def start(self, token: str, limit: float) -> None:
        """Start Ray and wait until it is up, `limit` seconds at most.

        One that runs already is left as it is. Raises ClusterError, NodeTimeout, or a ReachError.
        """
        self._ask_for(token, limit, self._script())
        self._tell()

    def prepare(self, token: str, limit: float) -> None:
        """Start a process that has Ray loaded and waits for `go`.

        It waits `limit` seconds at most. What takes Python a second is done while the head starts.
        Raises what `start` raises.
        """
        self._ask_for(token, limit, self._script(f'"${{0%/*}}/go" {limit:.0f}'), hold="yes")

    def go(self, limit: float) -> None:
        """Let the prepared process start Ray, and wait until it is up."""
        ask_node(
            self.cluster, self.node, "go", self.launch, f"{limit:.0f}", timeout=limit + START_GRACE
        )
        self._tell()

    def _ask_for(self, token: str, limit: float, body: str, hold: str = "") -> None:
        ask_node(
            self.cluster, self.node, "start",
            self.role, self.launch, self._temp, f"{limit:.0f}", hold, *self._facts(),
            timeout=limit + START_GRACE,
            stdin=f"{token}\n{body}".encode(),
        )  # fmt: skip

    def _tell(self) -> None:
        role, address = self.role, self.address
        events.emit(
            events.CLUSTER_STEP, node=self.node.name, step="started", role=role, address=address
        )

    @property
    def _temp(self) -> str:
        """The directory of Ray's files there.

        The same on all nodes: a worker's sockets are where the head's are.
        """
        return f"{self.look.temp.rstrip('/')}/gridops-ray-{self.id}"

    def _facts(self) -> Iterator[str]:
        settings = self.cluster.settings
        yield f"id {self.id}"
        yield f"address {self.address}"
        yield f"head {self.head}"
        yield f"port {settings.port}"
        yield f"dashboard {settings.dashboard_port}"
        yield f"ray {self.look.ray}"
        yield f"python {self.look.python_version}"
        yield f"venv {self.look.venv}"

    def _script(self, held: str = "") -> str:
        """The body of start.sh, which ends as `ray start`.

        With `held` (shell words) it does so when HELD lets it.
        """
        venv = self.look.venv
        exports = {
            "GRIDOPS_RAY": self.launch,
            "RAY_AUTH_MODE": "token",
            # Every process gets its TERM at once; the head would drain itself for ever after.
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "VIRTUAL_ENV": venv,
        }
        lines = [f"unset {' '.join(UNSET)}"]
        lines.append(guard_by_setup(self.node.env_setup))
        lines += [f"export {shlex.quote(f'{name}={value}')}" for name, value in exports.items()]
        lines.append(f'export "RAY_AUTH_TOKEN_PATH={node_token_file(self.cluster.key)}"')
        lines.append(f'export "TMPDIR=${{TMPDIR:-{self._temp}/tmp}}"')
        # A job's `python` is the one that `ray start` finds first.
        lines.append(f'export PATH={shlex.quote(f"{venv}/bin")}:"$PATH"')
        python, ray = f"{venv}/bin/python", f"{venv}/bin/ray"
        program = f"{shlex.join(['-c', HELD])} {held}" if held else shlex.quote(ray)
        command = (
            f"exec {shlex.quote(python)} {program} {shlex.join(['start', *self._arguments()])}"
        )
        return "\n".join([*lines, command, ""])

    def _arguments(self) -> list[str]:
        settings = self.cluster.settings
        words = ["--block", "--log-style=record", "--log-color=false", "--disable-usage-stats"]
        if self.role == "head":
            words += [
                "--head",
                f"--port={settings.port}",
                "--include-dashboard=true",
                "--dashboard-host=127.0.0.1",
                f"--dashboard-port={settings.dashboard_port}",
                f"--ray-client-server-port={settings.client_port}",
            ]
        else:
            words.append(f"--address={self.head}:{settings.port}")
        words += [
            f"--node-ip-address={self.address}",
            f"--node-name={self.node.name}",
            f"--temp-dir={self._temp}/ray",  # Ray opens it to everybody; what is above stays closed
        ]
        return [*words, *_ports(settings), *_resources(self.node)]


def _ports(settings: RaySettings) -> list[str]:
    if settings.ports is None:
        own = {settings.port, settings.dashboard_port, settings.client_port}
        anywhere = ["--min-worker-port=0", "--max-worker-port=0"] if own & set(RAYS_OWN) else []
        return ["--dashboard-agent-listen-port=0", *anywhere]
    first, last = (int(port) for port in settings.ports.split("-"))
    names = (
        "node-manager-port",
        "object-manager-port",
        "runtime-env-agent-port",
        "dashboard-agent-listen-port",
        "dashboard-agent-grpc-port",
        "metrics-export-port",
        "min-worker-port",
    )
    fixed = [f"--{name}={first + at}" for at, name in enumerate(names)]
    return [*fixed, f"--max-worker-port={last}"]


def _resources(node: Node) -> list[str]:
    """Options for the node's resources in the inventory; Ray detects the rest itself."""
    wanted = node.ray
    words = [
        f"--{name.replace('_', '-')}={wanted[name]}"
        for name in ("num_cpus", "num_gpus")
        if wanted.get(name) is not None
    ]
    labels = wanted.get("labels")
    if isinstance(labels, dict) and labels:
        words.append("--labels=" + ",".join(f"{name}={value}" for name, value in labels.items()))
    return words
