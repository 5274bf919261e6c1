"""Many nodes, some of them dead, and many clients: bounded, readable, and right to the last run.

GRIDOPS_SCALE_NODES and GRIDOPS_SCALE_RUNS (on half as many nodes) make it larger, and the machine
busy: `make scale` takes 1000 and 200.
"""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.cli import BIN, Done
from support.nodes import wait_until

from gridops.grid import Grid
from gridops.inventory.nodeset import fold
from gridops.model import Node
from gridops.reach.fanout import fan_out
from gridops.sandbox import Sandbox
from gridops.sandbox.server import free_port

NODES = int(os.environ.get("GRIDOPS_SCALE_NODES", "80"))
RUNS = int(os.environ.get("GRIDOPS_SCALE_RUNS", "16"))
DEAD = NODES // 20  # that refuse, and as many that never answer
CLIENTS = 4
MEMORY = 250  # MiB that one client may take

# A client that starts its share of the runs, all over the grid; prints their ids.
CLIENT = """
import json, os, sys
from gridops.grid import Grid
from gridops.model import RunSpec
grid = Grid.load(sys.argv[1])
for number in json.loads(sys.argv[2]):
    command = f"echo {number} >> {sys.argv[3]}; exit {number % 7}"
    spec = RunSpec(command, sync=False, wait=100)
    print(json.dumps([number, grid.detach(spec).id]), flush=True)
"""


@dataclass
class Peak:
    memory: float = 0.0  # MiB
    threads: int = 0
    files: int = 0


def asked(words: list[str], limit: float) -> tuple[Done, Peak, float]:
    """`gridops WORDS` and the most that it took, in `limit` seconds."""
    peak, began = Peak(), time.monotonic()
    command = [str(BIN / "gridops"), *words]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        process = Path(f"/proc/{child.pid}")
        while os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            assert time.monotonic() - began < limit
            _look(process, peak)
            time.sleep(0.05)
        seconds = time.monotonic() - began
        out, err = child.communicate()
    return Done(child.returncode, out, err), peak, seconds


def _look(process: Path, peak: Peak) -> None:
    try:
        status = (process / "status").read_text()
        files = len([*(process / "fd").iterdir()])
    except OSError:  # it has just ended
        return
    found = dict(re.findall(r"^(VmHWM|Threads):\s+(\d+)", status, re.MULTILINE))
    peak.memory = max(peak.memory, int(found.get("VmHWM", 0)) / 1024)
    peak.threads = max(peak.threads, int(found.get("Threads", 0)))
    peak.files = max(peak.files, files)


@contextmanager
def silent() -> Iterator[int]:
    """A port where connections are taken and nobody says a word."""
    with socket.socket() as listener:
        listener.bind(("0.0.0.0", 0))
        listener.listen(1024)
        yield listener.getsockname()[1]


@pytest.fixture
def many(
    make_sandbox: Callable[..., Sandbox], tmp_path: Path, fresh_runtime_dir: Path
) -> Iterator[Path]:
    """An inventory of NODES nodes; the last of them refuse, those before them are silent."""
    sandbox = make_sandbox(NODES, shared=True)
    with ExitStack() as stack:
        ports = [stack.enter_context(silent()), free_port("0.0.0.0")]
        nodes = {
            node.name: {
                "host": node.host,
                "port": ports[(number - NODES + DEAD) >= 0] if number >= NODES - 2 * DEAD
                else node.port,
            }
            for number, node in enumerate(sandbox.nodes)
        }  # fmt: skip
        config = tmp_path / "ssh_config"
        own = sandbox.ssh_config.read_text().rpartition("Host *\n")[2]
        config.write_text(f"Host *\n{own}")
        path = tmp_path / "many.yaml"
        path.write_text(
            json.dumps(
                {
                    "nodes": nodes,
                    "ssh": {"config_file": str(config), "connect_timeout": 5},
                    "health_check": {"max_load_per_core": 1000},
                }
            )
        )
        yield path
        subprocess.run(
            [BIN / "gridops", "pool.close", "--inventory", path], check=True, capture_output=True
        )


