"""The values of a run's `--env` are on its node until it has ended, however it ends; names stay."""

from __future__ import annotations

import os
import signal
import time

import pytest
from support.jobs import Place, begun, done, start, supervisor
from support.nodes import wait_until

from gridops.errors import NotStarted
from gridops.jobs import client
from gridops.jobs.spec import JobSpec, new_id
from gridops.model import Job

SECRET = "hunter2-of-this-test"
ENV = {"TOKEN": SECRET, "SEED": f"{SECRET}-3"}


def kept(place: Place) -> list[str]:
    """The files under the node's ~/.gridops that hold the values."""
    base = place.home / ".gridops"
    files = [path for path in base.rglob("*") if path.is_file() and not path.is_symlink()]
    return [str(path.relative_to(base)) for path in files if SECRET.encode() in path.read_bytes()]


def told(place: Place, job_id: str) -> Job:
    return client.status(place.link, [job_id])[job_id]


def refuse(place: Place) -> str:
    start(place, "sleep 300")
    job_id = new_id()
    with pytest.raises(NotStarted):
        start(place, "true", id=job_id, env=ENV)
    return job_id


def kill(place: Place) -> str:
    job_id = start(place, "sleep 300", env=ENV)
    begun(place, job_id)
    client.kill(place.link, job_id, grace=0)
    return job_id


def cancel_in_line(place: Place) -> str:
    start(place, "sleep 300")
    job_id = start(place, "true", env=ENV, wait=60.0)
    client.kill(place.link, job_id, grace=0)
    return job_id


def let_go(place: Place) -> str:
    return start(place, "true", env=ENV, hold=0.2)


def run_out_of_time(place: Place) -> str:
    return start(place, "sleep 300", env=ENV, timeout=0.2, grace=0)


def lose(place: Place) -> str:
    job_id = start(place, "sleep 300", env=ENV, grace=0)
    begun(place, job_id)
    os.kill(supervisor(place, job_id), signal.SIGKILL)
    wait_until(lambda: not told(place, job_id).active)
    return job_id


def reboot(place: Place) -> str:
    """As far as its records tell: the boot is another one than the supervisor's."""
    job_id = start(place, "sleep 300", env=ENV, grace=0)
    begun(place, job_id)
    by = place.job(job_id) / "sup"
    pid, tick, _, host = by.readlink().name.split(".", 3)
    client.kill(place.link, job_id, grace=0)
    spec = place.job(job_id) / "spec"
    (spec / "env").write_text(f"export TOKEN={SECRET}\n")
    (place.job(job_id) / "exit").unlink()
    by.unlink()
    by.symlink_to(f"{pid}.{tick}.0000dead.{host}")
    return job_id


ENDS = (refuse, kill, cancel_in_line, let_go, run_out_of_time, lose, reboot)


def test_a_run_that_ended_leaves_none_and_its_names_stay(place: Place) -> None:
    job_id = start(place, 'sleep 0.3; [ "$TOKEN-3" = "$SEED" ]', env=ENV)
    assert kept(place) == [f"jobs/{job_id}/spec/env"]
    job = done(place, job_id)
    assert (job.status, kept(place)) == (0, [])
    assert job.env == ("SEED", "TOKEN")
    assert client.show(place.link, job_id).command.startswith("sleep 0.3")


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
def test_however_it_ends(place: Place, end) -> None:
    job_id = end(place)
    wait_until(lambda: not told(place, job_id).active)
    assert kept(place) == []
    assert told(place, job_id).env == ("SEED", "TOKEN")


def test_an_upload_that_was_cut_short_is_discarded_by_whoever_looks(place: Place) -> None:
    staged = place.home / ".gridops" / "jobs" / new_id() / "new.999999999.1"
    staged.mkdir(parents=True)
    (staged / "env").write_text(f"export TOKEN={SECRET}\n")
    client.list_jobs(place.link)
    assert staged.is_dir()  # it may just be arriving
    old = time.time() - 120
    os.utime(staged, (old, old))
    client.list_jobs(place.link)
    assert not staged.exists()


def test_neither_a_message_nor_a_log_can_show_them() -> None:
    assert SECRET not in repr(JobSpec(command="true", env=ENV))
