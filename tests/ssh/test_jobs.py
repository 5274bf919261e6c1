"""Durable runs on nodes that are not like ours."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.jobs import Kept, Place, begun, pids_with, run
from support.nodes import find_program, node_of, settings_of, wait_until

from gridops.jobs import client
from gridops.jobs.spec import JobSpec
from gridops.jobs.start import start_job
from gridops.reach import link_to
from gridops.sandbox import Sandbox, Setup

MEGABYTES = int(os.environ.get("GRIDOPS_OUTPUT_MB", "100"))  # `make soak`: 1000
SHELLS = ("fish", "tcsh", "zsh", "dash", "busybox sh")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_login_shell_does_not_matter(
    make_sandbox: Callable[..., Sandbox], shell: str, home: Path
) -> None:
    words = shell.split()
    full = " ".join([find_program(words[0]), *words[1:]])
    sandbox = make_sandbox(1, setup={"node1": Setup(shell=full)})
    place = Place(link_to(node_of(sandbox), settings_of(sandbox)), sandbox.node("node1").home)
    kept = Kept()
    end = kept.run(place, 'echo "$X"; exit 4', env={"X": "it's $(here) !1 %2"})
    assert (end.job.status, kept.out, kept.err) == (4, b"it's $(here) !1 %2\n", b"")
    assert client.kill(place.link, end.job.id, by="so me@pc !%'").status == 4


def test_a_chatty_login_shell_is_not_taken_for_an_answer(
    make_sandbox: Callable[..., Sandbox],
) -> None:
    sandbox = make_sandbox(1)
    home = sandbox.node("node1").home
    (home / ".bashrc").write_text("echo welcome; echo 'ack started'; echo motd >&2; cd /\n")
    node = node_of(sandbox)
    place = Place(link_to(node, settings_of(sandbox)), home)
    kept = Kept()
    end = kept.run(place, "echo hi; pwd")
    assert (end.job.status, kept.err) == (0, b"")
    assert kept.out.startswith(b"hi\n")


def test_a_run_outlives_its_session_the_connection_and_sshd(
    make_sandbox: Callable[..., Sandbox], fresh_runtime_dir: Path
) -> None:
    sandbox = make_sandbox(1)
    link = link_to(node_of(sandbox), settings_of(sandbox))
    place = Place(link, sandbox.node("node1").home)
    job_id = start_job(link, JobSpec(command="sleep 1; echo on; exit 3")).id
    begun(place, job_id)
    listener = sandbox.node("node1").pid
    assert listener
    os.kill(listener, 9)
    for pid in pids_with(str(fresh_runtime_dir)):
        os.kill(pid, 9)  # our own masters
    wait_until(lambda: not sandbox.node("node1").running)
    sandbox.start("node1")
    kept = Kept()
    assert kept.follow(place, job_id).job.status == 3
    assert kept.out == b"on\n"


def test_much_output_is_followed_fast_and_in_little_memory(
    make_sandbox: Callable[..., Sandbox],
) -> None:
    sandbox = make_sandbox(1)
    link = link_to(node_of(sandbox), settings_of(sandbox))
    count = 0

    def sink(data: bytes) -> None:
        nonlocal count
        count += len(data)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    spec = JobSpec(command=f"head -c {MEGABYTES}000000 /dev/zero")
    end = run(link, spec, sink, sink)
    assert (end.job.status, count, end.out_offset) == (0, MEGABYTES * 10**6, MEGABYTES * 10**6)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB
    client.prune(link, 0)


def test_a_client_that_is_killed_leaves_its_run_alone(sandbox: Sandbox, home: Path) -> None:
    link = link_to(node_of(sandbox), settings_of(sandbox))
    place = Place(link, sandbox.node("node1").home)
    spec = JobSpec(command="echo begun; sleep 0.8; echo ended")
    code = (
        "import sys; from pathlib import Path; from gridops.jobs.attach import Attachment;"
        "from gridops.jobs.spec import JobSpec; from gridops.model import Node;"
        "from gridops.reach import link_to; from gridops.inventory.settings import SshSettings;"
        "link = link_to(Node('node1', 'node1'), SshSettings(config_file=Path(sys.argv[1])));"
        "from gridops.system.signals import Cancel;"
        "one = Attachment(link, sys.argv[3], Cancel());"
        "one.start(JobSpec(command=sys.argv[2], id=sys.argv[3]));"
        "one.follow(len, len)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(sandbox.ssh_config), spec.command, spec.id],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    wait_until(lambda: (place.job(spec.id) / "child").is_symlink())
    child.kill()
    child.wait(10)
    time.sleep(0.1)
    kept = Kept()
    assert kept.follow(place, spec.id).job.status == 0
    assert kept.out == b"begun\nended\n"
