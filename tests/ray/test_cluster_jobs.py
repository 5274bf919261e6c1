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
from typing import TYPE_CHECKING, Any

import pytest
from support.cli import started

from gridops.grid import Grid
from gridops.ray.follow import Following
from gridops.ray.jobsapi import Submission

if TYPE_CHECKING:
    from conftest import RayNodes

pytestmark = pytest.mark.xdist_group("ray")  # here, for xdist sees no marks that are added later
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

witnesses = [Witness.remote() for _ in range(int(sys.argv[1]))]
tasks = ray.get([one.ask.remote() for one in witnesses], timeout=60)
print(json.dumps({"python": sys.executable, "own": testimony(), "tasks": tasks}))
sys.exit(7)
"""

# What those answer who have no token, and who have a wrong one.
ASKING = """
import sys, urllib.error, urllib.request
for url in sys.argv[1:]:
    for headers in {}, {"Authorization": "Bearer x"}:
        asked = urllib.request.Request(f"{url}/api/jobs/", headers=headers)
        try:
            print(urllib.request.urlopen(asked, timeout=10).status)
        except urllib.error.HTTPError as exc:
            print(exc.code)
        except OSError:
            print("no")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    (path / "data").mkdir(parents=True)
    (path / "witness.py").write_text(WITNESS)
    (path / "helper.py").write_text("ANSWER = 42\n")
    (path / "data/text").write_text("brought\n")
    return path


@pytest.fixture
def inv(cluster: RayNodes, project: Path, monkeypatch: pytest.MonkeyPatch) -> RayNodes:
    """The started cluster; the project is the working directory."""
    monkeypatch.chdir(project)
    return cluster


def jobs_of(inv: RayNodes) -> list[dict[str, Any]]:
    return list(inv("cluster.jobs", "--format=json").document["jobs"])


def test_a_training_uses_every_node(inv: RayNodes) -> None:
    words = ("--src", str(EXAMPLE), "--cmd", "python train.py --epochs 2 --points 300")
    done = inv("cluster.submit", *words)
    assert done.status == 0, done.err
    assert "trained by 3 workers on 3 nodes" in done.out
    assert len(set(re.findall(r"worker \d on (\S+)", done.out))) == 3


def test_tree_and_variables_reach_every_node_and_the_status_comes_back(inv: RayNodes) -> None:
    value = "a $HOME ${HOME} ${NONE} $(id) 'q' \"d\" \\ ü\nline"
    done = inv("cluster.submit", "--env", f"A={value}", "--cmd", "python witness.py 3")
    assert done.status == 7, done.err
    said = json.loads(done.out.splitlines()[-1])
    assert "/.ray/" in said["python"]  # the cluster's own
    assert len(said["tasks"]) == 3
    assert len({node for _, _, _, node, _ in said["tasks"]}) == 3
    for variable, text, directory, _, answer in said["tasks"]:
        assert (variable, text, answer) == (value, "brought\n", 42)
        assert "_ray_pkg_" in directory
    assert said["own"][0] == value


def test_output_comes_byte_for_byte_and_nothing_else(inv: RayNodes) -> None:
    done = inv("cluster.submit", "--cmd", r"printf 'a\r\n\377\000'; printf 'b' >&2")
    assert done.status == 0, done.err
    assert done.stdout == b"a\r\n\xff\x00b"
    assert "the cluster has the job ray-" in done.err


def test_a_detached_job_is_followed_later_and_listed(inv: RayNodes) -> None:
    done = inv("cluster.submit", "--detach", "--cmd", "echo one; sleep 1; echo two; kill -9 $$")
    (job_id,) = done.out.split()
    follow = inv("cluster.logs", job_id, "--follow")
    assert (follow.stdout, follow.status) == (b"one\ntwo\n", 137)
    assert inv("cluster.logs", job_id[:-1]).stdout == b"one\ntwo\n"
    job = jobs_of(inv)[-1]
    assert (job["id"], job["state"], job["exit_status"]) == (job_id, "failed", 137)
    assert job["command"].startswith("echo one")
    assert job_id in inv("cluster.jobs").out


def test_a_job_is_stopped_with_what_it_started(inv: RayNodes) -> None:
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


