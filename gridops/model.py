"""Frozen values that the packages exchange. No I/O here, no behaviour beyond small properties."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar

from gridops.errors import GridError

T = TypeVar("T")

State = Literal["healthy", "degraded", "unreachable"]
RayRole = Literal["head", "worker"]


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of the inventory, its defaults already applied."""

    name: str
    host: str
    user: str | None = None  # None: whatever OpenSSH resolves
    port: int | None = None  # None: whatever OpenSSH resolves
    connection: Literal["ssh", "local"] = "ssh"
    tags: tuple[str, ...] = ()
    slots: int = 1
    env_setup: str = ""
    remote_root: str = "~/gridops"
    ray: Mapping[str, object] = field(default_factory=dict, hash=False)  # as the inventory says


@dataclass(frozen=True, slots=True)
class Outcome(Generic[T]):
    """Result of one node in a fan-out: a value or an error, never both."""

    node: Node
    value: T | None = None
    error: GridError | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return self.error is None


@dataclass(frozen=True, slots=True)
class Gpu:
    """One accelerator; a figure that the driver does not tell is None."""

    index: int
    uuid: str
    name: str
    memory_total_mib: int | None
    memory_used_mib: int | None
    utilization_percent: float | None
    temperature_c: float | None
    processes: int = 0  # compute processes on it, whoever owns them
    other_processes: int = 0  # those of them that belong to another user than ours
    vendor: Literal["nvidia", "amd"] = "nvidia"
    lease: str | None = None  # the durable run that has it

    @property
    def free(self) -> bool:
        """True if a run may have it: nobody's processes are on it, and no run has it."""
        return not self.processes and self.lease is None


@dataclass(frozen=True, slots=True)
class Cpu:
    cores: int
    load1: float
    load5: float
    load15: float
    percent: float  # busy share of all cores over the probe's sampling window, 0 to 100


@dataclass(frozen=True, slots=True)
class Space:
    """Memory or disk; `percent` is the used share, 0 to 100."""

    total_bytes: int
    available_bytes: int
    percent: float
    path: str | None = None  # disks only: as the inventory spells it


@dataclass(frozen=True, slots=True)
class Jobs:
    """The durable runs of a node."""

    running: int  # those that hold a slot
    slots: int  # how many may, as the inventory says
    queued: int = 0  # those that wait for one

    @property
    def full(self) -> bool:
        """True if another run would have to wait; none overtakes those that do already."""
        return self.running >= self.slots or self.queued > 0


@dataclass(frozen=True, slots=True)
class NodeHealth:
    """Result of a probe. An unreachable node has `error` and no figures."""

    node: Node
    state: State
    score: float | None = None  # 0 idle to 100 full, lower is better
    reasons: tuple[str, ...] = ()
    latency_ms: float | None = None
    error: str | None = None
    cpu: Cpu | None = None
    memory: Space | None = None
    disk: Space | None = None
    gpus: tuple[Gpu, ...] = ()
    gpu_error: str | None = None  # why the GPUs could not be read, when a driver is there
    setup_error: str | None = None  # why no command can begin there; it is among the reasons
    jobs: Jobs | None = None
    uptime_s: float | None = None
    users: tuple[str, ...] = ()  # who is logged in
    ray: RayRole | None = None  # its part in a Ray cluster of gridops


@dataclass(frozen=True, slots=True)
class SyncReport:
    """Changes made by a sync, or with `dry_run` to be made. Paths are relative to the tree."""

    node: Node
    source: str
    target: str
    files: int = 0  # regular files transferred
    bytes: int = 0  # bytes on the wire, both ways
    seconds: float = 0.0
    total_files: int = 0  # what belongs to the tree
    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    dry_run: bool = False


JobState = Literal[
    "queued",
    "held",  # it has its slot and waits for the word to begin
    "running",
    "finished",
    "timed out",
    "killed",
    "lost",  # the node rebooted or shut down, or its supervisor was killed
    "refused",  # it never began
    "unknown",  # its node does not answer
    "unreadable",  # its record on the node is not what it should be
]


@dataclass(frozen=True, slots=True)
class Leftover:
    """Process of a run that could not be ended and still runs."""

    pid: int
    user: str
    name: str  # of its program


