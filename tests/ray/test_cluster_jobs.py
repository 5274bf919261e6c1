"""Jobs on a real Ray cluster of three nodes, from the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli import Done, run, started

EXAMPLE = Path(__file__).parents[2] / "examples/ray_train"

# What it says of itself, and what tasks on every node say, as JSON on its last line.
WITNESS = """
import json, os, sys, time, ray
ray.init(log_to_driver=False, logging_level="ERROR")

def testimony():
    text = open("data/text").read()
    return [os.environ["A"], text, os.getcwd(), ray.get_runtime_context().get_node_id()]

@ray.remote(num_cpus=1, scheduling_strategy="SPREAD")
class Witness:
    def ask(self):
        import helper
        return [*testimony(), helper.ANSWER]

witnesses = [Witness.remote() for _ in range(3)]
tasks = ray.get([one.ask.remote() for one in witnesses], timeout=60)
print(json.dumps({"python": sys.executable, "own": testimony(), "tasks": tasks}))
sys.exit(7)
"""

Inv = Callable[..., Done]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    (path / "data").mkdir(parents=True)
    (path / "witness.py").write_text(WITNESS)
    (path / "helper.py").write_text("ANSWER = 42\n")
    (path / "data/text").write_text("brought\n")
    return path


@pytest.fixture
def inv(cluster: Any, project: Path) -> Inv:
    """`inv("cluster.jobs")` in the project, for the started cluster."""

    def inv(*words: str, timeout: float = 100) -> Done:
        return run("gridops", *words, timeout=timeout, cwd=project, env=environment(cluster))

    return inv


def environment(cluster: Any) -> dict[str, str]:
    return {**os.environ, **cluster.env, "GRIDOPS_INVENTORY": str(cluster.inventory)}


def jobs_of(inv: Inv) -> list[dict[str, Any]]:
    return list(inv("cluster.jobs", "--format=json").document["jobs"])


def test_a_training_uses_every_node(inv: Inv) -> None:
    words = ("--src", str(EXAMPLE), "--cmd", "python train.py --epochs 2 --points 300")
    done = inv("cluster.submit", *words)
    assert done.status == 0, done.err
    assert "trained by 3 workers on 3 nodes" in done.out
    assert len(set(re.findall(r"worker \d on (\S+)", done.out))) == 3


def test_tree_and_variables_reach_every_node_and_the_status_comes_back(inv: Inv) -> None:
    value = "a $HOME ${HOME} ${NONE} $(id) 'q' \"d\" \\ ü\nline"
    done = inv("cluster.submit", "--env", f"A={value}", "--cmd", "python witness.py")
    assert done.status == 7, done.err
    said = json.loads(done.out.splitlines()[-1])
    assert "/.ray/" in said["python"]  # the cluster's own
    assert len(said["tasks"]) == 3
    assert len({node for _, _, _, node, _ in said["tasks"]}) == 3
    for variable, text, directory, _, answer in said["tasks"]:
        assert (variable, text, answer) == (value, "brought\n", 42)
        assert "_ray_pkg_" in directory
    assert said["own"][0] == value


def test_output_comes_byte_for_byte_and_nothing_else(inv: Inv) -> None:
    done = inv("cluster.submit", "--cmd", r"printf 'a\r\n\377\000'; printf 'b' >&2")
    assert done.status == 0, done.err
    assert done.stdout == b"a\r\n\xff\x00b"
    assert "the cluster has the job ray-" in done.err


def test_a_detached_job_is_followed_later_and_listed(inv: Inv) -> None:
    done = inv("cluster.submit", "--detach", "--cmd", "echo one; sleep 1; echo two; kill -9 $$")
    (job_id,) = done.out.split()
    follow = inv("cluster.logs", job_id, "--follow")
    assert (follow.stdout, follow.status) == (b"one\ntwo\n", 137)
    assert inv("cluster.logs", job_id[:-1]).stdout == b"one\ntwo\n"
    job = jobs_of(inv)[-1]
    assert (job["id"], job["state"], job["exit_status"]) == (job_id, "failed", 137)
    assert job["command"].startswith("echo one")
    assert job_id in inv("cluster.jobs").out


def test_a_job_is_stopped_with_what_it_started(inv: Inv, cluster: Any) -> None:
    mark = f"3{os.getpid()}"
    command = f"sleep {mark} & sleep {mark}"
    (job_id,) = inv("cluster.submit", "--detach", "--cmd", command).out.split()
    wait_for(lambda: jobs_of(inv)[-1]["state"] == "running")
    done = inv("cluster.stop-job", "@last")
    assert done.status == 0, done.err
    assert "it was stopped" in done.err
    assert inv("cluster.logs", job_id, "--follow").status == 143
    assert "had ended already" in inv("cluster.stop-job", job_id).err
    assert inv("exec", "--cmd", f"pgrep -x -f 'sleep {mark}' || true").out == ""


def test_ctrl_c_stops_the_job(cluster: Any, project: Path) -> None:
    words = ("cluster.submit", "--cmd", "echo up; sleep 300")
    with started(*words, until=b"up\n", cwd=project, env=environment(cluster)) as child:
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert b"asking the cluster to stop the job" in said
    assert b"it was stopped" in said


def test_a_closed_terminal_leaves_the_job(inv: Inv, cluster: Any, project: Path) -> None:
    words = ("cluster.submit", "--cmd", "echo up; sleep 300")
    with started(*words, until=b"up\n", cwd=project, env=environment(cluster)) as child:
        child.send_signal(signal.SIGHUP)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 129, said
    assert b"goes on" in said
    assert jobs_of(inv)[-1]["state"] == "running"
    assert inv("cluster.stop-job", "@last").status == 0


def test_shared_runs_in_the_synced_tree(inv: Inv, project: Path) -> None:
    missing = inv("cluster.submit", "--shared", "--cmd", "true")
    assert missing.status == 125
    assert "`inv sync` brings it" in missing.err
    assert inv("sync").status == 0
    done = inv("cluster.submit", "--shared", "--env", "A=b", "--cmd", "python witness.py")
    assert done.status == 7, done.err
    said = json.loads(done.out.splitlines()[-1])
    places = {directory for _, _, directory, *_ in [said["own"], *said["tasks"]]}
    (place,) = places
    assert place.endswith("/project")
    assert "_ray_pkg_" not in place


def test_the_dashboard_is_led_here_and_asks_for_the_token(cluster: Any, project: Path) -> None:
    with started(
        "cluster.dashboard", until=b"http://127.0.0.1:", cwd=project, env=environment(cluster)
    ) as child:
        assert child.stdout is not None
        url = "http://127.0.0.1:" + child.stdout.readline().decode().strip()
        assert b"<html" in urllib.request.urlopen(url, timeout=20).read().lower()
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{url}/api/jobs/", timeout=20)
        assert caught.value.code == 401
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=20)
    assert child.returncode == 0
    assert b"asks for the cluster's token" in said
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=5)


def test_nobody_gets_in_without_the_token(inv: Inv) -> None:
    """Neither at the dashboard nor at the agents that serve the logs, from any node."""
    asking = (
        "import sys, urllib.request as u, urllib.error as e\n"
        "def ask(url, **headers):\n"
        "    try: return u.urlopen(u.Request(url, headers=headers), timeout=10).status\n"
        "    except e.HTTPError as exc: return exc.code\n"
        "    except OSError: return 'no'\n"
        "print(ask(sys.argv[1]), ask(sys.argv[1], Authorization='Bearer x'))"
    )
    (job_id,) = inv("cluster.submit", "--detach", "--cmd", "true").out.split()
    status = inv("cluster.status", "--format=json").document
    head, port = status["head"], status["dashboard_port"]
    url = f"http://127.0.0.1:{port}/api/jobs/"
    done = inv("exec", "--nodes", head, "--", "python3", "-c", asking, url)
    assert done.out.split() == ["401", "403"]
    address = next(node["address"] for node in status["nodes"] if node["name"] == head)
    done = inv("exec", "--", "python3", "-c", asking, f"http://{address}:{port}/api/jobs/")
    assert set(done.out.split()) & {"no"} == {"no"}
    assert "200" not in done.out.split()
    assert job_id.startswith("ray-")


def test_an_unknown_job_is_said(inv: Inv) -> None:
    for task in "logs", "stop-job":
        done = inv(f"cluster.{task}", "nothing")
        assert done.status == 2
        assert "knows no job 'nothing'" in done.complaint


def wait_for(what: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.3)
