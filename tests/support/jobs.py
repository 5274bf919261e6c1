"""For tests of durable runs: `from support.jobs import …`."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from support.nodes import wait_until

from gridops.jobs import follow
from gridops.jobs.attach import Attachment
from gridops.jobs.follow import JobEnd
from gridops.jobs.spec import JobSpec
from gridops.jobs.start import start_job
from gridops.model import Job
from gridops.reach.link import Link
from gridops.reach.pump import Sink
from gridops.system.signals import Cancel


@dataclass(frozen=True)
class Place:
    """A node, and where its home is on this machine."""

    link: Link
    home: Path
    busybox: bool = False  # it has no other tools
    cuts: bool = False  # its sshd now and then cuts off a session that begins as another ends

    def job(self, job_id: str) -> Path:
        return self.home / ".gridops" / "jobs" / job_id


def shell_path(shell: str, home: Path) -> str:
    """A PATH on which `sh` is that shell; for BusyBox, all the other tools are its own too."""
    directory = home / "shell"
    directory.mkdir()
    if shell == "busybox":
        subprocess.run(["busybox", "--install", "-s", str(directory)], check=True)
        return str(directory)
    (directory / "sh").symlink_to(shutil.which(shell) or shell)
    return f"{directory}:{os.environ['PATH']}"


def run(link: Link, spec: JobSpec, stdout: Sink, stderr: Sink) -> JobEnd:
    """Start the run and follow it to its end, as the executor does."""
    with Attachment(link, spec.id, Cancel()) as attached:
        attached.start(spec)
        return attached.follow(stdout, stderr)


class Kept:
    """Both streams of a run."""

    def __init__(self) -> None:
        self.out = bytearray()
        self.err = bytearray()

    def run(self, place: Place, command: str, **options: object) -> JobEnd:
        spec = JobSpec(command=command, **options)  # type: ignore[arg-type]
        return run(place.link, spec, self.out.extend, self.err.extend)

    def follow(self, place: Place, job_id: str, out: int = 0, err: int = 0) -> JobEnd:
        return follow.follow_through(
            place.link, job_id, out, err, on_stdout=self.out.extend, on_stderr=self.err.extend
        )


def done(place: Place, job_id: str) -> Job:
    """The run, once it has ended."""
    return Kept().follow(place, job_id).job


def start(place: Place, command: str, **options: object) -> str:
    spec = JobSpec(command=command, **options)  # type: ignore[arg-type]
    return start_job(place.link, spec).id


def begun(place: Place, job_id: str) -> None:
    wait_until(lambda: (place.job(job_id) / "child").is_symlink())


def supervisor(place: Place, job_id: str) -> int:
    return int((place.job(job_id) / "sup").readlink().name.split(".")[0])


def pids_with(text: str) -> list[int]:
    """Processes that have `text` in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            if text.encode() in words:
                found.append(int(entry.name))
    return found


def pids_with_environment(text: str) -> list[int]:
    """Processes that have `text` in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if text.encode() in (entry / "environ").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found
