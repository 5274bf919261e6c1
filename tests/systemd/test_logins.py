"""Runs on a machine whose logind sees logins end: they go on, unless it is told to end them."""

from __future__ import annotations

import time

import pytest
from support.nodes import wait_until

LOGIND_DELAY = 5.0  # seconds in which logind has long done what it does when a login ends
SLOW = "echo $GRIDOPS_RUN_ID >>~/begun; for i in $(seq 1 {n}); do echo $i; sleep 0.2; done"
LONG, SHORT = 110, 30  # lines: the long one outlasts what a busy client does before it looks


def lines(count):
    return "".join(f"{i}\n" for i in range(1, count + 1))


def sessions(machine):
    """Alice's logins, without her manager and those that logind calls closing."""
    listed = machine.must("loginctl", "list-sessions", "--no-legend").split("\n")
    numbers = [line.split()[0] for line in listed if " alice " in line]
    told = (
        machine.run("loginctl", "show-session", n, "-p", "State", "-p", "Class").stdout
        for n in numbers
    )
    return [one for one in told if "Class=user\n" in one and "State=closing" not in one]


def ended(machine, job_id):
    return (machine.record(job_id) / "exit").is_symlink()


def test_a_run_goes_on_when_its_user_has_logged_out(machine, grid):
    job_id = grid.detach(machine, SLOW.format(n=LONG))
    grid.leave()
    wait_until(lambda: not sessions(machine), 20)
    time.sleep(LOGIND_DELAY)
    assert not ended(machine, job_id)
    done = grid("jobs.logs", job_id, "--follow")
    assert (done.status, done.out) == (0, lines(LONG))


@pytest.mark.parametrize("lingering", [False, True])
def test_a_run_that_logind_ends_is_lost_and_may_be_run_again(
    machine, grid, kill_user_processes, lingering
):
    """With KillUserProcesses=yes; that its user lingers keeps only what the user's manager runs."""
    if lingering:
        machine.must("loginctl", "enable-linger", "alice")
    job_id = grid.detach(machine, SLOW.format(n=LONG))
    grid.leave()
    wait_until(lambda: not sessions(machine), 20)
    wait_until(lambda: not machine.run("pgrep", "-u", "alice", "-x", "sleep").stdout, 20)

    job = grid.job(job_id)
    assert (job["state"], job["exit_status"]) == ("lost", 125), job
    done = grid("jobs.wait", job_id)
    assert done.status == 125
    assert "lost" in done.err


def test_a_run_whose_login_is_terminated_is_run_again_when_that_was_asked_for(machine, grid):
    child = grid.start(
        "run", "--no-sync", "--on", machine.name, "--restart-lost", "--cmd", SLOW.format(n=SHORT)
    )
    wait_until(lambda: (machine.home() / "begun").exists(), 20)
    machine.must("loginctl", "terminate-user", "alice")
    out, err = child.communicate(timeout=90)
    assert child.returncode == 0, err
    assert out.decode().endswith(lines(SHORT))
    begun = (machine.home() / "begun").read_text().split()
    assert len(begun) == len(set(begun)) == 2, err
