"""The jobs of a cluster, over a real HTTP server that speaks as Ray's do."""

from __future__ import annotations

import os
import re
import time
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.fakeray import TOKEN, FakeRay, fake_ray

from gridops.errors import ConnectionLost, NoRayJob, PortClosed, RayJobError, UsageError
from gridops.inventory.settings import Settings
from gridops.observe import events
from gridops.ray import follow
from gridops.ray.follow import Following
from gridops.ray.jobsapi import RayJob, Submission, literal, resolve_id
from gridops.ray.outcome import describe_outcome, exit_status
from gridops.ray.submit import ClusterSpec, submit
from gridops.reach.local import LocalLink
from gridops.retry import without_waiting

PREAMBLE = b"2026-11-24 16:24:20,703\tINFO job_manager.py:581 -- Runtime env is setting up.\n"


@pytest.fixture
def ray() -> Iterator[FakeRay]:
    with fake_ray() as ray, without_waiting():
        yield ray


@pytest.fixture
def heard() -> Iterator[list[events.Event]]:
    found: list[events.Event] = []
    with events.listening(found.append):
        yield found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    (path / "train.py").write_text("print(1)\n")
    return path


def launch(ray: FakeRay, src: Path, **fields: object) -> RayJob:
    spec = ClusterSpec(command="python train.py", src=str(src), **fields)  # type: ignore[arg-type]
    with ray.client() as client:
        return submit(client, spec, Settings(), LocalLink)


def output(ray: FakeRay, job_id: str, *, live: bool = True) -> tuple[bytes, RayJob]:
    data = bytearray()
    with ray.client() as client:
        one = Following(client, client.jobs.job(job_id), data.extend, sleep=lambda seconds: None)
        job = one.to_the_end() if live else one.once()
    return bytes(data), job


def line_of(job_id: str, command: str = "true") -> bytes:
    return f"Running entrypoint for job {job_id}: {command}\n".encode()


# -- submitting -----------------------------------------------------------------------------------


def test_the_tree_goes_once_and_the_job_each_time(ray: FakeRay, tree: Path) -> None:
    first, second = launch(ray, tree), launch(ray, tree)
    assert first.id != second.id
    assert len(ray.packages) == 1
    assert len([one for one in ray.requests if one.startswith("PUT")]) == 1
    (name,) = ray.packages
    for job in first, second:
        assert ray.jobs[job.id]["runtime_env"] == {"working_dir": f"gcs://{name}"}
        assert ray.jobs[job.id]["entrypoint"] == "python train.py"


def test_resources_and_variables_travel(ray: FakeRay, tree: Path) -> None:
    job = launch(ray, tree, env={"A": "b c"}, num_cpus=0.5, num_gpus=2.0, memory=4096)
    record = ray.jobs[job.id]
    assert record["runtime_env"]["env_vars"] == {"A": "b c"}
    assert record["entrypoint_num_cpus"] == 0.5
    assert record["entrypoint_num_gpus"] == 2
    assert record["entrypoint_memory"] == 4096
    assert "@" in record["metadata"]["gridops_user"]


def test_an_answer_that_is_lost_makes_no_second_job(ray: FakeRay, tree: Path) -> None:
    ray.lose_answers = 2
    job = launch(ray, tree)
    assert list(ray.jobs) == [job.id]
    assert ray.requests.count("POST /api/jobs/") == 3


def test_whether_there_is_a_job_is_said_when_nobody_knows(
    ray: FakeRay, tree: Path, heard: list[events.Event]
) -> None:
    ray.lose_answers = 10**6
    with pytest.raises(ConnectionLost):
        launch(ray, tree)
    (job_id,) = ray.jobs
    said = [event.fields["message"] for event in heard if event.name == events.WARNING]
    assert said == [f"the cluster may have the job {job_id}; see `inv cluster.jobs`"]


