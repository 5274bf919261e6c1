"""Many runs at once on a machine that reboots, loses its power or ends its logins."""

from __future__ import annotations

import os
import random
import time

import pytest
from support.nodes import wait_until

from gridops.inventory.settings import SshSettings
from gridops.jobs import follow
from gridops.jobs.outcome import exit_status
from gridops.jobs.spec import JobSpec
from gridops.jobs.start import start_job
from gridops.model import Node
from gridops.reach import link_to

RUNS = 8
SEED = int(os.environ.get("GRIDOPS_FAULT_SEED", "0")) or random.randrange(1, 1_000_000)
CODE, LOST = 7, 125
SHORT = 30  # lines of a run that may hold up a shutdown
COMMAND = """{trap}
echo $GRIDOPS_RUN_ID >>~/begun
i=0
while [ $((i += 1)) -le {length} ]; do echo $i; sleep 0.1; done
exit 7
"""
STUBBORN = "trap : TERM HUP"  # goes on until the KILL that follows


def reboot(machine):
    machine.reboot()


def lose_power(machine):
    machine.cut_power()
    machine.power_on()


def end_logins(machine):
    machine.must("loginctl", "terminate-user", "alice")


def wrong_with(job, out, length):
    """What is wrong with how a run of so many lines went; nothing is: ""."""
    whole = "".join(f"{n}\n" for n in range(1, length + 1)).encode()
    if (job.state, exit_status(job)) == ("lost", LOST) and whole.startswith(out):
        return ""
    if (job.state, exit_status(job)) == ("finished", CODE) and whole == out:
        return ""
    return f"{job.id} of {length} lines is {job.state}, {job.reason}, {job.status}: {out!r}"


@pytest.mark.parametrize("how", [reboot, lose_power, end_logins])
def test_each_is_exact_or_said_to_be_lost_and_none_begins_twice(machine, grid, how):
    rng = random.Random(f"{SEED}.{machine.name}.{how.__name__}")
    settings = SshSettings(config_file=grid.machines.ssh_config)
    link = link_to(Node(machine.name, machine.name), settings)
    lengths = [300, *(rng.choice((3, 10, 30, 100)) for _ in range(RUNS - 1))]
    traps = [rng.choice((":", STUBBORN)) if length <= SHORT else ":" for length in lengths]
    specs = [
        JobSpec(COMMAND.format(trap=trap, length=length), slots=RUNS)
        for trap, length in zip(traps, lengths, strict=True)
    ]
    for spec in specs:
        start_job(link, spec)
    begun = machine.home() / "begun"
    wait_until(lambda: begun.exists() and len(begun.read_text().split()) == RUNS, 30)
    time.sleep(rng.uniform(0.0, 3.0))
    how(machine)

    wrong, states = [], set()
    for spec, length in zip(specs, lengths, strict=True):
        out = bytearray()
        job = follow.follow_through(
            link, spec.id, on_stdout=out.extend, on_stderr=lambda data: None, give_up_after=60
        ).job
        states.add(job.state)
        wrong.append(wrong_with(job, bytes(out), length))
    assert not any(wrong), (SEED, [text for text in wrong if text])
    assert "lost" in states, f"seed {SEED}: none was hit"
    ids = sorted(spec.id for spec in specs)
    assert sorted((machine.home() / "begun").read_text().split()) == ids
