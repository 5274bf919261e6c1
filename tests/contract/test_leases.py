"""What the probe says of a node's slots, runs and GPUs is what that node does when it is asked."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from support.jobs import Place, begun, done, shell_path, start, supervisor
from support.nodes import wait_until

from gridops.errors import NotStarted
from gridops.jobs import client
from gridops.model import Node
from gridops.probe.checker import probe_script
from gridops.probe.parse import Figures, parse
from gridops.reach.local import LocalLink


def probed(place: Place) -> Figures:
    reply = place.link.script(probe_script(), "~/gridops", "0.01", "5", "", timeout=30)
    assert (reply.status, reply.stderr) == (0, b"")
    return parse(reply.stdout, "~/gridops")


def counts(place: Place) -> tuple[int, int]:
    found = probed(place)
    return found.running, found.queued


def refused(place: Place, slots: int) -> bool:
    """Whether the node has no room for one more run."""
    try:
        start(place, "true", slots=slots)
    except NotStarted as exc:
        return exc.reason == "busy"
    return False


def test_runs_count_from_their_start_to_their_end(place: Place) -> None:
    assert counts(place) == (0, 0)
    first, second = (start(place, "sleep 300", slots=2, grace=0) for _ in range(2))
    waiting = start(place, "true", slots=2, wait=100.0)
    assert counts(place) == (2, 1)
    assert refused(place, slots=2)

    client.kill(place.link, first, grace=0)
    done(place, waiting)
    assert counts(place) == (1, 0)
    assert not refused(place, slots=2)

    client.kill(place.link, second, grace=0)
    wait_until(lambda: counts(place) == (0, 0))


def test_a_run_whose_supervisor_was_killed_holds_nothing(place: Place) -> None:
    job_id = start(place, "sleep 300", grace=0)
    begun(place, job_id)
    assert counts(place) == (1, 0)
    os.kill(supervisor(place, job_id), signal.SIGKILL)
    wait_until(lambda: counts(place) == (0, 0))
    assert not refused(place, slots=1)


def test_a_run_that_waits_and_is_killed_waits_no_more(place: Place) -> None:
    start(place, "sleep 300", grace=0)
    waiting = start(place, "true", wait=100.0)
    assert counts(place) == (1, 1)
    client.kill(place.link, waiting, grace=0)
    wait_until(lambda: counts(place) == (1, 0))


SMI = """#!/bin/sh
case "$*" in
*--query-gpu=index,uuid,name\\ *) printf '%s, GPU-%s, H100\\n' 0 a 1 b 2 c ;;
*--query-gpu=*) printf '%s, GPU-%s, H100, 81559, 4, 0, 30\\n' 0 a 1 b 2 c ;;
*) echo GPU-b, 4242, 100 ;;
esac
"""


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_the_gpus_that_a_run_has_are_those_that_the_probe_calls_leased(
    shell: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", shell_path(shell, home))
    (home / "shell" / "nvidia-smi").write_text(SMI)
    (home / "shell" / "nvidia-smi").chmod(0o755)
    place = Place(LocalLink(Node("here", "localhost", connection="local")), home)
    assert [gpu.free for gpu in probed(place).gpus] == [True, False, True]

    job_id = start(place, "sleep 300", gpus=2, slots=2, grace=0)
    begun(place, job_id)
    assert [gpu.lease for gpu in probed(place).gpus] == [job_id, None, job_id]
    assert client.status(place.link, [job_id])[job_id].gpus == ("GPU-a", "GPU-c")
    with pytest.raises(NotStarted):
        start(place, "true", gpus=1, slots=2)

    client.kill(place.link, job_id, grace=0)
    wait_until(lambda: [gpu.free for gpu in probed(place).gpus] == [True, False, True])