@pytest.mark.timeout(600)
def test_many_nodes_are_asked_in_bounded_time_memory_and_files(many: Path) -> None:
    grid = Grid.load(many)
    deadline = grid.settings.health_check.deadline or 60 + NODES / 4
    for _ in range(2):
        done, peak, seconds = asked(["health", "--inventory", str(many)], deadline + 5)
        print(f"{NODES} nodes: {seconds:.2f} s, {peak}", file=sys.stderr)
        assert done.status == 1
        lines = done.out.splitlines()
        assert len(lines) < 12, done.out
        names = [node.name for node in grid.inventory.nodes]
        good, mute, dead = names[: -2 * DEAD], names[-2 * DEAD : -DEAD], names[-DEAD:]
        assert re.search(rf"^healthy +{len(good)} .*{re.escape(fold(good))}$", done.out, re.M)
        assert re.search(
            rf"^unreachable +{DEAD} .*refused.*{re.escape(fold(dead))}$", done.out, re.M
        )
        assert re.search(rf"^unreachable +{DEAD} .*{re.escape(fold(mute))}$", done.out, re.M)
        assert "Traceback" not in done.err
        assert peak.memory < MEMORY
        assert peak.threads < 200
        assert peak.files < 1200


def test_few_descriptors_mean_fewer_nodes_at_once(many: Path) -> None:
    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (150, 150))

    words = [BIN / "gridops", "health", "--inventory", many, "--nodes", "node[1-40]"]
    done = subprocess.run(
        [*words, "--format", "json"], preexec_fn=few, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stderr
    assert {node["state"] for node in json.loads(done.stdout)["nodes"]} == {"healthy"}


@pytest.mark.timeout(600)
def test_many_runs_of_several_clients_each_happen_once(
    make_sandbox: Callable[..., Sandbox], tmp_path: Path
) -> None:
    sandbox = make_sandbox(RUNS // 2, shared=True)
    inventory, witness = sandbox.inventory, tmp_path / "ran"
    words = [sys.executable, "-c", CLIENT, inventory]
    shares = [json.dumps([*range(RUNS)[k::CLIENTS]]) for k in range(CLIENTS)]
    clients = [
        subprocess.Popen([*words, share, witness], stdout=subprocess.PIPE, text=True)
        for share in shares
    ]
    ids = {}
    for client in clients:
        out, _ = client.communicate(timeout=500)
        assert client.returncode == 0
        ids |= {id: number for number, id in map(json.loads, out.splitlines())}
    assert len(ids) == RUNS
    wait_until(lambda: len(witness.read_text().split()) >= RUNS, 100)
    assert Counter(map(int, witness.read_text().split())) == Counter(range(RUNS))
    words = [BIN / "gridops", "jobs", "--inventory", inventory, "--all", "--format", "json"]
    wait_until(lambda: running(words) == 0, 60)
    jobs = {job["id"]: job for job in told(words)}
    assert {id: jobs[id]["status"] for id in ids} == {id: n % 7 for id, n in ids.items()}


def told(words: list[object]) -> list[dict[str, object]]:
    done = subprocess.run([*map(str, words)], capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["jobs"]


def running(words: list[object]) -> int:
    return sum(job["state"] != "finished" for job in told(words))


def test_a_tree_is_listed_once_for_all_nodes(
    make_sandbox: Callable[..., Sandbox], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sandbox = make_sandbox(4, shared=True)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "file").write_text("here\n")
    subprocess.run(["git", "init", "-q", tree], check=True)
    shims, calls = tmp_path / "bin", tmp_path / "calls"
    shims.mkdir()
    git = shutil.which("git")
    (shims / "git").write_text(f'#!/bin/sh\necho "$*" >>{calls}\nexec {git} "$@"\n')
    (shims / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{shims}:{os.environ['PATH']}")
    words = [BIN / "gridops", "sync", "--src", tree, "--inventory", sandbox.inventory]

    def listings() -> int:
        calls.unlink(missing_ok=True)
        done = subprocess.run([*words, *nodes], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return calls.read_text().count("ls-files")

    nodes = ["--nodes", "node1"]
    for_one = listings()
    nodes = []
    assert listings() == for_one > 0
    for node in sandbox.nodes:
        assert (node.home / "gridops/tree/file").read_text() == "here\n"


def test_long_counting_is_told_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from gridops.tasks import _terminal

    monkeypatch.setattr(_terminal, "COUNT_INTERVAL", 0.05)

    def slowly() -> Iterator[int]:
        for number in range(4):
            time.sleep(0.06)
            yield number

    assert list(_terminal.track(slowly(), 4, "synced", of="nodes")) == [0, 1, 2, 3]
    assert capsys.readouterr().err.splitlines() == [
        f"gridops: synced {n}/4 nodes" for n in (1, 2, 3)
    ]


def test_threads_left_behind_do_not_pile_up(sandbox: Sandbox) -> None:
    """However many are asked, no more than max_workers threads are at it."""
    import threading

    most = 0

    def work(node: Node) -> None:
        nonlocal most
        most = max(most, threading.active_count())

    before = threading.active_count()
    nodes = [Node(f"n{k}", f"n{k}") for k in range(500)]
    assert len(list(fan_out(nodes, work, max_workers=8))) == 500
    assert most <= before + 8
