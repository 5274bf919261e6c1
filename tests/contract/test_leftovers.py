"""What a command leaves that its account may not end (it used sudo, say) is named."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from helpers import find_program, wait_until
from jobhelpers import Kept, Place, done, pids_with, shell_path, start

from gridops.jobs import client
from gridops.jobs.verdict import exit_status, verdict
from gridops.model import Leftover, Node
from gridops.reach.local import LocalLink, LocalProcess
from gridops.render.jobs import job_record

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a second account needs root")

ACCOUNT = 54321  # that nobody has
SETPRIV = find_program("setpriv")  # BusyBox's knows less
OURS = os.getpid()
NAP = f"4730.{OURS}"  # seconds that root's process sleeps: others may run the same tests beside us


class AccountLink(LocalLink):
    """A link to this machine as an account without any right of root's."""

    def start(self, command: str, *, timeout: float) -> LocalProcess:
        del timeout
        ids = (f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups")
        return LocalProcess(shlex.join((SETPRIV, *ids, "sh", "-c", command)))


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that all reach, with `become`, which gives root's rights as sudo does."""
    path = Path(f"/tmp/gridops-leftovers-{OURS}")
    path.mkdir(mode=0o755)
    shutil.copy(SETPRIV, path / "become")
    (path / "become").chmod(0o4755)
    yield path
    for pid in sleepers():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(path)


@pytest.fixture(params=("dash", "bash", "busybox"))
def place(
    request: pytest.FixtureRequest, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    home = shared / "home"
    home.mkdir(mode=0o755)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PATH", shell_path(request.param, home))
    os.chown(home, ACCOUNT, ACCOUNT)
    made = Place(AccountLink(Node("here", "localhost", connection="local")), home)
    yield made
    for job in client.list_jobs(made.link):
        if job.active:
            client.kill(made.link, job.id, grace=0)


def sleepers() -> list[int]:
    """Root's processes of this test."""
    return pids_with(NAP)


def as_root(shared: Path) -> str:
    """A command, sudo's like, whose process is root's and ignores TERM."""
    text = f"trap '' TERM; echo up; exec sleep {NAP}"
    return shlex.join((str(shared / "become"), "--reuid=0", "--clear-groups", "sh", "-c", text))


def up(place: Place, job_id: str) -> int:
    """The pid of root's process, once it runs."""
    wait_until(lambda: (place.job(job_id) / "out").read_bytes() == b"up\n" and bool(sleepers()))
    (pid,) = sleepers()
    return pid


def test_what_outlives_a_kill_is_named_for_as_long_as_it_runs(place: Place, shared: Path) -> None:
    job_id = start(place, f"{as_root(shared)}; true")
    pid = up(place, job_id)
    job = client.kill(place.link, job_id, by="ada@laptop", grace=0)
    assert (job.state, job.left) == ("killed", (Leftover(pid, "root", "sleep"),))
    assert verdict(job) == (
        "it was killed by ada@laptop; what could not be ended still runs there:"
        f" {pid} (root, sleep): `sudo kill -KILL {pid}` there ends it"
    )
    assert job_record(job, 0.0)["left"] == [{"pid": pid, "user": "root", "name": "sleep"}]
    assert client.list_jobs(place.link) == (job,)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not sleepers())
    job = client.status(place.link, [job_id])[job_id]
    assert job.left == ()
    assert verdict(job) == "it was killed by ada@laptop"


def test_what_outlives_a_timeout_is_named(place: Place, shared: Path) -> None:
    job_id = start(place, f"{as_root(shared)}; true", timeout=1, grace=0)
    pid = up(place, job_id)
    job = done(place, job_id)
    assert (job.state, exit_status(job)) == ("timed out", 124)
    assert job.left == (Leftover(pid, "root", "sleep"),)


def test_what_a_command_leaves_in_the_background_is_named(place: Place, shared: Path) -> None:
    command = f"{as_root(shared)} >up & until [ -s up ]; do sleep 0.1; done"
    end = Kept().run(place, command)
    assert (end.job.state, exit_status(end.job)) == ("finished", 0)
    (left,) = end.job.left
    assert left.pid in sleepers()
    assert verdict(end.job).startswith("it has ended; what could not be ended still runs there: ")


def test_a_run_whose_command_itself_cannot_be_ended_goes_on_and_says_so(
    place: Place, shared: Path
) -> None:
    job_id = start(place, f"exec {as_root(shared)}")
    pid = up(place, job_id)
    job = client.kill(place.link, job_id, grace=0)
    assert (job.state, job.left) == ("running", (Leftover(pid, "root", "sleep"),))
    assert verdict(job).startswith("it could not be ended; what could not be ended still runs")
    os.kill(pid, signal.SIGKILL)
    assert done(place, job_id).left == ()
