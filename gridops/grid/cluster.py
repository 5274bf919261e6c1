"""Grid's part for the Ray cluster on its nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gridops.grid.base import GridBase, task_scope
from gridops.model import Node, Outcome

if TYPE_CHECKING:
    from gridops.ray.client import RayClient
    from gridops.ray.jobsapi import RayJob
    from gridops.ray.model import Cluster, Installed
    from gridops.ray.start import Started
    from gridops.ray.status import ClusterStatus
    from gridops.ray.stop import Stopped
    from gridops.ray.submit import ClusterSpec
    from gridops.reach.link import Link


class ClusterMixin(GridBase):
    """Operations on the Ray cluster that an inventory describes."""

    def cluster(self, nodes: Sequence[Node] | None = None) -> Cluster:
        """The Ray cluster as the inventory wants it on `nodes`. Raises UsageError."""
        from gridops.ray.state import cluster_of

        return cluster_of(self.inventory, self._connect, nodes)

    def install_ray(
        self,
        nodes: Sequence[Node] | None = None,
        *,
        wheelhouse: Path | None = None,
        timeout: float = 1800.0,
    ) -> Iterator[Outcome[Installed]]:
        """Install the inventory's Ray on `nodes` (and the head).

        Each node's outcome comes when it is there. `wheelhouse`: a directory of wheels here, for
        nodes without a package index. When the nodes differ in their Python nothing is installed,
        and errors come. `timeout` is seconds for one node. Raises UsageError.
        """
        from gridops.ray.install import install

        cluster = self.cluster(nodes)
        with task_scope("cluster.install") as outcome:
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
        """Start the cluster on `nodes` and the head; what runs already stays as it is.

        `timeout` is seconds until it must count every node; with `restart` it is ended first.
        Raises UsageError, and ClusterError or ClusterFailures that say what is wrong and where.
        """
        from gridops.ray.start import start

        with task_scope("cluster.start"):
            return start(self.cluster(nodes), timeout=timeout, restart=restart)

    def stop_ray(
        self, nodes: Sequence[Node] | None = None, *, grace: int = 10, keep_logs: bool = False
    ) -> Iterator[Outcome[Stopped]]:
        """End the Ray that we started on `nodes`, workers first; `grace` is seconds before KILL."""
        from gridops.ray.stop import stop

        with task_scope("cluster.stop") as outcome:
            chosen = self._all(nodes)
            for one in stop(self.cluster(chosen), chosen, grace=grace, keep_logs=keep_logs):
                outcome.ok &= one.ok
                yield one

    def ray_status(self, nodes: Sequence[Node] | None = None) -> ClusterStatus:
        """Compare the inventory's Ray on `nodes` with the cluster's state.

        Raises UsageError, ClusterError, or a ReachError when the head cannot be asked.
        """
        from gridops.ray.status import status

        with task_scope("cluster.status"):
            return status(self.cluster(nodes), self.inventory.nodes)

    # -- the Ray cluster's jobs ----------------------------------------------------------------

    def ray_jobs(self) -> RayClient:
        """Client of the running cluster: `with grid.ray_jobs() as client`.

        Raises ClusterDown when it is not started, or a ReachError.
        """
        from gridops.ray.client import RayClient
        from gridops.ray.state import facts_of

        facts = facts_of(self.inventory, self._connect)
        return RayClient(facts, self._connect(facts.head))

    def submit(self, spec: ClusterSpec, client: RayClient) -> RayJob:
        """Send the tree and the job to the cluster; returns the job as it is there.

        Raises UsageError, SyncError, RayJobError, ReachError.
        """
        from gridops.ray.submit import submit

        with task_scope("cluster.submit"):
            return submit(client, spec, self.settings, self._connect)

    def _connect(self, node: Node) -> Link:
        from gridops.reach import link_to

        return link_to(node, self.settings.ssh)
