"""What can go wrong, one class a cause.

Every error carries its exit status, the node it happened on (when there is one), a hint that tells
the user what to do next, and whether trying again may help (`transient`). Errors pickle.
"""

from __future__ import annotations

from collections.abc import Iterable


class GridError(Exception):
    """Base of all that gridops raises on purpose; `str()` of it is one line for the user."""

    exit_status = 125
    transient = False

    def __init__(self, message: str, *, node: str | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.node = node
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.node}: " if self.node else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}{self.message}{hint}"


# -- what the user typed ------------------------------------------------------------------------


class UsageError(GridError):
    """A flag or value that makes no sense."""

    exit_status = 2


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """`did you mean X? ` for the valid name that is close to `name`; empty without one."""
    from difflib import get_close_matches  # 3 ms that only a mistake costs

    close = get_close_matches(name, valid, 1)
    return f"did you mean {close[0]}? " if close else ""


class UnknownNameError(UsageError):
    """A name that is not among the valid ones; the message lists those (the first few)."""

    def __init__(self, kind: str, name: str, valid: Iterable[str]) -> None:
        self.valid = tuple(valid)
        shown = ", ".join(self.valid[:12]) + (", …" if len(self.valid) > 12 else "")
        hint = f"{did_you_mean(name, self.valid)}valid: {shown or 'none'}"
        super().__init__(f"unknown {kind} {name!r}", hint=hint)
        self.kind = kind
        self.name = name

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.kind, self.name, self.valid), self.__dict__


class InventoryError(UsageError):
    """The inventory cannot be used: `file:line: key: what is wrong`."""

    def __init__(
        self, message: str, *, file: str = "", line: int = 0, key: str = "", hint: str = ""
    ) -> None:
        where = ":".join(part for part in (file, str(line) if line else "", key) if part)
        super().__init__(f"{where}: {message}" if where else message, hint=hint)
        self.file = file
        self.line = line
        self.key = key


# -- reaching a node ----------------------------------------------------------------------------


class ReachError(GridError):
    """The node could not be reached."""


class ConnectTimeout(ReachError):
    """The node did not answer in time."""

    transient = True


class ConnectRefused(ReachError):
    """Nothing listens there, or no route leads there."""

    transient = True


class ConnectDropped(ReachError):
    """The node closed the connection before it said who it is (often sshd's MaxStartups)."""

    transient = True


class ConnectionLost(ReachError):
    """The connection ended while it was in use."""

    transient = True


class SessionRefused(ReachError):
    """sshd refused one more session on this connection (MaxSessions)."""

    transient = True


class HostUnknown(ReachError):
    """The host name does not resolve."""


class HostKeyUnknown(ReachError):
    """The node's host key is not in known_hosts."""


class HostKeyChanged(ReachError):
    """The node shows another host key than the one in known_hosts."""


class AuthenticationFailed(ReachError):
    """The node refused the login."""


class NodeError(GridError):
    """The node was reached but could not do what was asked of it."""


class NodeTimeout(NodeError):
    """The node did not finish in the time it was given."""


class ProcessKilled(NodeError):
    """A process on the node ended without an exit status.

    It was killed; or dropbear is its sshd, which now and then cuts a session off that begins while
    another one of the same connection ends.
    """


class PortClosed(NodeError):
    """No connection to that port of the node: nothing listens there, or its sshd forbids it."""


class ForwardingForbidden(NodeError):
    """The node's sshd makes no connections to its ports for us."""


class UnreadableAnswer(NodeError):
    """The node's answer is not what it should be, or does not end."""


class ProbeError(NodeError):
    """The probe's answer could not be understood."""


# -- moving files, running commands -------------------------------------------------------------


class SyncError(GridError):
    """The project tree could not be brought to the node."""


class TransferLost(SyncError):
    """The connection broke during a transfer (rsync's transport codes)."""

    transient = True


class PartialTransfer(SyncError):
    """Some files could not be transferred; `files` names them (the first thousand).

    `vanished`: the only reason was that they were deleted here meanwhile.
    """

    def __init__(
        self,
        message: str,
        *,
        files: Iterable[str] = (),
        vanished: bool = False,
        node: str | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message, node=node, hint=hint)
        self.files = tuple(files)
        self.vanished = vanished


class SourceUnreadable(PartialTransfer):
    """Files cannot be read here, or have changed: another node would not get them either."""


class NoRsync(SyncError):
    """rsync is missing, here or on the node."""


class DiskFull(SyncError):
    """No room is left there, or the quota is used up."""


class NotWritable(SyncError):
    """The place may not be written to: permissions, or a read-only file system."""


class UnmarkedTarget(SyncError):
    """The target directory exists and gridops did not make it."""


class UnsafeTarget(SyncError):
    """Others may write to the target directory, or put another in its place."""


class NoNode(GridError):
    """No node can serve the request."""


class RunTimeout(GridError):
    """The command ran longer than it was allowed to."""

    exit_status = 124


class OutputError(GridError):
    """What we have to say cannot be written: the disk behind our stdout is full, say."""


class SandboxError(GridError):
    """The sandbox of sshd nodes on this machine cannot be had."""


class StoreError(GridError):
    """Metrics and history cannot be written or read here."""


class ServeError(GridError):
    """Metrics cannot be served, or not be pushed."""


# -- durable runs -------------------------------------------------------------------------------


class JobError(GridError):
    """A durable run could not be dealt with."""


class NotStarted(JobError):
    """The node will certainly not run it; another one may be asked.

    `reason` is busy, gpus, nospace, snapshot, rebooted, cancelled, killed, supervisor, short or
    error; for busy, `holders` are the ids of the runs that have the node's slots.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str = "error",
        holders: Iterable[str] = (),
        node: str | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message, node=node, hint=hint)
        self.reason = reason
        self.holders = tuple(holders)


class StartUnknown(JobError):
    """The connection broke while it was handed over: it may run, so it must not run elsewhere."""


class JobUnreachable(JobError):
    """The node of a run cannot be reached; the run itself goes on."""


class RunLost(JobError):
    """The run `id` did not end by itself, or nobody saw how: its supervisor was killed, its node
    rebooted or shut down."""

    def __init__(
        self, message: str, *, id: str = "", node: str | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, node=node, hint=hint)
        self.id = id


class UnreadableRecord(JobError):
    """The node's record of a run is not what it should be; its other runs are not affected."""


class NoJob(JobError):
    """The node knows no such run."""

    exit_status = 2


# -- Ray jobs -----------------------------------------------------------------------------------


class RayJobError(GridError):
    """A job of the Ray cluster could not be dealt with."""


class RayUnavailable(RayJobError):
    """Ray's own servers cannot answer now."""

    transient = True


class NoRayJob(RayJobError):
    """The cluster knows no such job."""

    exit_status = 2


# -- the Ray cluster ----------------------------------------------------------------------------


class ClusterError(GridError):
    """The Ray cluster could not be dealt with."""


class ClusterDown(ClusterError):
    """The Ray cluster is not started."""


class ClusterFailures(ClusterError):
    """What went wrong on several nodes; `failures` has an error for each."""

    def __init__(
        self,
        message: str,
        *,
        failures: Iterable[GridError] = (),
        node: str | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message, node=node, hint=hint)
        self.failures = tuple(failures)