def test_a_connection_that_breaks_while_the_tree_is_sent_is_made_again(
    ray: FakeRay, tree: Path
) -> None:
    ray.drop = 2
    launch(ray, tree)
    assert len(ray.packages) == 1


def test_a_package_arrives_whole_after_a_broken_attempt(ray: FakeRay, tree: Path) -> None:
    launch(ray, tree)
    (whole,) = ray.packages.values()
    ray.packages.clear()
    ray.fail_puts = 1
    launch(ray, tree)
    assert list(ray.packages.values()) == [whole]


def test_the_token_is_in_the_header_alone(ray: FakeRay, tree: Path) -> None:
    launch(ray, tree)
    assert not [one for one in ray.requests if TOKEN in one]
    assert TOKEN not in repr(ray.facts())


def test_a_refused_token_is_said_without_it(ray: FakeRay, tree: Path) -> None:
    ray.token = "another"
    with pytest.raises(RayJobError, match="refuses the cluster's token") as caught:
        launch(ray, tree)
    assert TOKEN not in "".join(traceback.format_exception(caught.value))
    assert len(ray.requests) == 1


def test_no_dashboard_is_said_with_what_to_do(ray: FakeRay, tree: Path) -> None:
    with fake_ray() as gone:
        port = gone.port
    ray.port = port
    with pytest.raises(PortClosed, match="dashboard does not answer") as caught:
        launch(ray, tree)
    assert "cluster.status" in caught.value.hint
    assert caught.value.node == "here"


def test_shared_runs_in_the_synced_tree(
    ray: FakeRay, tree: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Exception, match="there is no ~/gridops/project") as caught:
        launch(ray, tree, shared=True)
    assert "inv sync" in str(caught.value)
    (home / "gridops/project").mkdir(parents=True)
    job = launch(ray, tree, shared=True)
    where = os.path.realpath(home / "gridops/project")
    assert ray.jobs[job.id]["runtime_env"]["working_dir"] == f"local://{where}"
    assert not ray.packages


def test_shared_is_refused_by_a_ray_that_does_not_know_it(ray: FakeRay, tree: Path) -> None:
    ray.version = "2.59.1"
    with pytest.raises(UsageError, match=r"needs Ray 2\.60"):
        launch(ray, tree, shared=True)


# -- what Ray makes of variables ------------------------------------------------------------------


def as_ray_does(env: Mapping[str, str], before: dict[str, str]) -> dict[str, str]:
    """`update_envs` of ray/_private/utils.py, on a runtime_env that was serialised sorted."""
    result = dict(before)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", result)
        for key in sorted(env):
            expanded = os.path.expandvars(env[key])
            result[key] = re.sub(r"\$\{[A-Z0-9_]+\}", "", expanded)
    return result


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "$HOME",
        "${HOME}",
        "${NOT_THERE}",
        "$(id) `id`",
        "$$",
        "$${HOME}",
        "a$",
        "${",
        "${}",
        "$0 ${0} ${_}",
        "$1.50 and ${x:-y}",
        "'\"\n\\ü",
    ],
)
def test_values_arrive_as_they_are(value: str) -> None:
    wanted = {"A": value, "_z": value}
    arrived = as_ray_does(literal(wanted), {"HOME": "/root", "_": "x"})
    assert {name: arrived[name] for name in wanted} == wanted


# -- following ------------------------------------------------------------------------------------


def test_output_comes_byte_for_byte(ray: FakeRay) -> None:
    said = bytes(range(256)) + b"\r\nno end of line"
    ray.add("j", driver_exit_code=0)
    ray.logs["j"] = PREAMBLE + line_of("j") + said
    assert output(ray, "j")[0] == said
    assert output(ray, "j", live=False)[0] == said


def test_rays_own_line_is_dropped_wherever_it_came(ray: FakeRay) -> None:
    ray.add("j")
    ray.logs["j"] = PREAMBLE + b"first\n" + line_of("j") + b"second\n"
    assert output(ray, "j")[0] == b"first\nsecond\n"


