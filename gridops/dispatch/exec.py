"""One command on many nodes: attached, each node's output kept until it has ended."""

from __future__ import annotations

import threading

from gridops.errors import ConnectionLost, RunTimeout
from gridops.inventory.settings import Settings
from gridops.jobs.foreground import OUT_OF_TIME, Ended, ForegroundCommand
from gridops.model import Node, Reply, RunSpec
from gridops.reach import link_to
from gridops.system.signals import STOPPED_STATUS, Cancel

LIMIT = 16 * 1024 * 1024  # bytes of one stream that are kept of a node
ROOM = 64 * 1024 * 1024  # bytes that are kept of all nodes together


class Room:
    """Remaining memory budget, in bytes, for the outputs of all nodes."""

    def __init__(self, size: int | None = None) -> None:
        self._left = ROOM if size is None else size
        self._lock = threading.Lock()

    def take(self, wanted: int) -> int:
        """Reserve up to `wanted` bytes; returns the number granted."""
        with self._lock:
            granted = min(wanted, self._left)
            self._left -= granted
            return granted


def exec_on(
    node: Node, spec: RunSpec, settings: Settings, run_id: str, stop: Cancel, room: Room
) -> Reply:
    """Run `spec.command` in the node's home directory and keep its output.

    Each stream is kept up to LIMIT bytes, as far as there is `room`; what comes after is counted,
    and said in stderr. The command ends with the connection. Raises a ReachError, ConnectionLost,
    RunTimeout.
    """
    out, err = _Kept(room), _Kept(room)
    start = max(settings.health_check.timeout, 2 * settings.ssh.connect_timeout)
    attached = ForegroundCommand(link_to(node, settings.ssh), spec, run_id=run_id, timeout=start)
    ended = _follow(attached, node, spec, out, err, stop)
    status = STOPPED_STATUS.get(ended.stopped or "", ended.status)
    return Reply(status, out.kept, err.kept + out.note("stdout") + err.note("stderr"))


def _follow(
    attached: ForegroundCommand, node: Node, spec: RunSpec, out: _Kept, err: _Kept, stop: Cancel
) -> Ended:
    try:
        ended = attached.follow(out, err, stop)
    except ConnectionLost as exc:
        raise ConnectionLost(
            f"the connection broke while the command ran: {exc.message}",
            node=node.name,
            hint="the node ends the command once it notices; its exit status is not known",
        ) from exc
    if ended.stopped == OUT_OF_TIME:
        rest = f"; {ended.left}" if ended.left else ""
        raise RunTimeout(
            f"the command was ended after {spec.timeout:g} s{rest}",
            node=node.name,
            hint="--timeout",
        )
    return ended


class _Kept:
    """Sink that keeps the first LIMIT bytes and counts the rest.

    It keeps fewer where there is no room for them.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._data = bytearray()
        self._dropped = 0

    def __call__(self, data: bytes) -> None:
        wanted = 0 if self._dropped else min(len(data), LIMIT - len(self._data))
        kept = self._room.take(wanted)
        self._data += data[:kept]
        self._dropped += len(data) - kept

    @property
    def kept(self) -> bytes:
        return bytes(self._data)

    def note(self, stream: str) -> bytes:
        if not self._dropped:
            return b""
        return f"gridops: {self._dropped} more bytes of {stream} were not kept\n".encode()
