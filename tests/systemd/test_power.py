"""Machines that reboot, lose power, or whose sshd is restarted, while they have runs."""

from __future__ import annotations

import time

import pytest
from support.nodes import wait_until

SLOW = "echo $GRIDOPS_RUN_ID >>~/begun; for i in $(seq 1 {n}); do echo $i; sleep 0.2; done"
AWAY = 6.0  # seconds for which a machine's sshd is away


def lines(count):
    return "".join(f"{i}\n" for i in range(1, count + 1))


def reboot(machine):
    machine.reboot()


def lose_power(machine):
    machine.cut_power()
    machine.power_on()


def begun(machine):
    path = machine.home() / "begun"
    return path.read_text().split() if path.exists() else []


@pytest.mark.parametrize("how", [reboot, lose_power])
def test_a_run_that_the_machine_s_end_took_along_is_lost(machine, grid, how):
    job_id = grid.detach(machine, SLOW.format(n=1000))
    how(machine)
    job = grid.job(job_id)
    assert (job["state"], job["exit_status"], job["orphan"]) == ("lost", 125, False), job
    done = grid("jobs.wait", job_id)
    assert done.status == 125
    assert "lost" in done.err
    assert begun(machine) == [job_id]
    assert grid.must("run", "--no-sync", "--on", machine.name, "--cmd", "echo free").out == "free\n"


@pytest.mark.parametrize("how", [reboot, lose_power])
def test_it_is_run_again_after_that_when_asked_for(machine, grid, how):
    """Also a command that the TERM of a shutdown does not end is not taken for ended."""
    command = "trap '' TERM; " + SLOW.format(n=20)
    child = grid.start("run", "--no-sync", "--on", machine.name, "--restart-lost", "--cmd", command)
    wait_until(lambda: begun(machine), 20)
    how(machine)
    out, err = child.communicate(timeout=120)
    assert (child.returncode, len(set(begun(machine))), len(begun(machine))) == (0, 2, 2), err
    assert out.decode().endswith(lines(20)), err


def test_a_run_that_ended_before_the_reboot_stays_finished(machine, grid):
    done = grid("run", "--no-sync", "--on", machine.name, "--cmd", "echo done; exit 3")
    assert done.status == 3
    grid.leave()
    machine.reboot()
    assert grid("jobs.logs", "@last", "--follow").out == "done\n"
    assert grid("jobs.wait", "@last").status == 3


def test_a_run_goes_on_while_sshd_is_restarted(machine, grid):
    child = grid.start("run", "--no-sync", "--on", machine.name, "--cmd", SLOW.format(n=40))
    wait_until(lambda: begun(machine), 20)
    for _ in range(3):
        machine.must("systemctl", "restart", "ssh")
        time.sleep(1)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out.decode(), len(begun(machine))) == (0, lines(40), 1), err


def test_a_client_comes_back_when_sshd_does(machine, grid):
    """The connections end as well: Debian's ssh.service leaves them alone when it is stopped."""
    child = grid.start("run", "--no-sync", "--on", machine.name, "--cmd", SLOW.format(n=50))
    wait_until(lambda: begun(machine), 20)
    machine.must("systemctl", "stop", "ssh")
    machine.run("pkill", "-KILL", "sshd")
    time.sleep(AWAY)
    machine.must("systemctl", "start", "ssh")
    out, err = child.communicate(timeout=90)
    assert (child.returncode, out.decode(), len(begun(machine))) == (0, lines(50), 1), err
    assert b"reconnecting" in err


def test_a_full_disk_cuts_the_output_and_not_the_run(machine, grid):
    machine.must("cp", "-a", "/home/alice/.ssh", "/root/alice.ssh")
    machine.must("mount", "-t", "tmpfs", "-o", "size=1m,uid=1000,gid=1000,mode=700", "tmpfs",
                 "/home/alice")  # fmt: skip
    machine.must("cp", "-a", "/root/alice.ssh", "/home/alice/.ssh")
    try:
        done = grid("run", "--no-sync", "--on", machine.name, "--cmd", "seq 500000; exit 4")
        assert done.status == 4, done.err
        assert done.out.startswith(lines(1000))
        assert "full" in done.err
        (grid.project / "big").write_bytes(b"x" * 2_000_000)
        done = grid("sync", "--nodes", machine.name)
        assert done.status == 125
        assert "No space left" in done.err + done.out
    finally:
        grid.leave()
        machine.must("umount", "-l", "/home/alice")
        machine.must("rm", "-rf", "/root/alice.ssh")