def test_a_log_without_rays_lines_comes_whole(ray: FakeRay) -> None:
    ray.add("j")
    ray.logs["j"] = b"Running entrypoint for job k: true\nsaid\n"
    assert output(ray, "j")[0] == ray.logs["j"]


def test_a_broken_connection_goes_on_at_the_very_byte(
    ray: FakeRay, heard: list[events.Event]
) -> None:
    said = os.urandom(100_000)
    ray.add("j")
    ray.logs["j"] = PREAMBLE + line_of("j") + said
    ray.cut_after = [10, 50_000, 1, 30_000]
    assert output(ray, "j")[0] == said
    names = [event.name for event in heard]
    assert events.CONNECTION_LOST in names
    assert names.count(events.CONNECTION_REGAINED) == names.count(events.CONNECTION_LOST)


def test_a_server_that_answers_nothing_for_a_while_is_waited_for(ray: FakeRay) -> None:
    ray.add("j")
    ray.logs["j"] = line_of("j") + b"said\n"
    with ray.client() as client:
        job, data = client.jobs.job("j"), bytearray()
        ray.drop, ray.fail = 5, 3
        Following(client, job, data.extend, sleep=lambda seconds: None).to_the_end()
    assert data == b"said\n"


def test_a_server_that_keeps_no_connection_is_served_as_well(ray: FakeRay) -> None:
    ray.close_each = True
    ray.add("j")
    ray.logs["j"] = line_of("j") + bytes(300_000)
    assert output(ray, "j")[0] == bytes(300_000)


def test_a_dashboard_that_stays_away_is_said_in_the_end(
    ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "RAY_TIMEOUT", 0.05)
    ray.add("j", "RUNNING")
    with ray.client() as client:
        job = client.jobs.job("j")
        ray.fail = 10**6
        with pytest.raises(RayJobError, match="no GCS"):
            Following(client, job, lambda data: None, sleep=lambda seconds: None).to_the_end()


def test_a_job_that_the_cluster_forgot_ends_the_following(ray: FakeRay) -> None:
    ray.add("j", "RUNNING")
    with ray.client() as client:
        job = client.jobs.job("j")
        ray.jobs.clear()
        with pytest.raises(NoRayJob):
            Following(client, job, lambda data: None, sleep=lambda seconds: None).to_the_end()


