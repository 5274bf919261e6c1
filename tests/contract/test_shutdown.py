"""The node shuts down, or ends what a login left: TERM to all processes of a run at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest
from support.jobs import Kept, Place, begun, done, pids_with, start, supervisor
from support.nodes import wait_until

from gridops.jobs import client
from gridops.jobs.outcome import describe_outcome, exit_status

OURS = os.getpid()


def session_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[3])


def command_of(place: Place, job_id: str) -> int:
    return int((place.job(job_id) / "child").readlink().name.split(".")[0])


def sessions_of(place: Place, job_id: str) -> set[int]:
    return {session_of(supervisor(place, job_id)), session_of(command_of(place, job_id))}


def members(sessions: set[int]) -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and session_of(int(entry.name)) in sessions:
                found.add(int(entry.name))
    return found


def processes_of(place: Place, job_id: str) -> set[int]:
    """The supervisor with its helpers, the command and all that is in its session."""
    return members(sessions_of(place, job_id))


def send(pids: Iterable[int], *numbers: signal.Signals) -> None:
    """As systemd does: each signal to every process, then the next."""
    for number in numbers:
        for pid in sorted(pids):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def started(place: Place, command: str, **options: object) -> str:
    """A run that has said "up"."""
    job_id = start(place, command, **options)
    begun(place, job_id)
    wait_until(lambda: (place.job(job_id) / "out").read_bytes().startswith(b"up"))
    return job_id


ENDINGS = {
    "sleep 60": (143, b"up\n"),
    "trap 'sleep 0.5; seq 3; exit 0' TERM; sleep 60 & wait": (0, b"up\n1\n2\n3\n"),
    "trap 'exit 1' TERM; sleep 60 & wait": (1, b"up\n"),
    "trap 'echo bye; trap - TERM; kill -TERM $$' TERM; sleep 60 & wait": (143, b"up\nbye\n"),
    "trap '' TERM; echo deaf; sleep 1; echo over; exit 3": (3, b"up\ndeaf\nover\n"),
}


@pytest.mark.parametrize("command", ENDINGS)
def test_a_run_that_a_shutdown_ended_is_lost_and_keeps_all_it_said(
    place: Place, command: str
) -> None:
    status, out = ENDINGS[command]
    job_id = started(place, f"trap '' HUP; echo up; {command}")
    time.sleep(0.2)
    send(processes_of(place, job_id), signal.SIGTERM, signal.SIGCONT, signal.SIGHUP)
    kept = Kept()
    job = kept.follow(place, job_id).job
    assert (job.state, job.reason, job.status, job.began) == ("lost", "shutdown", status, True)
    assert (bytes(kept.out), exit_status(job)) == (out, 125)
    assert (
        f"the node ended its processes, as at a shutdown (it ended with status {status})"
        in describe_outcome(job)
    )
    assert not job.orphan
    assert Kept().run(place, "echo next").job.status == 0  # the slot is free again


def test_a_run_that_a_shutdown_killed_in_the_end_is_lost_with_all_it_said(place: Place) -> None:
    job_id = started(place, f"trap '' TERM; echo up; sleep 0.6; seq 20000; sleep 4716.{OURS}")
    send(processes_of(place, job_id), signal.SIGTERM, signal.SIGCONT)
    wait_until(lambda: (place.job(job_id) / "out").read_bytes().endswith(b"\n20000\n"))
    sessions = sessions_of(place, job_id)
    while left := members(sessions):  # one may have been born meanwhile
        send(left, signal.SIGKILL)
    kept = Kept()
    job = kept.follow(place, job_id).job
    assert (job.state, job.reason, job.status) == ("lost", "supervisor", None)
    assert bytes(kept.out) == b"up\n" + b"".join(b"%d\n" % n for n in range(1, 20001))
    assert not pids_with(f"4716.{OURS}")


def test_the_supervisor_and_the_command_are_enough_to_tell_a_shutdown(place: Place) -> None:
    job_id = started(place, "echo up; exec sleep 60")
    command = command_of(place, job_id)
    send([command, supervisor(place, job_id)], signal.SIGTERM)
    job = done(place, job_id)
    assert (job.state, job.reason, job.status, job.signal) == ("lost", "shutdown", 143, 15)


def test_a_command_that_was_ended_alone_has_ended_by_itself(place: Place) -> None:
    job_id = started(place, "echo up; exec sleep 60")
    send([command_of(place, job_id)], signal.SIGTERM)
    job = done(place, job_id)
    assert (job.state, job.status, job.signal) == ("finished", 143, 15)


def test_a_command_that_went_on_after_the_others_were_told_has_ended_by_itself(
    place: Place,
) -> None:
    job_id = started(place, "trap '' TERM HUP; echo up; while [ ! -f ~/go ]; do sleep 0.05; done")
    send(processes_of(place, job_id), signal.SIGTERM)
    record = place.job(job_id) / "p.term"
    wait_until(lambda: record.is_file() and record.read_text().endswith("\n"))
    record.write_text(f"{int(record.read_text()) - 12100}\n")  # as if that were two minutes ago
    (place.home / "go").touch()
    job = done(place, job_id)
    assert (job.state, job.reason, job.status) == ("finished", "exit", 0)
    assert not record.exists()


def test_a_command_that_had_ended_before_a_shutdown_keeps_its_status(place: Place) -> None:
    stubborn = f"trap '' TERM; while :; do sleep 4717.{OURS}; done"
    job_id = started(place, f"echo up; sh -c '{stubborn.replace(chr(39), chr(34))}' & exit 5")
    wait_until(lambda: not Path(f"/proc/{command_of(place, job_id)}").exists())
    time.sleep(0.1)  # what it left is being ended, for two seconds
    send([supervisor(place, job_id)], signal.SIGTERM, signal.SIGHUP)
    job = done(place, job_id)
    assert (job.state, job.status) == ("finished", 5)


def test_a_kill_by_gridops_is_one_even_during_a_shutdown(place: Place) -> None:
    job_id = started(place, "trap 'sleep 0.5; exit 0' TERM; echo up; sleep 60 & wait")
    all_of_it = processes_of(place, job_id)
    client.kill(place.link, job_id, by="me@pc", wait=0.0)
    send(all_of_it, signal.SIGTERM)
    job = done(place, job_id)
    assert (job.state, job.by) == ("killed", "me@pc")


def test_time_runs_out_for_a_command_that_is_deaf_to_a_shutdown(place: Place) -> None:
    job_id = started(place, f"trap '' TERM HUP; echo up; sleep 4718.{OURS}", timeout=1.5, grace=1)
    send(processes_of(place, job_id), signal.SIGTERM, signal.SIGHUP)
    assert done(place, job_id).state == "timed out"
    assert not pids_with(f"4718.{OURS}")


def test_the_timer_of_a_run_goes_with_it(place: Place) -> None:
    job_id = Kept().run(place, "true", timeout=4719.25).job.id
    wait_until(lambda: not pids_with("4719"))
    assert not list(place.job(job_id).glob("p.*"))
