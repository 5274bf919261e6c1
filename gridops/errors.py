"""Error tree: one class per cause.

Every error carries the node it happened on (when there is one) and a hint that tells the user what
to do next; its class, the exit status and what may be done about it by itself. Errors pickle.
"""

from __future__ import annotations

from collections.abc import Iterable


class GridError(Exception):
    """Base of all errors that gridops raises on purpose; its `str()` is one line for the user.

    A subclass inherits the attributes below, or names its own in its header.
    """

    exit_status = 125
    transient = False  # it may pass by itself: trying again makes sense
    needs_a_person = False  # only a person can mend the way there: no waiting helps
    try_next_node = False  # nothing has begun there, and another node may be able to

    def __init_subclass__(cls, **policy: int) -> None:
        super().__init_subclass__()
        for name, value in policy.items():
            setattr(cls, name, value)

    def __init__(self, message: str, *, node: str | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message, self.node, self.hint = message, node, hint

    def __str__(self) -> str:
        where = f"{self.node}: " if self.node else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}{self.message}{hint}"


class UsageError(GridError, exit_status=2):
    """A flag or value that makes no sense."""


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Hint at the valid name close to `name`: `did you mean X? `; empty without one."""
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
        self.kind, self.name = kind, name

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.kind, self.name, self.valid), self.__dict__


class InventoryError(UsageError):
    """Unusable inventory: `file:line: key: what is wrong`."""

    def __init__(
        self, message: str, *, file: str = "", line: int = 0, key: str = "", hint: str = ""
    ) -> None:
        where = ":".join(part for part in (file, str(line) if line else "", key) if part)
        super().__init__(f"{where}: {message}" if where else message, hint=hint)
        self.file, self.line, self.key = file, line, key


class ReachError(GridError, try_next_node=True):
    """Failure to reach a node."""


class ConnectTimeout(ReachError, transient=True):
    """No answer from the node in time."""


class ConnectRefused(ReachError, transient=True):
    """Connection refused: nothing listens there, or no route leads there."""


class ConnectDropped(ReachError, transient=True):
    """Connection closed by the node before its identification (often sshd's MaxStartups)."""


class ConnectionLost(ReachError, transient=True):
    """Connection that ended while it was in use."""


class SessionRefused(ReachError, transient=True):
    """Refusal by sshd of one more session on this connection (MaxSessions)."""


class HostUnknown(ReachError):
    """Host name that does not resolve."""


class HostKeyUnknown(ReachError, needs_a_person=True):
    """Host key of a node that is not in known_hosts."""


class HostKeyChanged(ReachError, needs_a_person=True):
    """Host key of a node that is not the one in known_hosts."""


class AuthenticationFailed(ReachError, needs_a_person=True):
    """Login refused by the node."""


class NodeError(GridError, try_next_node=True):
    """Failure of a node that was reached: it could not do what was asked of it."""


class NodeTimeout(NodeError):
    """Node that did not finish in the time it was given."""


class ProcessKilled(NodeError):
    """A process on the node that ended without an exit status.

    It was killed; or dropbear is its sshd, which now and then cuts a session off that begins while
    another one of the same connection ends.
    """


class PortClosed(NodeError):
    """No connection to that port of the node: nothing listens there, or its sshd forbids it."""


class ForwardingForbidden(NodeError):
    """Port forwarding forbidden: the node's sshd makes no connections to its ports for us."""


class UnreadableAnswer(NodeError):
    """Malformed answer of a node, or one that does not end."""


class ProbeError(NodeError):
    """Answer of the probe that could not be understood."""


class SyncError(GridError, try_next_node=True):
    """Failure to bring the project tree to a node."""


class TransferLost(SyncError, transient=True):
    """Connection broken during a transfer (rsync's transport codes)."""


class PartialTransfer(SyncError):
    """Transfer in which some files failed; `files` names them (the first thousand).

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


class SourceUnreadable(PartialTransfer, try_next_node=False):
    """Files that cannot be read here, or have changed: another node would not get them either."""


class NoRsync(SyncError):
    """Missing rsync, here or on the node."""


class DiskFull(SyncError):
    """Full disk at the target, or a quota that is used up."""


class NotWritable(SyncError):
    """Target that may not be written to: permissions, or a read-only file system."""


class UnmarkedTarget(SyncError):
    """Existing target directory that gridops did not make."""


class UnsafeTarget(SyncError):
    """Target directory that others may write to or replace by another."""


class NoNode(GridError):
    """No node that can serve the request."""


class RunTimeout(GridError, exit_status=124):
    """Command that ran longer than it was allowed to."""


class OutputError(GridError):
    """Failure to write our own output: the disk behind our stdout is full, say."""


class SandboxError(GridError):
    """Failure to set up the sandbox of sshd nodes on this machine."""


class StoreError(GridError):
    """Failure to write or read metrics and history here."""


class ServeError(GridError):
    """Failure to serve metrics, or to push them."""


class JobError(GridError):
    """Failure of an operation on a durable run."""


class NotStarted(JobError, try_next_node=True):
    """Run that the node will certainly not start; another node may be asked.

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
    """Connection broken while a run was handed over: it may run, so it must not run elsewhere."""


class JobUnreachable(JobError):
    """Unreachable node of a run; the run itself goes on."""


class RunLost(JobError):
    """Lost run `id`: its supervisor was killed, or its node rebooted or shut down unseen."""

    def __init__(
        self, message: str, *, id: str = "", node: str | None = None, hint: str = ""
    ) -> None:
        super().__init__(message, node=node, hint=hint)
        self.id = id


class UnreadableRecord(JobError):
    """Malformed record of a run; the node's other runs are not affected."""


class NoJob(JobError, exit_status=2):
    """Run that the node does not know."""


class RayJobError(GridError):
    """Failure of an operation on a job of the Ray cluster."""


class RayUnavailable(RayJobError, transient=True):
    """No answer from Ray's own servers now."""


class NoRayJob(RayJobError, exit_status=2):
    """Job that the Ray cluster does not know."""


class ClusterError(GridError):
    """Failure of an operation on the Ray cluster."""


class ClusterDown(ClusterError):
    """Ray cluster that is not started."""


class ClusterFailures(ClusterError):
    """Failures on several nodes; `failures` has an error for each."""

    def __init__(self, message: str, *, failures: Iterable[GridError] = (), hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.failures = tuple(failures)