def test_a_log_that_is_out_of_reach_does_not_hide_how_the_job_ended(
    ray: FakeRay, heard: list[events.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "RAY_TIMEOUT", 0.05)
    ray.add("j", "FAILED", driver_exit_code=7, driver_agent_http_address="http://127.0.0.9:1")
    data, job = output(ray, "j")
    assert (data, exit_status(job)) == (b"", 7)
    (said,) = [e.fields["message"] for e in heard if e.name == events.WARNING]
    assert "127.0.0.9" in said


def test_a_running_job_whose_log_is_out_of_reach_is_waited_for_all_the_same(
    ray: FakeRay, heard: list[events.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "RAY_TIMEOUT", 0.02)
    ray.add("j", "RUNNING", driver_agent_http_address="http://127.0.0.9:1")
    end = time.monotonic() + 0.1

    def finish(seconds: float) -> None:
        time.sleep(0.01)
        if time.monotonic() > end:
            ray.jobs["j"].update(status="SUCCEEDED", driver_exit_code=0)

    with ray.client() as client:
        one = Following(client, client.jobs.job("j"), lambda data: None, sleep=finish)
        assert exit_status(one.to_the_end()) == 0
    names = [event.name for event in heard]
    assert names.count(events.WARNING) == 1
    assert events.CONNECTION_REGAINED not in names


def test_a_reader_that_goes_away_is_no_broken_connection(ray: FakeRay) -> None:
    ray.add("j")
    ray.logs["j"] = line_of("j") + b"said\n"

    def gone(data: bytes) -> None:
        raise BrokenPipeError

    with ray.client() as client, pytest.raises(BrokenPipeError):
        Following(client, client.jobs.job("j"), gone).to_the_end()


def test_the_request_to_stop_is_told_once_and_waited_for(ray: FakeRay) -> None:
    ray.add("j", "RUNNING")
    ray.slow_stop = 3
    with ray.client() as client:
        one = Following(client, client.jobs.job("j"), lambda data: None, sleep=lambda seconds: None)
        one.cancel.request("SIGINT")
        job = one.to_the_end()
    assert job.state == "stopped"
    assert ray.requests.count("POST /api/jobs/j/stop") == 1


def test_a_job_that_does_not_begin_is_said_to_wait(
    ray: FakeRay, heard: list[events.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "PENDING_GRACE", 0.0)
    ray.add("j", "PENDING", message="waiting for GPUs", driver_agent_http_address=None)
    looks = iter(range(100))

    def begin(seconds: float) -> None:
        if next(looks) == 20:
            ray.jobs["j"]["status"] = "SUCCEEDED"

    with ray.client() as client:
        Following(client, client.jobs.job("j"), lambda data: None, sleep=begin).to_the_end()
    waits = [event.fields["reason"] for event in heard if event.name == events.CLUSTER_JOB_WAITS]
    assert waits == ["waiting for GPUs"]


# -- how it went ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "code", "interrupted", "status"),
    [
        ("succeeded", 0, False, 0),
        ("succeeded", None, False, 0),
        ("failed", 7, False, 7),
        ("failed", -9, False, 137),
        ("failed", None, False, 1),
        ("stopped", None, False, 143),
        ("stopped", None, True, 130),
        ("failed", 3, True, 3),
    ],
)
def test_exit_status(state: str, code: int | None, interrupted: bool, status: int) -> None:
    job = RayJob("j", state, exit_code=code)  # type: ignore[arg-type]
    assert exit_status(job, interrupted) == status


def test_why_a_job_never_began_is_said_on_one_line() -> None:
    message = "Failed to set up runtime environment.\nTraceback (...):\n  x\nIOError: no space\n"
    said = describe_outcome(RayJob("j", "failed", message=message))
    assert said == "it failed: Failed to set up runtime environment. … IOError: no space"


# -- which job ------------------------------------------------------------------------------------


def test_a_beginning_or_last_names_a_job(ray: FakeRay) -> None:
    for job_id in "ray-1", "ray-12", "other":
        ray.add(job_id)
    ray.add("01000000", "RUNNING", type="DRIVER", job_id="01000000", submission_id=None)
    with ray.client() as client:
        jobs = client.jobs.jobs()
    assert resolve_id(jobs, "oth").id == "other"
    assert resolve_id(jobs, "ray-1").id == "ray-1"
    assert resolve_id(jobs, "@last").id == "other"
    assert not resolve_id(jobs, "01").submitted
    with pytest.raises(UsageError, match="matches 2 jobs"):
        resolve_id(jobs, "ray")
    with pytest.raises(NoRayJob) as caught:
        resolve_id(jobs, "x")
    assert caught.value.exit_status == 2
    assert "other" in caught.value.hint


def test_an_odd_id_is_one_path(ray: FakeRay) -> None:
    with ray.client() as client, pytest.raises(NoRayJob):
        client.jobs.job("a/../b?c")
    assert ray.requests == ["GET /api/jobs/a%2F..%2Fb%3Fc"]


def test_only_what_changes_nothing_is_sent_again_by_itself(ray: FakeRay) -> None:
    with ray.client() as client:
        client.jobs.version()
        ray.drop = 1
        with pytest.raises(ConnectionLost):
            client.jobs.submit(Submission("j", "true"))
        assert client.jobs.version() == "2.60.0"
        ray.drop = 1  # as a server that closes an idle connection
        assert client.jobs.version() == "2.60.0"
    assert ray.requests.count("POST /api/jobs/") == 1
