"""The main job on real Debian machines: health, the best, sync, runs, results, lines, leases."""

from __future__ import annotations

import subprocess

from support.debian import Debian
from support.nodes import wait_until

SMI = """#!/bin/sh
case "$*" in
*--query-gpu=index,uuid,name\\ *) printf '%s, GPU-%s, H100\\n' 0 a 1 b ;;
*--query-gpu=*) printf '%s, GPU-%s, H100, 81559, 4, 0, 30\\n' 0 a 1 b ;;
esac
"""


def test_every_machine_is_healthy_and_one_is_the_best(machines, grid):
    found = grid.must("health", "--format=json").document["nodes"]
    assert {one["name"]: one["state"] for one in found} == dict.fromkeys(
        machines.machines, "healthy"
    )
    assert all(one["cpu"]["cores"] and one["memory"]["total_bytes"] for one in found)
    assert grid.must("best").out.strip() in machines.machines


def test_one_command_on_all_of_them_is_folded(machines, grid):
    done = grid.must("exec", "--cmd", "echo $((6 * 7)) by $(id -un)")
    assert done.out.count("42 by alice") == 1


def test_git_s_files_go_there_and_results_come_home(machine, grid, project):
    for words in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *words], check=True)
    (project / ".gitignore").write_text("*.tmp\n")
    (project / "left.tmp").write_text("stays here")
    command = "ls -A; mkdir -p results; sha256sum hello.txt >results/sum; exit 7"
    done = grid("run", "--on", machine.name, "--fetch", "results", "--cmd", command)
    assert (done.status, done.out.split()) == (7, [".gitignore", ".gridops", "hello.txt"]), done
    assert "hello.txt" in (project / "results/sum").read_text()

    again = grid.must("sync", "--nodes", machine.name)
    assert "0 of 2" in again.out, again


def test_output_and_status_are_the_command_s_own(machine, grid):
    command = "printf 'a\\0\\377'; seq 100000; echo bad >&2; exit 143"
    done = grid("run", "--no-sync", "--on", machine.name, "--cmd", command)
    expected = b"a\0\xff" + b"".join(b"%d\n" % n for n in range(1, 100_001))
    assert (done.status, done.stdout) == (143, expected)
    assert b"bad\n" in done.stderr


def test_a_detached_run_is_followed_and_waited_for(machine, grid):
    job_id = grid.detach(machine, "echo one; sleep 2; echo two; exit 5")
    grid.leave()
    assert grid("jobs.logs", job_id, "--follow").out == "one\ntwo\n"
    assert grid("jobs.wait", job_id).status == 5
    assert job_id in grid.must("jobs").out


def test_a_full_machine_refuses_and_a_line_is_served_in_order(machine, grid):
    holder = grid.detach(machine, "sleep 60")
    run = ("run", "--no-sync", "--on", machine.name)
    refused = grid(*run, "--cmd", "true")
    assert refused.status == 125
    assert holder in refused.err

    order = "~/order"
    waiting = []
    for number in range(2):
        waiting.append(grid.start(*run, "--wait=60", "--cmd", f"echo {number} >>{order}"))
        queue = f".gridops/locks/{machine.name}/queue"
        wait_until(lambda q=queue, n=number: len(list((machine.home() / q).iterdir())) > n, 20)
    assert grid("jobs.kill", holder).status in (0, 143)
    assert [one.wait(60) for one in waiting] == [0, 0]
    assert (machine.home() / "order").read_text().split() == ["0", "1"]


def test_gpus_are_leased_to_one_run_at_a_time(machine, grid):
    machine.write("/usr/local/bin/nvidia-smi", SMI)
    machine.must("chmod", "755", "/usr/local/bin/nvidia-smi")
    grid.inventory = grid.machines.inventory(grid.inventory, nodes={machine.name: {"slots": 3}})
    try:
        runs = [grid.detach(machine, "sleep 60", "--gpus=1") for _ in range(2)]
        leased = [grid.job(job_id)["gpus"] for job_id in runs]
        assert sorted(leased) == [["GPU-a"], ["GPU-b"]]
        refused = grid("run", "--no-sync", "--gpus=1", "--cmd", "true")
        assert refused.status == 125, refused
        grid("jobs.kill", runs[0])
        done = grid.must("run", "--no-sync", "--gpus=1", "--cmd", "echo $CUDA_VISIBLE_DEVICES")
        assert [done.out.strip()] == leased[0]
    finally:
        machine.must("rm", "/usr/local/bin/nvidia-smi")


def test_bob_cannot_read_what_alice_s_runs_leave(machine: Debian, grid):
    look = "find / /run /dev/shm /tmp /var/tmp -xdev -user alice -type f -readable 2>/dev/null"
    before = set(grid.ssh(f"bob.{machine.name}", look).stdout.split())
    (grid.project / "secret.txt").write_text("alice's\n")
    grid.must("run", "--on", machine.name, "--env", "TOKEN=alices", "--cmd", "echo $TOKEN")
    job_id = grid.detach(machine, "sleep 60", "--env", "TOKEN=alices")
    after = set(grid.ssh(f"bob.{machine.name}", look).stdout.split())
    assert after == before, after - before
    for path in (".gridops", f".gridops/jobs/{job_id}/spec/run"):
        assert grid.ssh(f"bob.{machine.name}", f"cat ~alice/{path}").returncode != 0
    environs = "cat /proc/[0-9]*/environ 2>/dev/null; ps axeww"
    assert "alices" not in grid.ssh(f"bob.{machine.name}", environs).stdout
