"""Fabric's ThreadingGroup with limits: on workers, on one node's time, and on everybody's."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import fabric
from fabric.exceptions import GroupException
from fabric.group import GroupResult

from gridops.errors import NodeTimeout
from gridops.reach.connection import Connection
from gridops.reach.fanout import FILES_PER_NODE, race
from gridops.reach.link import too_many_files_error
from gridops.system.rundir import make_room

if TYPE_CHECKING:
    from gridops.inventory.settings import SshSettings
    from gridops.model import Node

RUNS = ("run", "sudo")


class BoundedGroup(fabric.ThreadingGroup):  # type: ignore[misc]
    """A `fabric.ThreadingGroup` in which no member delays the others.

    `max_workers` members are busy at a time; `timeout` is seconds for one member from the moment
    its turn comes, `deadline` seconds for all of them together. A member that runs out of time is
    closed, and its result is a NodeTimeout.
    """

    def __init__(
        self,
        *hosts: str,
        max_workers: int = 64,
        timeout: float | None = None,
        deadline: float | None = None,
        **kwargs: Any,
    ) -> None:
        """Take `hosts` and `kwargs` as `Connection` does."""
        super().__init__()
        self.extend(Connection(host, **kwargs) for host in hosts)
        self.max_workers = max_workers
        self.timeout = timeout
        self.deadline = deadline

    @classmethod
    def from_connections(
        cls, connections: Iterable[fabric.Connection], **limits: Any
    ) -> BoundedGroup:
        group = cls(**limits)
        group.extend(connections)
        return group

    @classmethod
    def for_nodes(cls, nodes: Iterable[Node], ssh: SshSettings, **limits: Any) -> BoundedGroup:
        """The Connections to nodes of an inventory."""
        return cls.from_connections([Connection.for_node(node, ssh) for node in nodes], **limits)

    def as_completed(
        self, method: str, *args: Any, **kwargs: Any
    ) -> Iterator[tuple[fabric.Connection, Any]]:
        """Call `method` (run, sudo, put, get, …) on every member; yield each with what came of it.

        That is a result or the exception, in the order they finish. Our standard input cannot be
        shared, so a command finds an empty one unless `in_stream` says otherwise.
        """
        if method in RUNS:
            kwargs.setdefault("in_stream", io.StringIO())
        if method == "get" and len(args) < 2:
            kwargs.setdefault("local", "{host}/")

        def work(connection: fabric.Connection) -> Any:
            return getattr(connection, method)(*args, **kwargs)

        needed = len(self) + FILES_PER_NODE  # members stay connected
        if make_room(needed) < needed:
            raise too_many_files_error()
        limits = {"timeout": self.timeout, "deadline": self.deadline}
        for done in race(tuple(self), work, max_workers=self.max_workers, **limits):
            if isinstance(done.error, NodeTimeout):
                done.error.node = done.error.node or done.item.host
                done.item.close()  # wakes the worker that was left behind, if it waits there
            yield done.item, done.value if done.error is None else done.error

    def _do(self, method: str, *args: Any, **kwargs: Any) -> GroupResult:
        results = GroupResult(self.as_completed(method, *args, **kwargs))
        if results.failed:
            raise GroupException(results)
        return results
