"""What a command leaves that its account may not end (it used sudo, say) is named."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from support.cli import BIN
from support.jobs import Kept, Place, done, pids_with, shell_path, start
from support.nodes import end, find_program, wait_until

from gridops.errors import NodeTimeout
from gridops.jobs import client, foreground
from gridops.jobs.foreground import Ended, ForegroundCommand
from gridops.jobs.outcome import describe_outcome, exit_status
from gridops.model import Leftover, Node, RunSpec
from gridops.reach.local import LocalLink, LocalProcess
from gridops.render.jobs import job_record
from gridops.system.signals import Cancel

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
    return pids_with(f"sleep\0{NAP}\0")


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
    assert describe_outcome(job) == (
        "it was killed by ada@laptop; these processes could not be ended:"
        f" {pid} (root, sleep); run `sudo kill -KILL {pid}` there"
    )
    assert job_record(job, 0.0)["left"] == [{"pid": pid, "user": "root", "name": "sleep"}]
    assert client.list_jobs(place.link) == (job,)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not sleepers())
    job = client.status(place.link, [job_id])[job_id]
    assert job.left == ()
    assert describe_outcome(job) == "it was killed by ada@laptop"


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
    assert describe_outcome(end.job).startswith(
        "it has ended; these processes could not be ended: "
    )


def test_a_run_whose_command_itself_cannot_be_ended_goes_on_and_says_so(
    place: Place, shared: Path
) -> None:
    job_id = start(place, f"exec {as_root(shared)}")
    pid = up(place, job_id)
    job = client.kill(place.link, job_id, grace=0)
    assert (job.state, job.left) == ("running", (Leftover(pid, "root", "sleep"),))
    assert describe_outcome(job).startswith("it still runs; these processes could not be ended")
    os.kill(pid, signal.SIGKILL)
    assert done(place, job_id).left == ()


# -- attached commands (inv exec) ------------------------------------------------------------------


def stopped(place: Place, command: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Ended, bytes]:
    """How a command that is stopped once it is up ends, and its stderr."""
    monkeypatch.setattr(foreground, "GRACE", 1)
    stop, err = Cancel(), bytearray()
    begun = ForegroundCommand(place.link, RunSpec(command), run_id=f"left-{OURS}", timeout=20)
    ended = begun.follow(lambda data: stop.request("SIGINT"), err.extend, stop)
    return ended, bytes(err)


def test_what_outlives_the_stop_of_an_attached_command_is_named(
    place: Place, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended, err = stopped(place, f"{as_root(shared)}; true", monkeypatch)
    (pid,) = sleepers()
    assert ended.stopped == "SIGINT"
    assert ended.left == (
        f"these processes could not be ended: {pid} (root, sleep);"
        f" run `sudo kill -KILL {pid}` there"
    )
    assert err.decode() == f"gridops: {ended.left}\n"


def test_an_attached_command_that_cannot_be_ended_itself_is_named_when_we_give_up(
    place: Place, shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foreground, "END_TIMEOUT", 9.0)
    with pytest.raises(NodeTimeout) as caught:
        stopped(place, f"exec {as_root(shared)}", monkeypatch)
    (pid,) = sleepers()
    said = f"has not ended within 9 s; these processes could not be ended: {pid} (root, sleep)"
    assert said in str(caught.value)


# -- what people see -------------------------------------------------------------------------------

# The account may read this checkout, wherever that lies; nothing else of root's.
READING = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")


@pytest.fixture
def account(shared: Path) -> Path:
    """The home directory of an account, with an inventory of this machine alone."""
    home = shared / "home"
    (home / "run").mkdir(parents=True)
    (home / "one.yaml").write_text("nodes: {here: {connection: local}}\n")
    for path in (home, home / "run"):
        path.chmod(0o700)
        os.chown(path, ACCOUNT, ACCOUNT)
    return home


@contextmanager
def inv(home: Path, task: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    become = (SETPRIV, f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups", *READING)
    env = {name: value for name, value in os.environ.items() if not name.startswith("XDG_")}
    child = subprocess.Popen(
        [*become, str(BIN / "gridops"), task, "--inventory", str(home / "one.yaml"), *words],
        cwd=home,
        env={**env, "HOME": str(home), "GRIDOPS_RUNTIME_DIR": str(home / "run")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )
    try:
        yield child
    finally:
        end([child.pid] if child.poll() is None else [])
        child.communicate(timeout=10)


def told(home: Path, task: str, *words: str) -> tuple[int, str, str]:
    with inv(home, task, *words) as child:
        out, err = child.communicate(timeout=60)
        return child.returncode, out, err


def test_ctrl_c_says_what_of_the_run_goes_on(account: Path, shared: Path) -> None:
    with inv(account, "run", "--no-sync", "--cmd", f"{as_root(shared)}; true") as child:
        wait_until(lambda: bool(sleepers()))
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
        assert child.returncode == 130, err
    (pid,) = sleepers()
    left = (
        f"these processes could not be ended: {pid} (root, sleep);"
        f" run `sudo kill -KILL {pid}` there"
    )
    assert err.splitlines()[-1] == f"gridops: here: the run has ended by SIGTERM; {left}"
    assert left in told(account, "jobs.show", "@last")[1]
    status, _, err = told(account, "jobs.kill", "@last")
    assert status == 125
    assert "had ended already" in err
    assert left in err
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not sleepers())
    assert "could not be ended" not in told(account, "jobs.show", "@last")[1]


def test_a_timeout_says_what_of_the_run_goes_on(account: Path, shared: Path) -> None:
    words = ("--no-sync", "--timeout", "2", "--cmd", f"{as_root(shared)}; true")
    status, _, err = told(account, "run", *words)
    (pid,) = sleepers()
    assert status == 124, err
    assert f"ended after 2 s; these processes could not be ended: {pid} (root, sleep)" in err
