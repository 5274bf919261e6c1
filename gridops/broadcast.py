"""One command on many nodes: attached, each node's output kept until it has ended."""

from __future__ import annotations

from gridops.errors import ConnectionLost, RunTimeout
from gridops.jobs.attached import STOPPED_STATUS, TIMEOUT, Attached, Ended, Stop
from gridops.model import Node, Reply, RunSpec
from gridops.reach import link_to
from gridops.settings import Settings

LIMIT = 16 * 1024 * 1024  # bytes of one stream that are kept of a node


def exec_on(node: Node, spec: RunSpec, settings: Settings, run_id: str, stop: Stop) -> Reply:
    """Run `spec.command` in the node's home directory and keep what it prints.

    Each stream is kept up to LIMIT bytes; what comes after is counted, and said in stderr. The
    command ends with the connection. Raises a ReachError, ConnectionLost, RunTimeout.
    """
    out, err = _Kept(), _Kept()
    start = max(settings.health_check.timeout, 2 * settings.ssh.connect_timeout)
    attached = Attached(link_to(node, settings.ssh), spec, run_id=run_id, timeout=start)
    ended = _followed(attached, node, spec, out, err, stop)
    status = STOPPED_STATUS.get(ended.stopped or "", ended.status)
    return Reply(status, out.kept, err.kept + out.note("stdout") + err.note("stderr"))


def _followed(
    attached: Attached, node: Node, spec: RunSpec, out: _Kept, err: _Kept, stop: Stop
) -> Ended:
    try:
        ended = attached.follow(out, err, stop)
    except ConnectionLost as exc:
        raise ConnectionLost(
            f"the connection broke while the command ran: {exc.message}",
            node=node.name,
            hint="the node ends the command once it notices; its exit status is not known",
        ) from exc
    if ended.stopped == TIMEOUT:
        raise RunTimeout(
            f"the command was ended after {spec.timeout:g} s", node=node.name, hint="--timeout"
        )
    return ended


class _Kept:
    """A sink that keeps the first LIMIT bytes and counts the rest."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._dropped = 0

    def __call__(self, data: bytes) -> None:
        room = LIMIT - len(self._data)
        self._data += data[:room]
        self._dropped += max(0, len(data) - room)

    @property
    def kept(self) -> bytes:
        return bytes(self._data)

    def note(self, stream: str) -> bytes:
        if not self._dropped:
            return b""
        return f"gridops: {self._dropped} more bytes of {stream} were not kept\n".encode()