@dataclass(frozen=True, slots=True)
class Job:
    """A durable run as its node tells of it. Times are seconds since the epoch, by its clock."""

    id: str
    node: str
    state: JobState
    command: str = ""  # its first 4000 characters; `jobs.show` has all
    user: str = ""  # who started it: user@machine
    began: bool = (
        False  # whether the command was ever begun; only one that was not may run elsewhere
    )
    submitted: float | None = None
    started: float | None = None
    ended: float | None = None
    seconds: float | None = None  # how long the command took
    status: int | None = None  # as a shell says it: 128 + n after signal n
    signal: int | None = None  # what ended the command
    reason: str = ""  # exit, timeout, killed, supervisor, rebooted, shutdown, busy, gpus, …
    by: str = ""  # who killed it
    timeout: float | None = None  # seconds
    gpus: tuple[str, ...] = ()  # the GPUs that it was leased: UUIDs, or numbers (AMD)
    gpus_wanted: int = 0
    out_bytes: int = 0
    err_bytes: int = 0
    cut: str = ""  # why output is missing: "full" (the disk) or "cap" (the log cap)
    orphan: bool = False  # lost, and processes of it are still there
    cwd: str = ""
    tree: str = ""  # the synced tree that it uses
    isolated: bool = False  # it has a snapshot of that tree
    commit: str = ""
    diff: str = ""  # where, on the node, the uncommitted changes are
    diff_bytes: int = 0
    why: str = ""  # why this node
    placed: str = ""  # what whoever started it calls its node; others may share that one's home
    env: tuple[str, ...] = ()  # the variables that it was given; no record has their values
    error: str = ""  # what is wrong with its record, when it is unreadable
    left: tuple[Leftover, ...] = ()  # of other users, most likely; ten at most

    @property
    def active(self) -> bool:
        """True if it has, or waits for, a slot."""
        return self.state in ("queued", "held", "running") or self.orphan


@dataclass(frozen=True, slots=True)
class Reply:
    """Exit status and output of one short command on a node."""

    status: int  # 128 + n when it died of signal n
    stdout: bytes = b""
    stderr: bytes = b""
    latency: float | None = None  # seconds from the open session to the first word of its shell


@dataclass(frozen=True, slots=True)
class PortForward:
    """Local port forward: from 127.0.0.1 of this machine to localhost of the node."""

    remote: int  # on the node
    local: int | None = None  # None: one that is free


@dataclass(frozen=True, slots=True)
class RunSpec:
    """A command to run and its needs; everything the executor has to know."""

    command: str  # shell text, run by bash where the node has it, else sh
    src: str | None = None  # the tree to sync; None: run in the node's home
    sync: bool = True
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float | None = None  # seconds that the command may take
    gpus: int = 0  # how many GPUs it needs to itself
    wait: float | None = None  # seconds that it may wait for a slot; None: a full grid is an error
    isolate: bool = False  # it runs in a snapshot of the tree
    fresh: bool = False  # it runs in a directory that has nothing but the tree
    ports: tuple[PortForward, ...] = ()  # that lead to the node while we stay
    fetch: tuple[str, ...] = ()  # what is brought home at the end: files, directories, wildcards
    overwrite: bool = False  # and takes the place of files that are newer here
    log_cap: int | None = None  # bytes of each stream that the node keeps, in steps of 512
    give_up_after: float | None = None  # seconds without the node; None: it is waited for
    kill_on_exit: bool = False  # SIGTERM and a closed terminal end it, rather than leave it
    restart_lost: bool = False  # run it again when nobody saw how it ended


@dataclass(frozen=True, slots=True)
class RunResult:
    node: Node
    status: int
    seconds: float
    run_id: str
    sync: SyncReport | None = None
    stopped: str | None = None  # why we ended it: a signal's name, or that nobody read its output
    left: str | None = None  # the signal that made us leave it; it goes on


@dataclass(frozen=True, slots=True)
class FetchReport:
    """Outcome of a fetch. Names are printable, and relative to `into`."""

    node: Node
    into: str
    matched: int = 0  # names that the patterns matched and that may come; a directory is one
    new: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()  # not replaced: newer here, and different
    skipped: tuple[str, ...] = ()  # neither file, directory nor symlink, or a symlink leading out
    missing: tuple[str, ...] = ()  # patterns that match nothing
    unwritten: tuple[str, ...] = ()  # patterns that match nothing that the run wrote
    older: int = 0  # files that match and that the run did not write
    later: tuple[str, ...] = ()  # files that changed after the run's end; names as on the node
    bytes: int = 0  # on the wire, both ways
    seconds: float = 0.0

    @property
    def files(self) -> int:
        """Number of files that came home."""
        return len(self.new) + len(self.replaced)

    @property
    def found(self) -> bool:
        """True if there was anything to bring."""
        return self.matched > 0
