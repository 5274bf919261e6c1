"""The rsync program of this machine, run as a child: its abilities, and one transfer with it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from gridops.errors import GridError, NodeTimeout, NoRsync, PartialTransfer, SyncError
from gridops.observe import events
from gridops.reach.pump import pump
from gridops.system.child import Child, ShuttingDown
from gridops.transfers.errors import RsyncErrors, TransferTarget, error_of
from gridops.transfers.output import OUT_FORMAT, Output, Progress, Transfer

RESERVE = 128 * 1024  # bytes of a command line that sources leave to everything else
PACKING = (3, 2, 0)  # the first rsync whose compression does not slow a fast network down
NANOSECONDS = (3, 1, 3)  # the first rsync that can tell apart what was written in one second
MAX_PARENTS = 16  # directories that a file may bring along, on the average
STALL_TIMEOUT = 300  # seconds without a byte after which rsync itself gives up

_asking = threading.Lock()


@dataclass(frozen=True, slots=True)
class RsyncProgram:
    """An rsync program; `version` is (0, 0, 0) for one that is not Samba's rsync (openrsync)."""

    path: str
    version: tuple[int, int, int]

    @property
    def reporting(self) -> list[str]:
        """Options for the output that `gridops.transfers.output` reads."""
        modern = ["--info=progress2", "--outbuf=L"] if self.version >= (3, 1, 0) else []
        return [OUT_FORMAT, "--stats", *modern]

    @property
    def lenient(self) -> list[str]:
        """The option to pass over sources that have vanished."""
        return ["--ignore-missing-args"] if self.version >= (3, 1, 0) else []

    @property
    def literal(self) -> list[str]:
        """The option that keeps the paths away from the remote shell."""
        return ["-s"] if self.version >= (3, 0, 0) else []


def rsync_program() -> RsyncProgram:
    """The rsync that PATH finds. Raises NoRsync."""
    path = shutil.which("rsync")
    if path is None:
        raise NoRsync("there is no rsync on this machine", hint="install rsync here")
    with _asking:  # of many threads that sync at once, one
        return _describe(path)


@lru_cache(maxsize=8)
def _describe(path: str) -> RsyncProgram:
    try:
        done = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise NoRsync(f"{path} does not run: {exc}", hint="reinstall rsync here") from exc
    match = re.match(rb"rsync\s+version v?(\d+)\.(\d+)(?:\.(\d+))?", done.stdout)
    if match is None:
        return RsyncProgram(path, (0, 0, 0))
    major, minor, patch = (int(part or 0) for part in match.groups())
    return RsyncProgram(path, (major, minor, patch))


@dataclass(frozen=True, slots=True)
class RsyncCall:
    """One run of rsync: `options`, then `sources`, then `target`."""

    options: Sequence[str]
    sources: Sequence[str | bytes]
    target: str
    place: TransferTarget
    shell: str | None = None  # what reaches the node (-e); None: no node, or the user's own -e
    cwd: str | None = None


def run(
    job: RsyncCall,
    *,
    timeout: float | None,
    on_stdout: Callable[[bytes], None],
    on_stderr: Callable[[bytes], None],
    env: dict[str, str] | None = None,
) -> int:
    """Run it and return its exit status; 128 + n: killed by signal n.

    Never a shell line; whatever ends the wait (an error, Ctrl-C) ends rsync too.
    Raises NodeTimeout after `timeout` seconds and NoRsync.
    """
    try:
        child = _Rsync(command(job), cwd=job.cwd, env=env or clean_environment())
    except ShuttingDown as exc:
        raise SyncError(str(exc), node=job.place.node) from exc
    except OSError as exc:
        raise NoRsync(f"cannot start rsync: {exc}", node=job.place.node) from exc
    try:
        return pump(child, on_stdout=on_stdout, on_stderr=on_stderr, timeout=timeout)
    except NodeTimeout as exc:
        raise NodeTimeout(
            f"the transfer did not end within {timeout:g} s", node=job.place.node
        ) from exc
    finally:
        child.close()


class _Rsync(Child):
    """A running rsync, as `pump` takes a Process."""

    def wait(self, timeout: float | None = None) -> int:
        try:
            return super().wait(timeout)
        except TimeoutError as exc:
            raise NodeTimeout(str(exc)) from None


def command(job: RsyncCall) -> list[str | bytes]:
    """The argument vector."""
    shell = ["-e", job.shell] if job.shell else []
    return [rsync_program().path, *job.options, *shell, "--", *job.sources, job.target]


def clean_environment() -> dict[str, str]:
    """Our environment, less all that changes rsync's behaviour or its messages' language."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RSYNC_")}
    return {**kept, "LC_ALL": "C"}


def transfer(
    job: RsyncCall,
    record: Callable[[Transfer], None],
    *,
    timeout: float,
    on_progress: Progress | None = None,
    items: bool = True,
) -> None:
    """Run it, in batches where one command line cannot hold the sources.

    `record` gets what each run did (without `items`: no names of files), also of one that fails.
    Files that are deleted here meanwhile are passed over with a warning event. Raises
    PartialTransfer, DiskFull, NotWritable, NoRsync, TransferLost (which may pass), NodeTimeout
    after `timeout` seconds in all, UnreadableAnswer, or a ReachError.
    """
    end = time.monotonic() + timeout
    options = [*job.options, *_capable().reporting, f"--timeout={STALL_TIMEOUT}"]
    batches = tuple(in_batches(job.sources, _room()))
    partial = None
    for index, batch in enumerate(batches):
        most = MAX_PARENTS * (len(batch) + 1000) if items else 0
        output, said = Output(_share(on_progress, index, len(batches)), most), RsyncErrors()
        try:
            status = run(
                replace(job, options=options, sources=batch),
                timeout=max(0.001, end - time.monotonic()),
                on_stdout=output,
                on_stderr=said,
            )
        finally:
            record(output.result())
        if status:
            partial = _raise_unless_partial(error_of(status, said, job.place)) or partial
    if partial:
        raise partial


def _capable() -> RsyncProgram:
    found = rsync_program()
    if found.version < (3, 0, 0):
        raise NoRsync(f"{found.path} is not rsync 3.0 or later", hint="install Samba's rsync here")
    return found


def _raise_unless_partial(error: GridError) -> PartialTransfer | None:
    """Error to raise once everything else is there; other errors are raised now."""
    if not isinstance(error, PartialTransfer):
        raise error
    if error.vanished:
        events.emit(events.WARNING, message=str(error))
        return None
    return error


def _share(on_progress: Progress | None, index: int, runs: int) -> Progress | None:
    """Progress of all runs from that of run number `index`."""
    if on_progress is None or runs == 1:
        return on_progress
    report = on_progress
    return lambda percent, count: report((100 * index + percent) // runs, count)


def _room() -> int:
    """Bytes of sources that one command line may hold; the rest is environment and reserve."""
    try:
        most = os.sysconf("SC_ARG_MAX")
    except (ValueError, OSError):
        most = 256 * 1024
    environment = sum(len(name) + len(value) + 10 for name, value in os.environb.items())
    return min(max(most - environment - RESERVE, RESERVE), 4 * 1024 * 1024)


def in_batches(names: Iterable[str | bytes], room: int) -> Iterator[list[str | bytes]]:
    """Lists of the names, in order; as arguments each takes `room` bytes at most."""
    batch: list[str | bytes] = []
    used = 0
    for name in names:
        size = len(os.fsencode(name)) + 1 + 8  # its end and the pointer to it
        if batch and used + size > room:
            yield batch
            batch, used = [], 0
        batch.append(name)
        used += size
    if batch:
        yield batch
