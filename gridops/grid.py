"""Grid: the machines of one inventory as one thing. Every task calls it; so may your own Python.

from gridops.grid import Grid

grid = Grid.load()
for health in grid.health():
    print(health.node.name, health.state, health.score)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gridops.inventory import Inventory, load
from gridops.model import Job, Node, NodeHealth, Outcome, Reply, RunResult, RunSpec, SyncReport
from gridops.observe import events

if TYPE_CHECKING:
    from gridops.detached import Detached
    from gridops.executor import Output
    from gridops.failover import Candidate
    from gridops.jobs.attached import Stop
    from gridops.probe.score import Ranked
    from gridops.ray.client import RayClient
    from gridops.ray.jobsapi import RayJob
    from gridops.ray.model import Cluster, Installed
    from gridops.ray.start import Started
    from gridops.ray.status import ClusterStatus
    from gridops.ray.stop import Stopped
    from gridops.ray.submit import ClusterSpec
    from gridops.reach.hostkeys import HostKeys
    from gridops.reach.link import Link
    from gridops.reach.pool import Master


class Grid:
    """What can be done with an inventory's nodes. Nothing connects before it is asked to."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self.settings = inventory.settings

    @classmethod
    def load(cls, path: str | Path | None = None) -> Grid:
        """The grid of an inventory file; without one, of the file that DESIGN's search order finds.

        Raises InventoryError.
        """
        return cls(load(path))

    def select(self, nodes: str | None = None, tags: str | None = None) -> tuple[Node, ...]:
        """The nodes that a node set and tags name. Raises UnknownNameError, UsageError."""
        return self.inventory.select(nodes, tags)

    def _all(self, nodes: Sequence[Node] | None) -> Sequence[Node]:
        return self.inventory.nodes if nodes is None else nodes

    # -- asking ------------------------------------------------------------------------------

    def health(self, nodes: Sequence[Node] | None = None) -> Iterator[NodeHealth]:
        """Probe the nodes at once; each comes as it has answered, and every one comes."""
        from gridops.probe.checker import check

        with _task("health"):
            yield from check(self._all(nodes), self.settings, patient=False)

    def rank(self, nodes: Sequence[Node] | None = None) -> tuple[Ranked, ...]:
        """All nodes, best first, each with the reason of its place."""
        from gridops.probe.checker import check
        from gridops.probe.score import rank

        with _task("best"):
            order = {node.name: index for index, node in enumerate(self._all(nodes))}
            healths = check(self._all(nodes), self.settings, patient=False)
            return rank(sorted(healths, key=lambda h: order[h.node.name]))

    def candidates(self, nodes: Sequence[Node] | None = None) -> tuple[Candidate, ...]:
        """The nodes that would take a run now, best first. Raises NoNode when there is none."""
        from gridops.executor import candidates

        return candidates(self._all(nodes), self.settings)

    # -- doing -------------------------------------------------------------------------------

    def sync(
        self, src: str | Path, nodes: Sequence[Node] | None = None, *, dry_run: bool = False
    ) -> Iterator[Outcome[SyncReport]]:
        """Bring the tree at `src` to all nodes at once, each report as it is there."""
        from gridops.reach import link_to
        from gridops.reach.fanout import fan_out
        from gridops.sync import list_tree, sync_tree

        with _task("sync"):
            tree = list_tree(Path(src), self.settings.sync)
            yield from fan_out(
                self._all(nodes),
                lambda node: sync_tree(
                    link_to(node, self.settings.ssh), tree, self.settings, dry_run=dry_run
                ),
                max_workers=min(self.settings.health_check.max_workers, SYNCS_AT_ONCE),
            )

    def run(
        self,
        spec: RunSpec,
        output: Output,
        *,
        nodes: Sequence[Node] | None = None,
        stop: Stop | None = None,
    ) -> RunResult:
        """Run `spec` on the best of `nodes`, its output going to `output` as it comes.

        Raises NoNode, ReachError or SyncError when no node could take it, RunTimeout,
        ConnectionLost. A command that fails is a result, not an error.
        """
        from gridops.executor import Executor, candidates
        from gridops.jobs.attached import Stop

        with _task("run") as outcome:
            choice = candidates(self._all(nodes), self.settings)
            result = Executor(self.settings).run(spec, choice, output, stop or Stop())
            outcome.ok = result.status == 0
            return result

    def detach(self, spec: RunSpec, nodes: Sequence[Node] | None = None) -> Detached:
        """Start `spec` on the best of `nodes` as a run that needs nobody here any more.

        Raises what `run` raises until the command begins, and StartUnknown when the connection
        broke while it was handed over: it may run, under the id that the message tells.
        """
        from gridops.executor import Executor, candidates

        with _task("run"):
            choice = candidates(self._all(nodes), self.settings)
            return Executor(self.settings).detach(spec, choice)

    def exec(
        self,
        spec: RunSpec,
        nodes: Sequence[Node] | None = None,
        *,
        stop: Stop | None = None,
    ) -> Iterator[Outcome[Reply]]:
        """Run `spec.command` on all nodes at once; each node's reply or error as it comes."""
        from gridops.executor import Executor, new_run_id
        from gridops.jobs.attached import Stop
        from gridops.reach.fanout import fan_out

        executor, wish, run_id = Executor(self.settings), stop or Stop(), new_run_id()
        with _task("exec") as outcome, events.bound(run_id=run_id):
            for result in fan_out(
                self._all(nodes),
                lambda node: executor.exec(spec, node, run_id, wish),
                max_workers=self.settings.ssh.pool_size,
            ):
                outcome.ok &= result.value is not None and result.value.status == 0
                yield result

    # -- durable runs ------------------------------------------------------------------------

    def jobs(self, nodes: Sequence[Node] | None = None) -> Iterator[Outcome[tuple[Job, ...]]]:
        """Each node's runs, as it tells of them, oldest first."""
        from gridops.jobs import client, finding

        return finding.ask_all(self._all(nodes), self.settings.ssh, client.list_jobs)

    def find_job(
        self, name: str, nodes: Sequence[Node] | None = None, *, certain: bool = False
    ) -> Job:
        """The run with that id, or with an id that begins so; `@last` is the newest.

        Raises NoJob, UsageError when several begin so, JobUnreachable when a node that may know it
        cannot be asked; with `certain` also when that node may have another that is meant.
        """
        from gridops.jobs import finding

        return finding.find(self._all(nodes), self.settings.ssh, name, certain=certain)

    def show_job(self, job: Job) -> Job:
        """The run as it is now, with its whole command."""
        from gridops.jobs import client

        return client.show(self._link(job), job.id)

    def logs(
        self,
        job: Job,
        output: Output,
        *,
        follow: bool = False,
        tail: int | None = None,
        only_stderr: bool = False,
    ) -> Job:
        """Hand on what the run has printed, with `follow` until it ends; the run as it is then.

        `only_stderr`: its stderr alone, to `output.stdout`. Raises JobUnreachable, NoJob.
        """
        from gridops.jobs import attending

        out, err = (None, output.stdout) if only_stderr else (output.stdout, output.stderr)
        link = self._link(job)
        return attending.logs(
            link, job.id, on_stdout=out, on_stderr=err, live=follow, tail=tail
        ).job

    def wait(self, job: Job, timeout: float | None = None) -> Job:
        """The run, once it has ended. Raises RunTimeout after `timeout` seconds, JobUnreachable."""
        from gridops.jobs import attending

        return attending.wait(self._link(job), job.id, timeout=timeout)

    def kill(self, job: Job) -> Job:
        """End the run and its process tree; the run as it is then. Raises JobUnreachable."""
        from gridops.jobs import client

        return client.kill_until_heard(self._link(job), job.id, give_up_after=PATIENCE)

    def prune(
        self, older_than: float, nodes: Sequence[Node] | None = None
    ) -> Iterator[Outcome[tuple[str, ...]]]:
        """Forget the runs that ended over `older_than` seconds ago; the ids that went, by node."""
        from gridops.jobs import client, finding

        ssh = self.settings.ssh
        return finding.ask_all(
            self._all(nodes), ssh, lambda link: client.prune(link, older_than), limit=PRUNING
        )

    def _link(self, job: Job) -> Link:
        from gridops.reach import link_to

        return link_to(self.inventory.node(job.node), self.settings.ssh)

    # -- the Ray cluster -----------------------------------------------------------------------

    def cluster(self, nodes: Sequence[Node] | None = None) -> Cluster:
        """The Ray cluster as the inventory wants it on `nodes`. Raises UsageError."""
        from gridops.ray.state import cluster_of

        return cluster_of(self.inventory, nodes)

    def install_ray(
        self,
        nodes: Sequence[Node] | None = None,
        *,
        wheelhouse: Path | None = None,
        timeout: float = 1800.0,
    ) -> Iterator[Outcome[Installed]]:
        """Have the inventory's Ray on `nodes` (and the head), each node's as it is there.

        `wheelhouse`: a directory of wheels here, for nodes without a package index. When the nodes
        differ in their Python nothing is installed, and errors come. `timeout` is seconds for one
        node. Raises UsageError.
        """
        from gridops.ray.install import install

        cluster = self.cluster(nodes)
        with _task("cluster.install") as outcome:
            for one in install(cluster, cluster.nodes, wheelhouse=wheelhouse, timeout=timeout):
                outcome.ok &= one.ok
                yield one

    def start_ray(
        self,
        nodes: Sequence[Node] | None = None,
        *,
        timeout: float = 120.0,
        restart: bool = False,
    ) -> Started:
        """Have the cluster running on `nodes` and the head; what runs already stays as it is.

        `timeout` is seconds until it must count every node; with `restart` it is ended first.
        Raises UsageError, and ClusterError or ClusterFailures that say what is wrong and where.
        """
        from gridops.ray.start import start

        with _task("cluster.start"):
            return start(self.cluster(nodes), timeout=timeout, restart=restart)

    def stop_ray(
        self, nodes: Sequence[Node] | None = None, *, grace: int = 10, keep_logs: bool = False
    ) -> Iterator[Outcome[Stopped]]:
        """End what we started of Ray on `nodes`, workers first; `grace` is seconds before KILL."""
        from gridops.ray.stop import stop

        with _task("cluster.stop") as outcome:
            chosen = self._all(nodes)
            for one in stop(self.cluster(chosen), chosen, grace=grace, keep_logs=keep_logs):
                outcome.ok &= one.ok
                yield one

    def ray_status(self, nodes: Sequence[Node] | None = None) -> ClusterStatus:
        """What the inventory wants on `nodes` beside what the cluster says.

        Raises UsageError, ClusterError, or a ReachError when the head cannot be asked.
        """
        from gridops.ray.status import status

        with _task("cluster.status"):
            return status(self.cluster(nodes), self.inventory.nodes)

    # -- the Ray cluster's jobs ----------------------------------------------------------------

    def ray_jobs(self) -> RayClient:
        """The running cluster, to ask things of: `with grid.ray_jobs() as client`.

        Raises ClusterDown when it is not started, or a ReachError.
        """
        from gridops.ray.client import RayClient
        from gridops.ray.state import facts_of

        return RayClient(facts_of(self.inventory), self.settings.ssh)

    def submit(self, spec: ClusterSpec, client: RayClient) -> RayJob:
        """Send the tree and the job to the cluster; the job as the cluster has it then.

        Raises UsageError, SyncError, RayJobError, ReachError.
        """
        from gridops.ray.submit import submit

        with _task("cluster.submit"):
            return submit(client, spec, self.settings)

    # -- connections -------------------------------------------------------------------------

    def open_pool(self, nodes: Sequence[Node] | None = None) -> Iterator[Outcome[Master]]:
        """Open the shared connection to every node, so that the next task pays no handshake."""
        from gridops.reach import pool

        return pool.open(self._all(nodes), self.settings.ssh)

    def close_pool(self, nodes: Sequence[Node] | None = None) -> int:
        """End the connections to these nodes and what runs over them; returns how many."""
        from gridops.reach import pool

        return pool.close(self._all(nodes), self.settings.ssh)

    def scan_host_keys(self, nodes: Sequence[Node] | None = None) -> Iterator[Outcome[HostKeys]]:
        """The host keys that the nodes show now; nothing is trusted yet."""
        from gridops.reach import hostkeys
        from gridops.reach.fanout import fan_out

        ssh = self.settings.ssh
        return fan_out(
            [node for node in self._all(nodes) if node.connection == "ssh"],
            lambda node: hostkeys.scan(node, ssh),
            max_workers=ssh.pool_size,
        )


SYNCS_AT_ONCE = 16
PATIENCE = 30.0  # seconds in which a node that cannot be reached is tried again to end a run
PRUNING = 600.0  # seconds that deleting much output may take


class _Outcome:
    """How a task went, for those who listen."""

    ok = True


@contextmanager
def _task(name: str) -> Iterator[_Outcome]:
    """Say that a task began and how it ended."""
    outcome = _Outcome()
    began = time.monotonic()
    with events.bound(task=name):
        events.emit(events.TASK_STARTED, task=name)
        try:
            yield outcome
        except BaseException:
            outcome.ok = False
            raise
        finally:
            events.emit(
                events.TASK_FINISHED,
                task=name,
                status="success" if outcome.ok else "failure",
                seconds=time.monotonic() - began,
            )
