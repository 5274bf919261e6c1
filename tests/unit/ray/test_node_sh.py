"""The shell that starts and ends Ray on a node, with a Ray that only pretends, under each shell."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from support.jobs import shell_path
from support.nodes import wait_until

from gridops.errors import ClusterDown, ClusterError
from gridops.inventory import Inventory
from gridops.inventory.settings import RaySettings, Settings, SshSettings
from gridops.model import Node, Outcome
from gridops.ray import paths
from gridops.ray.launch import Launch
from gridops.ray.model import Cluster, Look
from gridops.ray.state import ask_node, facts_of, look
from gridops.ray.stop import Stopped, stop
from gridops.reach.local import LocalLink

SHELLS = ("dash", "bash", "busybox")
NODE = Node("here", "localhost", connection="local", ray={"num_cpus": 2, "labels": {"a": "b"}})
TOKEN = "0123456789abcdef"
MARK = f"4733.{os.getpid()}"  # seconds that nobody else sleeps, not even another worker

# `ray start --block` as far as the shell can tell: a leader, a child, and one that has left its
# session. What it was called with and finds in its environment it writes to $HOME/told.
RAY = f"""
[ ! -e "$HOME/broken" ] || {{ echo "RuntimeError: it is broken"; exit 1; }}
{{ printf '%s\\n' "$@"; env; umask; }} >"$HOME/told"
sleep {MARK} &
setsid sleep {MARK} &
mkdir -p "$TMPDIR/left"
echo "Ray runtime started."
trap 'exit 0' TERM
while :; do sleep {MARK} & wait $!; done
"""


@pytest.fixture(params=SHELLS)
def cluster(
    request: pytest.FixtureRequest, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """This machine as a cluster of one, whose sh is the shell."""
    monkeypatch.setenv("PATH", shell_path(request.param, home))
    for name in "GRIDOPS_RUN_ID", "RAY_ADDRESS", "RAY_AUTH_TOKEN":
        monkeypatch.setenv(name, "another's")
    monkeypatch.delenv("TMPDIR", raising=False)
    settings = RaySettings(version="2.60.0", temp_dir=str(tmp_path))
    made = Cluster("here-6379", NODE, (), settings, SshSettings(), LocalLink)
    bin = home / "gridops/.ray" / paths.venv_name(settings) / "bin"
    bin.mkdir(parents=True)
    (bin / "python").write_text('#!/bin/sh\nexec sh "$@"\n')
    (bin / "python").chmod(0o755)
    (bin / "ray").write_text(RAY)
    (bin.parent / "ready").write_text("2.60.0 3.11.7\n")
    yield made
    list(stop(made, made.nodes, grace=0, keep_logs=False))
    end_marked()


def marked() -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"sleep\0{MARK}".encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


def end_marked() -> None:
    for pid in marked():
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def seen(cluster: Cluster) -> Look:
    (outcome,) = look(cluster, cluster.nodes)
    assert outcome.value, outcome.error
    return outcome.value


def started(cluster: Cluster, limit: float = 10) -> Look:
    launch = Launch(cluster, NODE, seen(cluster), "head", "abc", "192.0.2.1", "192.0.2.1")
    launch.start(TOKEN, limit)
    return seen(cluster)


def ended(cluster: Cluster, **options: bool) -> Stopped:
    (outcome,) = stop(cluster, cluster.nodes, grace=2, **{"keep_logs": False, **options})
    assert isinstance(outcome, Outcome)
    assert outcome.value, outcome.error
    return outcome.value


def test_a_start_is_on_record_with_all_that_others_ask_for(cluster: Cluster, home: Path) -> None:
    assert seen(cluster).part is None
    part = started(cluster).part
    assert part
    assert (part.role, part.id, part.address, part.port) == ("head", "abc", "192.0.2.1", 6379)
    assert (part.ray, part.python_version) == ("2.60.0", "3.11.7")
    token = home / ".gridops/ray/here-6379/token"
    assert token.read_text() == f"{TOKEN}\n"
    assert token.stat().st_mode & 0o777 == 0o600
    ask_node(cluster, NODE, "members", stdin=b"here=192.0.2.1\ngone=192.0.2.9\n")
    inventory = Inventory((NODE,), Settings(ray=cluster.settings))
    facts = facts_of(inventory, LocalLink)
    assert (facts.token, facts.members) == (TOKEN, {"192.0.2.1": NODE})
    assert TOKEN not in repr(facts)
    assert Path(facts.token_file).stat().st_mode & 0o777 == 0o600


def test_ray_is_called_as_the_inventory_says_and_closed(
    cluster: Cluster, home: Path, tmp_path: Path
) -> None:
    before = os.umask(0o27)
    try:
        started(cluster)
    finally:
        os.umask(before)
    told = (home / "told").read_text().splitlines()
    for word in ("start", "--block", "--head", "--port=6379", "--dashboard-host=127.0.0.1"):
        assert word in told
    for word in ("--num-cpus=2", "--labels=a=b", "--node-name=here", "--node-ip-address=192.0.2.1"):
        assert word in told
    env = dict(line.split("=", 1) for line in told if "=" in line and not line.startswith("--"))
    assert env["RAY_AUTH_MODE"] == "token"
    assert env["RAY_AUTH_TOKEN_PATH"] == f"{home}/.gridops/ray/here-6379/token"
    assert env["RAY_USAGE_STATS_ENABLED"] == "0"
    assert env["PATH"].split(":")[0] == f"{seen(cluster).venv}/bin"
    assert not {"GRIDOPS_RUN_ID", "RAY_ADDRESS", "RAY_AUTH_TOKEN"} & env.keys()
    assert told[-1].lstrip("0") == "27"  # as the login has it: what jobs write is for them to say
    assert TOKEN not in "".join(told)
    assert (tmp_path / "gridops-ray-abc").stat().st_mode & 0o777 == 0o700


def test_a_second_start_leaves_the_first_alone(cluster: Cluster) -> None:
    first = started(cluster).part
    assert started(cluster).part == first
    assert len(marked()) == 3


def test_a_worker_can_be_held_until_the_head_is_there(cluster: Cluster, home: Path) -> None:
    held = '[ -e "$HOME/held" ] || { : >"$HOME/held"; while [ ! -e "$3" ]; do sleep 0.1; done; }\n'
    (python,) = home.glob("gridops/.ray/*/bin/python")
    python.write_text(f'#!/bin/sh\n{held}shift 4\nexec sh "${{0%/*}}/ray" "$@"\n')
    launch = Launch(cluster, NODE, seen(cluster), "worker", "abc", "192.0.2.2", "192.0.2.1")
    launch.prepare(TOKEN, 20)
    part = seen(cluster).part
    assert part
    assert part.role == "worker"
    wait_until(lambda: (home / "held").exists())
    assert not (home / "told").exists()
    launch.go(20)
    assert "--address=192.0.2.1:6379" in (home / "told").read_text().splitlines()
    assert seen(cluster).part == part
    assert ended(cluster).role == "worker"


def test_stop_ends_what_it_started_even_what_left_its_session(
    cluster: Cluster, home: Path, tmp_path: Path
) -> None:
    stranger = subprocess.Popen(["sleep", MARK], start_new_session=True)
    started(cluster)
    assert len(marked()) == 4
    done = ended(cluster)
    assert (done.role, done.processes) == ("head", 4)
    assert marked() == [stranger.pid]
    stranger.kill()
    stranger.wait()
    assert not list(tmp_path.glob("gridops-ray-*"))
    assert sorted(p.name for p in (home / ".gridops/ray/here-6379").rglob("*")) == ["here", "token"]
    assert ended(cluster).processes == 0


def test_a_leader_that_was_killed_is_said_to_have_died_and_its_rest_is_ended(
    cluster: Cluster,
) -> None:
    part = started(cluster).part
    assert part
    record = Path(f"~/.gridops/ray/here-6379/here/{part.launch}/child").expanduser().readlink()
    os.kill(int(str(record).split(".")[0]), signal.SIGKILL)
    wait_until(lambda: seen(cluster).part is None)
    assert seen(cluster).died
    assert len(marked()) == 3
    started(cluster)
    assert len(marked()) == 3
    assert not seen(cluster).died


def test_a_record_of_an_earlier_boot_or_another_process_counts_for_nothing(
    cluster: Cluster, home: Path
) -> None:
    started(cluster)
    record = home / ".gridops/ray/here-6379/here/record"
    pid, tick, boot, rest = record.read_text().split(" ", 3)
    for other in (f"{pid} {tick} 00000000 {rest}", f"{pid} {int(tick) + 1} {boot} {rest}"):
        record.write_text(other)
        assert seen(cluster).part is None


def test_a_start_that_fails_says_why_and_leaves_nothing(
    cluster: Cluster, home: Path, tmp_path: Path
) -> None:
    (home / "broken").touch()
    with pytest.raises(ClusterError) as caught:
        started(cluster)
    assert "Ray did not start: RuntimeError: it is broken" in str(caught.value)
    assert "~/.gridops/ray/here-6379/here/failed.log" in caught.value.hint
    assert "it is broken" in (home / ".gridops/ray/here-6379/here/failed.log").read_text()
    assert not list(tmp_path.glob("gridops-ray-*"))
    assert seen(cluster).part is None
    (home / "broken").unlink()
    assert started(cluster).part


def test_one_that_never_comes_up_is_ended(cluster: Cluster, home: Path) -> None:
    ray = next(home.glob("gridops/.ray/*/bin/ray"))
    ray.write_text(f"sleep {MARK}\n")
    with pytest.raises(ClusterError, match="not up within 1 s"):
        started(cluster, limit=1)
    assert marked() == []


@pytest.mark.parametrize("setup", ["false", "exit 0", "exec true", "if", "echo 'unclosed"])
def test_a_setup_that_fails_keeps_ray_from_starting(cluster: Cluster, setup: str) -> None:
    node = replace(NODE, env_setup=setup)
    launch = Launch(cluster, node, seen(cluster), "head", "abc", "192.0.2.1", "192.0.2.1")
    with pytest.raises(ClusterError, match="env_setup failed"):
        launch.start(TOKEN, 10)


def test_somebody_else_at_work_is_waited_for_by_hand(cluster: Cluster, home: Path) -> None:
    other = subprocess.Popen(["sleep", "60"])
    stat = Path(f"/proc/{other.pid}/stat").read_text().rpartition(") ")[2].split()
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().split("-")[0]
    directory = home / ".gridops/ray/here-6379/here"
    directory.mkdir(parents=True)
    (directory / "lock").symlink_to(f"{other.pid}.{stat[19]}.{boot}")
    with pytest.raises(ClusterError, match="another process is starting or stopping"):
        started(cluster)
    other.kill()
    other.wait()
    assert started(cluster).part


def test_logs_are_kept_on_request(cluster: Cluster, tmp_path: Path) -> None:
    started(cluster)
    logs = tmp_path / "gridops-ray-abc/ray/session_2026/logs"
    logs.mkdir(parents=True)
    (logs / "raylet.out").write_text("kept\n")
    where = Path(ended(cluster, keep_logs=True).logs)
    assert (where / "raylet.out").read_text() == "kept\n"
    assert "Ray runtime started" in (where / "ray-start.log").read_text()


def test_without_a_cluster_there_are_no_facts(cluster: Cluster) -> None:
    inventory = Inventory((NODE,), Settings(ray=cluster.settings))
    with pytest.raises(ClusterDown, match=r"not started \(run `inv cluster.start`\)"):
        facts_of(inventory, LocalLink)


def test_the_first_token_stays(cluster: Cluster) -> None:
    first = ask_node(cluster, NODE, "token", stdin=b"one\n")["token"]
    assert first == "one"
    assert ask_node(cluster, NODE, "token", stdin=b"two\n")["token"] == "one"


def test_the_probe_tells_of_a_living_part_alone(cluster: Cluster, home: Path) -> None:
    from gridops.probe.checker import check

    settings = Settings(ray=cluster.settings)

    def part() -> str | None:
        (health,) = check([NODE], settings)
        assert health.error is None
        return health.ray

    assert part() is None
    started(cluster)
    assert part() == "head"
    record = home / ".gridops/ray/here-6379/here/record"
    record.write_text(record.read_text().replace(" head", " worker"))
    assert part() == "worker"
    ended(cluster)
    assert part() is None
