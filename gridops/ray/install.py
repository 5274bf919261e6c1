"""Installation of Ray on the nodes: one version and one Python everywhere, or nothing at all."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gridops.errors import ClusterError, UsageError
from gridops.model import Node, Outcome
from gridops.observe import events
from gridops.ray import paths
from gridops.ray.model import Cluster, Installed, differences
from gridops.ray.pip_output import Pip
from gridops.ray.remote import Told, ask
from gridops.reach.fanout import fan_out
from gridops.transfers.errors import RsyncErrors, TransferTarget, error_of
from gridops.transfers.program import RsyncCall, rsync_program, run

FIND_TIMEOUT = 60.0  # seconds until a node must have said what it has
DISK_ROOM = 2 << 20  # KiB of disk that the environment and the way to it may take
AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class VenvState:
    """A node's state before the installation."""

    top: str  # the directory of environments there, absolute
    version: str  # its Python's, exact
    python: str = ""  # the interpreter; empty where nothing is to be done
    uv: str = ""
    ready: str = ""  # Ray's version, where the environment is whole


def look(cluster: Cluster, nodes: Sequence[Node], wheels: str) -> Iterator[Outcome[VenvState]]:
    """Look at each node's environment, all at once.

    Makes a directory for `wheels` there, unless that is empty.
    """
    settings = cluster.settings
    name = paths.venv_name(settings)

    def find(node: Node) -> VenvState:
        args = (node.remote_root, name, settings.python or "", node.env_setup, wheels)
        told = ask(cluster.connect(node), "install", "find", *args, timeout=FIND_TIMEOUT)
        room = told.number("room")
        if room is not None and room < DISK_ROOM:
            raise ClusterError(
                f"only {room / (1 << 20):.1f} GiB are free under {node.remote_root}",
                node=node.name,
                hint="Ray needs 2 GiB: free some space, or move remote_root",
            )
        ready = told["ready"].partition(" ")[0]
        return VenvState(told["top"], told["version"], told["python"], told["uv"], ready)

    return fan_out(nodes, find, max_workers=cluster.ssh.pool_size)


def install(
    cluster: Cluster, nodes: Sequence[Node], *, wheelhouse: Path | None, timeout: float
) -> Iterator[Outcome[Installed]]:
    """Install Ray on all `nodes`; yields each one's outcome when it is done.

    Nothing is installed anywhere when a node cannot be reached, has no Python, or another one than
    the rest; then only errors come. `timeout`: seconds for one node.
    """
    if wheelhouse is not None and not wheelhouse.is_dir():
        raise UsageError(f"--wheelhouse {wheelhouse}: there is no such directory")
    wheels = paths.WHEELS if wheelhouse else ""
    found = {outcome.node.name: outcome for outcome in look(cluster, nodes, wheels)}
    wrong = [outcome for outcome in found.values() if outcome.error] or _differing(nodes, found)
    if wrong:
        yield from (Outcome(one.node, error=one.error, seconds=one.seconds) for one in wrong)
        return
    yield from fan_out(
        nodes,
        lambda node: _Installation(cluster, node, _value(found[node.name]), timeout).run(
            wheelhouse
        ),
        max_workers=AT_ONCE,
    )


def _value(outcome: Outcome[VenvState]) -> VenvState:
    if outcome.value is None:
        raise outcome.error or ClusterError("no answer from the Ray script", node=outcome.node.name)
    return outcome.value


def _differing(
    nodes: Sequence[Node], found: dict[str, Outcome[VenvState]]
) -> list[Outcome[VenvState]]:
    versions = {node.name: _value(found[node.name]).version for node in nodes}
    wrong = differences("Python", versions, "install one everywhere, or set ray.python")
    return [Outcome(found[name].node, error=error) for name, error in wrong.items()]


class _Installation:
    """The installation of one node."""

    def __init__(self, cluster: Cluster, node: Node, found: VenvState, timeout: float) -> None:
        self._cluster = cluster
        self._node = node
        self._found = found
        self._end = time.monotonic() + timeout
        self._link = cluster.connect(node)

    def run(self, wheelhouse: Path | None) -> Installed:
        began = time.monotonic()
        found = self._found
        if found.ready:
            return Installed(found.ready, found.version, fresh=False, seconds=0.0)
        version = self._cluster.settings.version
        self._tell("installing", version=version, python=found.version)
        wheels = self._bring(wheelhouse) if wheelhouse else ""
        ray, _, python = self._make(wheels)["ready"].partition(" ")
        return Installed(ray, python, fresh=True, seconds=time.monotonic() - began)

    def _time_left(self) -> float:
        return max(0.1, self._end - time.monotonic())

    def _tell(self, step: str, **facts: object) -> None:
        events.emit(events.CLUSTER_STEP, node=self._node.name, step=step, **facts)

    def _make(self, wheels: str) -> Told:
        found, settings = self._found, self._cluster.settings
        pip = Pip(lambda what: events.emit(
            events.CLUSTER_PROGRESS, node=self._node.name, what=what
        ))  # fmt: skip
        arguments = [word for line in settings.pip_args for word in shlex.split(line)]
        try:
            return ask(
                self._link, "install", "make",
                found.top, paths.venv_name(settings), found.python, found.uv,
                self._node.env_setup, wheels, *paths.requirements(settings), *arguments,
                timeout=self._time_left(), on_line=pip,
            )  # fmt: skip
        except ClusterError as exc:
            raise pip.explain(exc, bool(wheels)) from exc

    def _bring(self, wheelhouse: Path) -> str:
        """Copy the wheelhouse's files to the node by rsync; the directory there."""
        target = f"{self._found.top}/{paths.WHEELS}"
        self._tell("bringing", wheelhouse=str(wheelhouse))
        job = RsyncCall(
            options=["-rtO", *rsync_program().literal, "--exclude=*/"],
            sources=[f"{wheelhouse.resolve()}/"],
            target=self._link.rsync_target(f"{target}/"),
            place=TransferTarget(self._node.name, self._node.host, str(wheelhouse), target),
            shell=self._link.rsync_shell(),
        )
        said = RsyncErrors()
        status = run(job, timeout=self._time_left(), on_stdout=_nothing, on_stderr=said)
        if status:
            raise error_of(status, said, job.place)
        return target


def _nothing(data: bytes) -> None:
    del data
