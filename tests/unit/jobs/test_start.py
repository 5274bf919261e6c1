"""Handing a run over a connection that breaks: never twice, and what is unknown is said."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.jobs import Kept, Place, done
from support.nodes import wait_until

from gridops.errors import (
    ConnectionLost,
    ConnectTimeout,
    JobUnreachable,
    NotStarted,
    ProcessKilled,
    StartUnknown,
)
from gridops.jobs import client, follow
from gridops.jobs.attach import Attachment
from gridops.jobs.spec import JobSpec
from gridops.jobs.start import start_job
from gridops.model import Node
from gridops.reach.local import LocalLink, LocalProcess
from gridops.reach.pump import Process
from gridops.system.signals import Cancel


class Deaf:
    """A process whose answers are lost on the way."""

    def __init__(self, process: LocalProcess) -> None:
        self._process = process
        self.stdin = process.stdin
        self.stdout, end = os.pipe()
        self.stderr, other = os.pipe()
        os.close(end)
        os.close(other)

    def wait(self, timeout: float | None = None) -> int:
        self._process.wait(10)
        raise ConnectionLost("the connection ended")

    def close_stdin(self) -> None:
        self._process.close_stdin()

    def close(self) -> None:
        self._process.close()
        os.close(self.stdout)
        os.close(self.stderr)


class Mute:
    """A process whose answer arrives, but not its status."""

    def __init__(self, process: LocalProcess) -> None:
        self._process = process
        self.stdin, self.stdout, self.stderr = process.stdin, process.stdout, process.stderr
        self.close_stdin, self.close = process.close_stdin, process.close

    def wait(self, timeout: float | None = None) -> int:
        self._process.wait(10)
        raise ProcessKilled("the process was killed on the node")


class Flaky(LocalLink):
    """The first sessions go wrong in the ways that `faults` says, one after the other."""

    def __init__(self, *faults: str) -> None:
        super().__init__(Node("here", "localhost", connection="local"))
        self.faults = list(faults)
        self.commands: list[str] = []

    def start(self, command: str, *, timeout: float) -> Process:  # type: ignore[override]
        fault = self.faults.pop(0) if self.faults else ""
        self.commands.append(command)
        if fault == "unreachable":
            raise ConnectTimeout("no answer")
        process = super().start(command, timeout=timeout)
        return {"deaf": Deaf, "mute": Mute}[fault](process) if fault else process


@pytest.fixture
def marks(home: Path) -> Path:
    client.list_jobs(Flaky())  # places the script
    return home / "marks"


def no_sleep(seconds: float) -> None:
    pass


def test_a_start_whose_answer_was_lost_is_repeated_and_runs_once(marks: Path, home: Path) -> None:
    link = Flaky("deaf", "unreachable", "deaf")
    spec = JobSpec(command=f"echo ran >>{marks}")
    reply = start_job(link, spec, sleep=no_sleep)
    assert reply.state == "exists"
    assert done(Place(link, home), spec.id).status == 0
    assert marks.read_text() == "ran\n"


def test_a_run_whose_first_answer_was_lost_is_followed_all_the_same(marks: Path) -> None:
    link = Flaky("deaf")
    kept, spec = Kept(), JobSpec(command=f"echo ran | tee -a {marks}")
    with Attachment(link, spec.id, Cancel(), sleep=no_sleep) as attached:
        assert attached.start(spec).state == "exists"
        end = attached.follow(kept.out.extend, kept.err.extend)
    assert (end.job.status, kept.out) == (0, b"ran\n")
    assert marks.read_text() == "ran\n"


class Recording(LocalLink):
    """Remembers the sessions that it has opened, for a test to cut."""

    def __init__(self) -> None:
        super().__init__(Node("here", "localhost", connection="local"))
        self.sessions: list[LocalProcess] = []
        self.verbs: list[str] = []

    def start(self, command: str, *, timeout: float) -> LocalProcess:
        self.sessions.append(super().start(command, timeout=timeout))
        self.verbs.append(command.split()[4])
        return self.sessions[-1]

    def cut(self) -> None:
        os.killpg(self.sessions[-1]._child.pid, signal.SIGKILL)


@pytest.mark.parametrize("cut", [False, True])
def test_a_held_run_begins_once_when_its_tree_is_there_also_over_a_new_connection(
    marks: Path, cut: bool
) -> None:
    link, kept = Recording(), Kept()
    spec = JobSpec(command=f"echo ran | tee -a {marks}", hold=30.0)
    with Attachment(link, spec.id, Cancel(), sleep=no_sleep) as attached:
        assert attached.start(spec).state == "held"
        assert client.status(Flaky(), [spec.id])[spec.id].state == "held"
        assert not marks.exists()
        if cut:
            link.cut()
        attached.confirm()
        end = attached.follow(kept.out.extend, kept.err.extend)
    assert (end.job.status, kept.out) == (0, b"ran\n")
    assert link.verbs == (["run", "begin"] if cut else ["run"])
    assert marks.read_text() == "ran\n"


def test_a_held_run_whose_tree_does_not_come_is_not_started_again(marks: Path) -> None:
    link, spec = Recording(), JobSpec(command=f"echo ran >>{marks}", hold=0.3)
    with Attachment(link, spec.id, Cancel(), sleep=no_sleep) as attached:
        attached.start(spec)
    assert link.verbs == ["run"]
    wait_until(lambda: client.status(link, [spec.id])[spec.id].state == "refused")
    assert not marks.exists()


def drop(data: bytes) -> None:
    pass


def test_an_answer_that_arrived_whole_needs_no_status(marks: Path) -> None:
    link = Flaky("mute")
    assert client.list_jobs(link) == ()
    assert len(link.commands) == 1


def test_what_may_be_asked_twice_is_asked_again_when_its_answer_was_lost(marks: Path) -> None:
    spec = JobSpec(command="true", diff="x\n" * 5)
    start_job(Flaky(), spec)
    assert [job.id for job in client.list_jobs(Flaky("deaf", "deaf"))] == [spec.id]
    assert client.diff(Flaky("deaf"), spec.id) == b"x\n" * 5
    link = Flaky(*["deaf"] * 99)
    with pytest.raises(ConnectionLost):
        client.list_jobs(link)
    assert len(link.commands) < 10


def test_an_id_that_is_taken_is_not_said_to_run_before_that_is_known(marks: Path) -> None:
    spec = JobSpec(command="true")
    client.kill(Flaky(), spec.id)
    with pytest.raises(NotStarted) as caught:
        start_job(Flaky("", "unreachable"), spec, sleep=no_sleep)
    assert caught.value.reason == "cancelled"
    with pytest.raises(StartUnknown):
        start_job(Flaky("", *["unreachable"] * 50), spec, give_up_after=0, sleep=no_sleep)


def test_a_node_that_was_never_reached_certainly_runs_nothing(marks: Path) -> None:
    link = Flaky("unreachable")
    with pytest.raises(ConnectTimeout):
        start_job(link, JobSpec(command="true"), sleep=no_sleep)
    assert len(link.commands) == 1


def test_a_start_that_stays_ambiguous_is_said_to_be_unknown(marks: Path) -> None:
    link = Flaky("deaf", *["unreachable"] * 50)
    spec = JobSpec(command=f"echo ran >>{marks}")
    with pytest.raises(StartUnknown, match="may run"):
        start_job(link, spec, give_up_after=0, sleep=no_sleep)
    wait_until(marks.exists)


def test_a_refusal_after_an_ambiguous_attempt_seals_the_id(marks: Path, home: Path) -> None:
    holder = start_job(Flaky(), JobSpec(command="sleep 300"))
    first = JobSpec(command=f"echo ran >>{marks}")

    class Cut(Flaky):
        def start(self, command: str, *, timeout: float) -> Process:  # type: ignore[override]
            if not self.commands:  # what the first attempt sent is still on its way
                command = "cat >/dev/null"
            return super().start(command, timeout=timeout)

    with pytest.raises(NotStarted) as caught:
        start_job(Cut("deaf"), first, sleep=no_sleep)
    assert caught.value.reason == "busy"
    client.kill(Flaky(), holder.id, grace=0)
    with pytest.raises(NotStarted):  # what was on its way may arrive now: it finds the id taken
        start_job(Flaky(), first)
    assert not marks.exists()
    client.kill(Flaky(), holder.id, grace=0)


def test_following_gives_up_when_told_to_and_says_that_the_run_goes_on(
    marks: Path, home: Path
) -> None:
    spec = JobSpec(command="sleep 0.5")
    start_job(Flaky(), spec)
    link = Flaky(*["unreachable"] * 99)
    sink = bytearray().extend
    with pytest.raises(JobUnreachable) as caught:
        follow.follow_through(
            link, spec.id, on_stdout=sink, on_stderr=sink, give_up_after=0.0, sleep=no_sleep
        )
    assert "goes on" in caught.value.hint
    assert done(Place(Flaky(), home), spec.id).status == 0
