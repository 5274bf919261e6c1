"""Grid: the machines of one inventory as one thing. Every task calls it; so may your own Python.

from gridops import Grid

grid = Grid.load()
for health in grid.health():
    print(health.node.name, health.state, health.score)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import gridops.system.ownership  # noqa: F401 # first of ours: see there
from gridops.grid.base import task_scope as _task
from gridops.grid.cluster import ClusterMixin
from gridops.grid.jobs import JobsMixin
from gridops.inventory import load
from gridops.model import Node, NodeHealth, Outcome, Reply, RunResult, RunSpec, SyncReport
from gridops.observe import events

if TYPE_CHECKING:
    from gridops.dispatch.assignment import Detached
    from gridops.dispatch.candidates import Candidate
    from gridops.probe.score import Ranked
    from gridops.reach.hostkeys import HostKeys
    from gridops.reach.pool import Master
    from gridops.reach.pump import Sinks
    from gridops.system.signals import Cancel


class Grid(JobsMixin, ClusterMixin):
    """The nodes of an inventory as one grid: health, sync, runs and the Ray cluster.

    Nothing connects before it is asked to.
    """

    @classmethod
    def load(cls, path: str | Path | None = None) -> Grid:
        """The grid of an inventory file; without one, of the file that DESIGN's search order finds.

        Raises InventoryError.
        """
        return cls(load(path))

    def select(self, nodes: str | None = None, tags: str | None = None) -> tuple[Node, ...]:
        """The nodes that a node set and tags name. Raises UnknownNameError, UsageError."""
        return self.inventory.select(nodes, tags)

    # -- asking ------------------------------------------------------------------------------

    def health(self, nodes: Sequence[Node] | None = None) -> Iterator[NodeHealth]:
        """Probe the nodes at once; each comes as it has answered, and every one comes."""
        from gridops.probe.checker import check

        with _task("health"):
            yield from check(self._all(nodes), self.settings, patient=False)

    def rank(self, nodes: Sequence[Node] | None = None, gpus: int = 0) -> tuple[Ranked, ...]:
        """Rank all nodes for a run on `gpus` GPUs, best first.

        Each comes with the reason of its place.
        """
        from gridops.probe.checker import check
        from gridops.probe.score import rank

        with _task("best"):
            order = {node.name: index for index, node in enumerate(self._all(nodes))}
            healths = check(self._all(nodes), self.settings, patient=False)
            return rank(sorted(healths, key=lambda h: order[h.node.name]), gpus)

    def candidates(
        self, nodes: Sequence[Node] | None = None, gpus: int = 0
    ) -> tuple[Candidate, ...]:
        """Nodes that would take a run on `gpus` GPUs, best first. Raises NoNode."""
        from gridops.dispatch.placement import candidates

        return candidates(self._all(nodes), self.settings, gpus)

    # -- doing -------------------------------------------------------------------------------

    def sync(
        self, src: str | Path, nodes: Sequence[Node] | None = None, *, dry_run: bool = False
    ) -> Iterator[Outcome[SyncReport]]:
        """Bring the tree at `src` to all nodes at once.

        Each node's report comes when the tree is there.
        """
        from gridops.dispatch.staging import bring
        from gridops.reach import link_to
        from gridops.reach.fanout import fan_out
        from gridops.transfers.sync import list_tree

        with _task("sync"):
            nodes = self._all(nodes)
            tree = list_tree(Path(src), self.settings.sync)
            if len(nodes) > 1:
                tree = tree.for_many()
            yield from fan_out(
                nodes,
                lambda node: bring(
                    link_to(node, self.settings.ssh), tree, self.settings, dry_run=dry_run
                ),
                max_workers=min(self.settings.health_check.max_workers, SYNCS_AT_ONCE),
            )

    def run(
        self,
        spec: RunSpec,
        output: Sinks,
        *,
        nodes: Sequence[Node] | None = None,
        stop: Cancel | None = None,
    ) -> RunResult:
        """Run `spec` on the best of `nodes`, and follow it.

        Its output goes to `output` as it comes. The run belongs to its node: whatever becomes of
        the connection or of us, it goes on there. A command that fails is a result, not an error.
        Raises NoNode, ReachError, SyncError or NotStarted when no node could take it, RunTimeout,
        RunLost, StartUnknown, JobUnreachable.
        """
        from gridops.dispatch.executor import Executor
        from gridops.dispatch.placement import candidates
        from gridops.system.signals import Cancel

        with _task("run") as outcome:
            choice = candidates(self._all(nodes), self.settings, spec.gpus)
            result = Executor(spec, self.settings, stop or Cancel()).run(choice, output)
            outcome.ok = result.status == 0
            return result

    def detach(
        self, spec: RunSpec, nodes: Sequence[Node] | None = None, *, stop: Cancel | None = None
    ) -> Detached:
        """Start `spec` on the best of `nodes`, and leave it there.

        The run needs nobody here any more. Raises what `run` raises until the command begins, and
        StartUnknown when the connection broke while it was handed over: it may run, under the id
        that the message tells.
        """
        from gridops.dispatch.executor import Executor
        from gridops.dispatch.placement import candidates
        from gridops.system.signals import Cancel

        with _task("run"):
            choice = candidates(self._all(nodes), self.settings, spec.gpus)
            return Executor(spec, self.settings, stop or Cancel()).detach(choice)

    def exec(
        self,
        spec: RunSpec,
        nodes: Sequence[Node] | None = None,
        *,
        stop: Cancel | None = None,
    ) -> Iterator[Outcome[Reply]]:
        """Run `spec.command` on all nodes at once; each node's reply or error as it comes."""
        from gridops.dispatch.exec import Room, exec_on
        from gridops.jobs.spec import new_id
        from gridops.reach.fanout import fan_out
        from gridops.system.signals import Cancel

        wish, run_id, room = stop or Cancel(), new_id(), Room()
        with _task("exec") as outcome, events.bound(run_id=run_id):
            for result in fan_out(
                self._all(nodes),
                lambda node: exec_on(node, spec, self.settings, run_id, wish, room),
                max_workers=self.settings.ssh.pool_size,
            ):
                outcome.ok &= result.value is not None and result.value.status == 0
                yield result

    # -- connections -------------------------------------------------------------------------

    def open_pool(self, nodes: Sequence[Node] | None = None) -> Iterator[Outcome[Master]]:
        """Open the shared connection to every node; the next task pays no handshake."""
        from gridops.reach import pool

        return pool.open(self._all(nodes), self.settings.ssh)

    def close_pool(self, nodes: Sequence[Node] | None = None) -> int:
        """End the connections to these nodes and all that runs over them; returns how many."""
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