def test_a_job_that_is_handed_over_twice_runs_once(inv: RayNodes) -> None:
    with Grid.load(inv.inventory).ray_jobs() as client:
        before = len(client.jobs.jobs())
        for _ in range(2):
            client.jobs.submit(Submission("twice", "echo once"))
        following = Following(client, client.jobs.job("twice"), lambda data: None)
        assert following.to_the_end().state == "succeeded"
        assert len(client.jobs.jobs()) == before + 1
    assert inv("cluster.logs", "twice").stdout == b"once\n"


def test_a_broken_connection_costs_no_byte(inv: RayNodes, tmp_path: Path) -> None:
    words = ("cluster.submit", "--cmd", "for i in $(seq 30); do echo $i; sleep 0.1; done")
    path = tmp_path / "out"
    with path.open("wb") as out, started(*words, until=b"", stdout=out) as child:
        wait_for(lambda: path.stat().st_size > 0)
        assert inv("pool.close").status == 0
        _, errors = child.communicate(timeout=60)
    assert path.read_bytes() == b"".join(b"%d\n" % number for number in range(1, 31)), errors
    assert child.returncode == 0


def test_ctrl_c_stops_the_job(inv: RayNodes) -> None:
    words = ("cluster.submit", "--cmd", "echo up; sleep 300")
    with started(*words, until=b"up\n") as child:
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 130, said
    assert b"asking the cluster to stop the job" in said
    assert b"it was stopped" in said


def test_a_closed_terminal_leaves_the_job(inv: RayNodes) -> None:
    words = ("cluster.submit", "--cmd", "echo up; sleep 300")
    with started(*words, until=b"up\n") as child:
        child.send_signal(signal.SIGHUP)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 129, said
    assert b"goes on" in said
    assert jobs_of(inv)[-1]["state"] == "running"
    assert inv("cluster.stop-job", "@last").status == 0


def test_shared_runs_in_the_synced_tree(inv: RayNodes, tmp_path: Path) -> None:
    missing = inv("cluster.submit", "--shared", "--cmd", "true")
    assert missing.status == 125
    assert "run `inv sync`" in missing.err
    assert inv("sync").status == 0
    apart = inv("cluster.submit", "--shared", "--cmd", "true")  # each node has a home of its own
    assert apart.status == 2
    assert "at different paths" in apart.err
    root = str(inv.machines.root / "everywhere")  # which they all see
    nodes = {name: {"remote_root": root} for name in inv.machines.nodes}
    same = inv.variant(tmp_path / "same.yaml", nodes)
    assert inv("sync", "--nodes=n1", inventory=same).status == 0
    words = ("--shared", "--env", "A=b", "--cmd", "python witness.py 1")
    done = inv("cluster.submit", *words, inventory=same)
    assert done.status == 7, done.err
    said = json.loads(done.out.splitlines()[-1])
    places = {directory for _, _, directory, *_ in [said["own"], *said["tasks"]]}
    assert places == {f"{root}/project"}


def test_the_dashboard_is_led_here_and_asks_for_the_token(inv: RayNodes) -> None:
    with started("cluster.dashboard", until=b"http://127.0.0.1:") as child:
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


def test_nobody_gets_in_without_the_token(inv: RayNodes) -> None:
    """Neither at the dashboard, which no other machine reaches at all, nor at the agents."""
    assert inv("cluster.submit", "--cmd", "true").status == 0
    with Grid.load(inv.inventory).ray_jobs() as client:
        dashboard, agent = client.facts.dashboard_port, client.jobs.jobs()[-1].agent
    assert agent is not None
    inside, outside = (
        inv[name].run("python3", "-c", ASKING, *(f"http://{host}:{port}" for host, port in places))
        for name, places in (
            ("n1", [("127.0.0.1", dashboard), agent]),
            ("n2", [(inv["n1"].address, dashboard), agent]),
        )
    )
    assert inside.stdout.split() == ["401", "403", "401", "403"], inside.stderr
    assert outside.stdout.split() == ["no", "no", "401", "403"], outside.stderr


def test_an_unknown_job_is_said(inv: RayNodes) -> None:
    for task in "logs", "stop-job":
        done = inv(f"cluster.{task}", "nothing")
        assert done.status == 2
        assert "has no job 'nothing'" in done.complaint


def wait_for(what: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.3)
