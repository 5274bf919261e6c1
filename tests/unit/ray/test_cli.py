"""`cluster.submit` and what comes back to a job, against a server that speaks as Ray's do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import Tell, project, tell
from support.fakeray import TOKEN, FakeRay, fake_ray

from gridops.ray import follow, state

__all__ = ["project", "tell"]


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRay]:
    with fake_ray() as ray:
        monkeypatch.setattr(state, "facts_of", lambda inventory, connect: ray.facts())
        monkeypatch.setattr(follow, "POLL_INTERVAL", 0.01)
        yield ray


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no command"),
        (("--cmd=true", "--num-cpus=x"), "--num-cpus 'x' is not a number"),
        (("--cmd=true", "--num-gpus=-1"), "--num-gpus '-1' is not a number"),
        (("--cmd=true", "--memory=much"), "--memory 'much' is not a size"),
        (("--cmd=true", "--env=A"), "--env 'A' is not NAME=VALUE"),
        (("--cmd=true", "--src=nowhere"), "there is no such directory"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_asked(
    tell: Tell, ray: FakeRay, project: Path, words: tuple[str, ...], said: str
) -> None:
    done = tell("cluster.submit", *words)
    assert done.status == 2
    assert said in done.complaint
    assert ray.requests == []


def test_detach_prints_the_id_alone(tell: Tell, ray: FakeRay, project: Path) -> None:
    done = tell("cluster.submit", "--detach", "--memory=2K", "--cmd", "python train.py")
    assert done.status == 0
    (job_id,) = ray.jobs
    assert done.out == f"{job_id}\n"
    assert ray.jobs[job_id]["entrypoint_memory"] == 2048
    assert f"the cluster has the job {job_id}" in done.err
    assert "1 file, " in done.err
    assert "sent in" in done.err


def test_the_output_is_stdout_and_the_status_is_the_jobs(
    tell: Tell, ray: FakeRay, project: Path
) -> None:
    ray.add("j", "FAILED", driver_exit_code=7)
    ray.logs["j"] = b"Running entrypoint for job j: true\na\r\n\xff"
    done = tell("cluster.logs", "j", "--follow")
    assert (done.status, done.stdout, done.err) == (7, b"a\r\n\xff", "")
    done = tell("cluster.logs", "@last")
    assert (done.status, done.stdout) == (0, b"a\r\n\xff")


def test_jobs_are_a_table_and_a_document(tell: Tell, ray: FakeRay) -> None:
    ray.add("j", "FAILED", driver_exit_code=-9, entrypoint="python\ttrain.py",
            metadata={"gridops_user": "ada@laptop"}, end_time=1_795_537_470_696)  # fmt: skip
    ray.add("k", "RUNNING")
    first, second = tell("cluster.jobs").out.splitlines()[1:]
    assert first.split()[:2] == ["j", "failed"]
    assert first.split()[-5:] == ["10s", "137", "ada@laptop", "python", "train.py"]
    assert second.split()[:2] == ["k", "running"]
    jobs = tell("cluster.jobs", "--format=json").document["jobs"]
    assert [(job["id"], job["state"], job["exit_status"]) for job in jobs] == [
        ("j", "failed", 137),
        ("k", "running", None),
    ]
    assert jobs[0]["duration_s"] == 10


def test_a_stopped_job_is_said(tell: Tell, ray: FakeRay) -> None:
    ray.add("j", "RUNNING")
    done = tell("cluster.stop-job", "j")
    assert done.status == 0
    assert done.complaint == "here: the job j: it was stopped"
    assert tell("cluster.stop-job", "j").complaint == "here: the job j had ended already"
    assert tell("cluster.logs", "j", "--follow").status == 143


def test_a_program_that_nobody_submitted_has_no_log_and_is_not_stopped(
    tell: Tell, ray: FakeRay
) -> None:
    ray.add("01", "RUNNING", type="DRIVER", job_id="01000000", submission_id=None)
    for task in "logs", "stop-job":
        done = tell(f"cluster.{task}", "01")
        assert done.status == 2
        assert "was not submitted" in done.complaint
    assert "POST" not in " ".join(ray.requests)


def test_nothing_that_is_said_has_the_token(tell: Tell, ray: FakeRay, project: Path) -> None:
    ray.token = "another"
    done = tell("cluster.submit", "--cmd", "true", "--log-level=DEBUG")
    assert done.status == 125
    assert "refuses the cluster's token" in done.err
    assert TOKEN not in done.out + done.err
