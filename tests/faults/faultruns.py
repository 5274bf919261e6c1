"""Runs whose output is known beforehand, and with which something goes wrong."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from faultbench import SLOTS, Bench
from support.cli import BIN

from gridops.errors import JobUnreachable, NodeTimeout, NotStarted, ReachError
from gridops.jobs import client, follow
from gridops.jobs.attach import Attachment
from gridops.jobs.spec import JobSpec
from gridops.model import Job
from gridops.system.signals import Cancel

T = TypeVar("T")

SILENCE = 4.0  # seconds: shorter than in earnest, so that long stalls are noticed within a test
PATIENCE = 100.0  # seconds for what the other runs' faults get into the way of
LIMIT = 150.0  # seconds for a client, stalls and all
FAULTS = {
    "none": 15,
    "client": 25,
    "session": 18,
    "sshd": 8,
    "stall": 10,
    "supervisor": 20,
    "logout": 10,
    "shutdown": 10,
}
# What ends the supervisor as well, and the reasons that may then be given for a run that is lost.
LOSING = {
    "supervisor": {"supervisor"},
    "logout": {"shutdown", "supervisor"},
    "shutdown": {"shutdown", "supervisor"},
}
NEVER_BEGAN = {"supervisor", "shutdown"}  # reasons of a run that was ended before it began


@dataclass
class Run:
    """One run; `by_process`: from the command line, as people do."""

    number: int
    fault: str
    by_process: bool
    rng: random.Random
    marks: Path
    expected: tuple[bytes, bytes] = field(init=False)
    code: int = field(init=False)
    seconds: float = field(init=False)  # that it takes, about
    spec: JobSpec = field(init=False)
    id: str = field(init=False)  # "" while a process of ours has not told it
    known: bool = True  # to its node, as far as we have seen
    state: str = "unreached"  # what came of it in the end

    def __post_init__(self) -> None:
        rng = self.rng
        lines, pause = rng.randint(3, 25), rng.randint(1, 6)
        word = str(self.number).rjust(rng.choice((1, 80, 5000)), "0")
        self.seconds = lines * pause / 100
        burst = rng.choice((0, 0, 0, 0, 0, 0, 30_000, 120_000))
        self.code, last = rng.choice(
            (
                (0, ":"),
                (0, ":"),
                (1, "exit 1"),
                (7, "exit 7"),
                (143, "exit 143"),
                (137, "kill -9 $$"),
            )
        )
        # Some do not go by the first signal: the KILL that follows is to find them.
        stubborn = "trap '' TERM HUP; " if rng.random() < 0.2 else ""
        command = (
            f"{stubborn}echo ran >>{self.mark}; w=$(printf '%0{len(word)}d' {self.number}); i=0\n"
            f"while [ $i -lt {lines} ]; do echo out $i $w; echo err $i >&2; sleep 0.0{pause};"
            f" i=$((i+1)); done\nseq {burst}\nprintf '\\0\\377end'; {last}"
        )
        out = "".join(f"out {i} {word}\n" for i in range(lines)).encode()
        out += b"".join(b"%d\n" % n for n in range(1, burst + 1)) + b"\0\xffend"
        self.expected = out, "".join(f"err {i}\n" for i in range(lines)).encode()
        self.spec = JobSpec(command=command, slots=SLOTS, wait=300.0, grace=1)
        self.id = "" if self.by_process else self.spec.id

    @property
    def mark(self) -> Path:
        return self.marks / f"{self.number}.ran"

    @property
    def times(self) -> int:
        """How often it has run."""
        return len(self.mark.read_text().split()) if self.mark.exists() else 0


@dataclass(frozen=True)
class Seen:
    """What came of a run for those at home. `job` None: its node never heard of it."""

    job: Job | None
    out: bytes = b""
    err: bytes = b""
    status: int | None = None  # what its client ended with, when that is a process
    wrong: str = ""


def carry_out(bench: Bench, run: Run) -> Seen:
    """Start the run, let it go wrong, and see it to its end like a patient user."""
    return (_by_process if run.by_process else _by_library)(bench, run)


class Trouble:
    """Makes it go wrong once, at some moment after `ready`."""

    def __init__(self, bench: Bench, run: Run, ready: Callable[[], bool]) -> None:
        self._thread = threading.Thread(target=self._work, args=(bench, run, ready))
        self._over = False
        self._delay = run.rng.uniform(0.0, run.seconds + 0.2)
        self._seconds = run.rng.choice((1.0, 1.5, 2.0, 3.0, 8.0))
        self._grace = run.rng.uniform(0.2, 2.0)
        self._long = run.rng.uniform(15.0, 20.0)  # longer than any client bears in silence
        self._thread.start()

    def join(self) -> None:
        self._over = True
        self._thread.join()

    def _work(self, bench: Bench, run: Run, ready: Callable[[], bool]) -> None:
        while not ready() and not self._over:
            time.sleep(0.01)
        time.sleep(self._delay)
        match run.fault:
            case "session":
                bench.kill_sessions()
            case "sshd":
                bench.restart()
            case "stall":
                bench.proxy.stall(self._seconds)
            case "long stall":
                bench.proxy.stall(self._long)
            case "supervisor":
                bench.kill_supervisor(run.id)
            case "logout":
                bench.end_login(run.id, self._grace)
            case "shutdown":
                bench.shut_down(run.id, self._grace)


# -- from Python -----------------------------------------------------------------------------------


def _by_library(bench: Bench, run: Run) -> Seen:
    out, err = bytearray(), bytearray()
    trouble = Trouble(bench, run, lambda: True)
    try:
        if run.fault == "client":
            _killed_client(bench, run)
        return Seen(_patiently(bench, run, out, err), bytes(out), bytes(err))
    finally:
        trouble.join()


def _patiently(bench: Bench, run: Run, out: bytearray, err: bytearray) -> Job:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            link, cancel = bench.link(), Cancel()
            with Attachment(link, run.spec.id, cancel, silence=SILENCE) as attached:
                attached.start(run.spec)
                return attached.follow(out.extend, err.extend, give_up_after=PATIENCE).job
        except NotStarted as exc:
            if exc.reason not in NEVER_BEGAN:
                raise
            return _job(bench, run.spec.id)
        except (ReachError, JobUnreachable) as exc:
            if time.monotonic() > end or isinstance(exc, JobUnreachable):
                raise
            time.sleep(0.3)  # certainly not started: the same again


CLIENT = """
import json, sys
from pathlib import Path
from gridops.jobs.attach import Attachment
from gridops.jobs.spec import JobSpec
from gridops.model import Node
from gridops.reach import link_to
from gridops.inventory.settings import SshSettings
from gridops.system.signals import Cancel

