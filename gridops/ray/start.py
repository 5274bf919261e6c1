"""Start of the cluster: the head, then all workers at once, until the cluster counts each one."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from gridops.errors import ClusterError, ClusterFailures, GridError
from gridops.model import Node
from gridops.observe import events
from gridops.ray import connectivity, preflight
from gridops.ray.dashboard import wait_for
from gridops.ray.launch import Launch, new_id
from gridops.ray.model import Cluster, Look, Part, Said
from gridops.ray.state import ask_node, keep_token, look
from gridops.ray.stop import stop
from gridops.reach.fanout import fan_out

GRACE = 10  # seconds between TERM and KILL for what a restart ends
LEAST_TIMEOUT = 5.0  # seconds that a step has even when the time is nearly used up


@dataclass(frozen=True, slots=True)
class Started:
    """A cluster that is whole."""

    address: str  # the head's, with its port
    nodes: int
    launched: tuple[str, ...]  # the nodes that were started now
    seconds: float


def start(cluster: Cluster, *, timeout: float, restart: bool = False) -> Started:
    """Start the cluster on all its nodes; running parts are left as they are.

    With `restart` it is ended first. Nothing is started while a check fails on some node. Raises
    ClusterFailures, which says what is wrong on which node.
    """
    return _Start(cluster, timeout).run(restart)


class _Start:
    def __init__(self, cluster: Cluster, timeout: float) -> None:
        self._cluster = cluster
        self._head = cluster.head
        self._timeout = timeout
        self._began = time.monotonic()
        self._old: Collection[str] = ()  # ids of members whose nodes are started anew

    def run(self, restart: bool) -> Started:
        if restart:
            self._end(self._cluster.nodes)
        looks = self._look()
        starting = self._missing(looks)
        if starting:
            looks = self._launch(looks, starting)
        names = [node.name for node in starting]
        said = self._settle(looks, names)
        self._remember(said)
        return Started(
            f"{self._part(looks).address}:{self._cluster.settings.port}",
            len(self._cluster.nodes),
            tuple(names),
            time.monotonic() - self._began,
        )

    def _time_left(self) -> float:
        return max(LEAST_TIMEOUT, self._began + self._timeout - time.monotonic())

    def _part(self, looks: Mapping[str, Look]) -> Part:
        part = looks[self._head.name].part
        if part is None or part.role != "head":
            raise ClusterError(
                "runs as a worker of another cluster",
                node=self._head.name,
                hint="end it by `inv cluster.stop`",
            )
        return part

    # -- what is there -----------------------------------------------------------------------

    def _look(self) -> dict[str, Look]:
        looks, wrong = {}, []
        for outcome in look(self._cluster, self._cluster.nodes):
            if outcome.value:
                looks[outcome.node.name] = outcome.value
            else:
                wrong.append(outcome.error)
        _raise("nothing was started", [error for error in wrong if error])
        return looks

    def _missing(self, looks: Mapping[str, Look]) -> list[Node]:
        """The nodes to start; a worker of a head that is no more is ended first."""
        head = looks[self._head.name].part
        stale = [
            node
            for node in self._cluster.workers
            if (part := looks[node.name].part) and (head is None or part.id != head.id)
        ]
        self._end(stale)
        gone = {node.name for node in stale}
        self._say_other_versions(looks)
        return [n for n in self._cluster.nodes if n.name in gone or not looks[n.name].part]

    def _say_other_versions(self, looks: Mapping[str, Look]) -> None:
        wanted = self._cluster.settings.version
        running = sorted({one.part.ray for one in looks.values() if one.part})
        if running and running != [wanted]:
            message = (
                f"the cluster runs Ray {', '.join(running)}, but the inventory says {wanted}"
                " (run `inv cluster.install`, then `inv cluster.start --restart`)"
            )
            events.emit(events.WARNING, message=message)

    def _end(self, nodes: Sequence[Node]) -> None:
        outcomes = list(stop(self._cluster, nodes, grace=GRACE, keep_logs=False))
        _raise("nothing was started", [one.error for one in outcomes if one.error])

    # -- starting ----------------------------------------------------------------------------

    def _launch(self, looks: dict[str, Look], starting: Sequence[Node]) -> dict[str, Look]:
        """Check and start the nodes; the looks, the head's with its part."""
        fresh = {
            name: replace(one, part=None) if name in {n.name for n in starting} else one
            for name, one in looks.items()
        }
        wrong = list(preflight.check_looks(self._cluster, fresh, starting))
        _raise("nothing was started", wrong)
        mesh, wrong = preflight.try_addresses(self._cluster, fresh, starting)
        _raise("nothing was started", wrong)
        token = self._token()
        head = fresh[self._head.name].part
        cluster_id = head.id if head else new_id()
        launches = [
            Launch(
                self._cluster, node, fresh[node.name], self._cluster.role(node), cluster_id,
                mesh.addresses[node.name], mesh.head,
            )
            for node in starting
        ]  # fmt: skip
        if head is None:
            self._first(launches, token)
            fresh[self._head.name] = self._look_again()
        else:
            self._old = self._ids_in_cluster(head, {node.name for node in starting})
            self._each(launches, lambda launch: launch.start(token, self._time_left()))
        return fresh

    def _ids_in_cluster(self, head: Part, names: Collection[str]) -> list[str]:
        """Ids by which the cluster still counts `names`: it learns late of a killed worker."""
        said = wait_for(self._cluster, head, (), self._time_left())
        return [one.id for one in said.members if one.alive and one.name in names]

    def _first(self, launches: Sequence[Launch], token: str) -> None:
        """Start the head, and prepare the workers meanwhile; then start the workers.

        Preparing is what can be done on them without the head.
        """
        limit = self._time_left()
        try:
            self._each(
                launches,
                lambda launch: (
                    launch.start(token, limit)
                    if launch.role == "head"
                    else launch.prepare(token, limit)
                ),
            )
        except GridError:
            with suppress(GridError):  # the first error is the one that says why
                self._end([launch.node for launch in launches])
            raise
        workers = [launch for launch in launches if launch.role == "worker"]
        self._each(workers, lambda launch: launch.go(self._time_left()))

    def _each(self, launches: Sequence[Launch], work: Callable[[Launch], None]) -> None:
        by_name = {launch.node.name: launch for launch in launches}
        outcomes = fan_out(
            [launch.node for launch in launches],
            lambda node: work(by_name[node.name]),
            max_workers=self._cluster.ssh.pool_size,
        )
        _raise("not all nodes could be started", [one.error for one in outcomes if one.error])

    def _token(self) -> str:
        """The head's token; a new one where it has none. It is kept at home."""
        import secrets

        fresh = f"{secrets.token_hex(32)}\n".encode()
        token = ask_node(self._cluster, self._head, "token", stdin=fresh)["token"]
        keep_token(self._cluster.key, token)
        return token

    def _look_again(self) -> Look:
        outcome = next(iter(look(self._cluster, [self._head])))
        if outcome.value is None:
            silent = ClusterError("no answer from the Ray script", node=self._head.name)
            raise outcome.error or silent
        return outcome.value

    # -- counted, and still there a moment later ---------------------------------------------

    def _settle(self, looks: Mapping[str, Look], launched: Sequence[str]) -> Said:
        cluster, names = self._cluster, [node.name for node in self._cluster.nodes]
        head = self._part(looks)
        said = wait_for(cluster, head, names, self._time_left(), old=self._old)
        self._check_joined(said, names)
        if not launched:
            return said
        began = time.monotonic()
        barred = list(connectivity.find_barred(cluster, looks, said, launched))
        time.sleep(max(0.0, began + cluster.settings.settle - time.monotonic()))
        after = wait_for(cluster, head, names, 0.0, old=self._old)
        lost = [error for name in names if (error := self._lost_error(after, name))]
        _raise("the cluster lost nodes again", lost or barred)
        return after

    def _check_joined(self, said: Said, names: Sequence[str]) -> None:
        wrong = [
            ClusterError(
                f"Ray runs there, but the cluster does not count it after {self._timeout:g} s",
                node=name,
                hint=f"open {preflight.open_ports(self._cluster.settings)}; or give more --timeout",
            )
            for name in names
            if name not in said.alive
        ]
        _raise("the cluster lacks some of its nodes", wrong)

    def _lost_error(self, said: Said, name: str) -> GridError | None:
        if name in said.alive:
            return None
        why = next((one.why for one in said.members if one.name == name and one.why), "")
        return ClusterError(
            f"joined and was lost{f': {why}' if why else ''}",
            node=name,
            hint=f"open {preflight.open_ports(self._cluster.settings)}",
        )

    def _remember(self, said: Said) -> None:
        """Store each node's name and address on the head.

        Others meet the nodes by the addresses that Ray knows, and find the names there.
        """
        lines = [f"{name}={member.address}" for name, member in sorted(said.alive.items())]
        text = "\n".join([*lines, ""]).encode()
        ask_node(self._cluster, self._head, "members", stdin=text)


def _raise(what: str, wrong: Sequence[GridError]) -> None:
    if len(wrong) == 1:
        raise wrong[0]
    if wrong:
        raise ClusterFailures(f"{what}: {wrong[0]}, and {len(wrong) - 1} more", failures=wrong)