config, node, spec = sys.argv[1], sys.argv[2], JobSpec(**json.loads(sys.argv[3]))
link = link_to(Node(node, node), SshSettings(config_file=Path(config), connect_timeout=4))
with Attachment(link, spec.id, Cancel()) as attached:
    attached.start(spec)
    attached.follow(len, len)
"""


def _killed_client(bench: Bench, run: Run) -> None:
    """Another process starts the run, and is killed at some moment."""
    spec = {"command": run.spec.command, "id": run.spec.id, "slots": SLOTS}
    spec |= {"wait": run.spec.wait, "grace": run.spec.grace}
    config = str(bench.settings.config_file)
    child = subprocess.Popen(
        [sys.executable, "-c", CLIENT, config, bench.name, json.dumps(spec)],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    with suppress(subprocess.TimeoutExpired):
        child.wait(run.rng.uniform(0.2, 1.5))
    child.kill()
    child.wait(10)


# -- from the command line -------------------------------------------------------------------------


class Client:
    """`gridops WORDS` as a process; its streams go to files."""

    def __init__(self, bench: Bench, where: Path, *words: str) -> None:
        self._files = where.with_suffix(".stdout"), where.with_suffix(".stderr")
        with self._files[0].open("wb") as out, self._files[1].open("wb") as err:
            self.child = subprocess.Popen(
                [str(BIN / "gridops"), *words, "--inventory", str(bench.inventory)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                cwd=where.parent,
                start_new_session=True,
            )

    def wait(self) -> int:
        try:
            return self.child.wait(LIMIT)
        finally:
            self.child.kill()
            self.child.wait()

    @property
    def out(self) -> bytes:
        return self._files[0].read_bytes()

    @property
    def err(self) -> bytes:
        """What the command wrote; our own words may be in the middle of its lines."""
        return re.sub(rb"gridops: [^\n]*\n", b"", self.said)

    @property
    def said(self) -> bytes:
        return self._files[1].read_bytes()

    @property
    def run_id(self) -> str:
        found = re.search(rb"the run is (\S+)\n", self.said)
        return found[1].decode() if found else ""


def _by_process(bench: Bench, run: Run) -> Seen:
    words = ("run", "--no-sync", "--on", bench.name, "--cmd", run.spec.command)
    end = time.monotonic() + PATIENCE
    hit = Client(bench, run.mark, *words)
    status = _disturbed(bench, run, hit)
    while status == 125 and not _known(bench, run) and time.monotonic() < end:
        time.sleep(0.3)  # the node was out of reach; it knows nothing of the run
        hit = Client(bench, run.mark, *words)
        status = hit.wait()
    if status not in (125, -9):
        if not hit.run_id:
            return Seen(None, wrong=f"its client ended with {status}: {hit.said!r}")
        return Seen(_job(bench, hit.run_id), hit.out, hit.err, status)
    return _picked_up(bench, run, hit)


def _disturbed(bench: Bench, run: Run, hit: Client) -> int:
    """What the client ends with while it goes wrong."""
    early = run.rng.random() < 0.25

    def ready() -> bool:
        if hit.run_id:
            run.id = hit.run_id
        return early or bool(run.id)

    trouble = Trouble(bench, run, ready)
    if run.fault == "client":
        time.sleep(run.rng.uniform(0.2, 0.5))
        while not ready() and hit.child.poll() is None:
            time.sleep(0.01)
        time.sleep(run.rng.uniform(0.0, run.seconds + 0.2))
        hit.child.kill()
    try:
        return hit.wait()
    finally:
        trouble.join()


def _picked_up(bench: Bench, run: Run, hit: Client) -> Seen:
    """A fresh process takes up what the client that is no more has left."""
    job_id = hit.run_id or _known(bench, run, patience=2.0)
    if not job_id:
        return Seen(None)
    end = time.monotonic() + PATIENCE
    while True:
        again = Client(bench, run.marks / f"{run.number}.logs", "jobs.logs", job_id, "--follow")
        status = again.wait()
        if b"cannot be reached" not in again.said or time.monotonic() > end:
            break
        time.sleep(0.3)
    wrong = ""
    if not again.out.startswith(hit.out) or not again.err.startswith(hit.err):
        wrong = f"what a fresh process saw does not go on where the killed one was ({again.said!r})"
    return Seen(_job(bench, job_id), again.out, again.err, status, wrong)


# -- what the node knows ---------------------------------------------------------------------------


def _job(bench: Bench, job_id: str) -> Job:
    return _asked(lambda: client.status(bench.link(), [job_id]))[job_id]


def look_again(bench: Bench, run: Run) -> Seen:
    """What has become of a run whose client was killed before anybody had heard of it."""
    job_id = _known(bench, run)
    if not job_id:
        return Seen(None)
    out, err = bytearray(), bytearray()
    end = follow.follow_through(bench.link(), job_id, on_stdout=out.extend, on_stderr=err.extend)
    return Seen(end.job, bytes(out), bytes(err))


def _known(bench: Bench, run: Run, patience: float = 0.0) -> str:
    """The id under which the node knows the run, within `patience` seconds; else ""."""
    end = time.monotonic() + patience
    while True:
        for job in _asked(lambda: client.list_jobs(bench.link())):
            if str(run.mark) in job.command:
                return job.id
        if time.monotonic() >= end:
            return ""
        time.sleep(0.2)


def _asked(question: Callable[[], T]) -> T:
    end = time.monotonic() + PATIENCE  # the others' faults hit these calls as well
    while True:
        try:
            return question()
        except (ReachError, NodeTimeout):
            if time.monotonic() > end:
                raise
            time.sleep(0.3)
