"""A node's env_setup: it may be any text, and no status is told of a command that did not run."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.jobs import Kept, Place, start

from gridops.jobs import client
from gridops.jobs.foreground import ForegroundCommand
from gridops.jobs.logs import await_begin, last_words
from gridops.jobs.outcome import exit_status
from gridops.model import Node, RunSpec
from gridops.reach.local import LocalLink
from gridops.system.signals import Cancel

SHELLS = ("dash", "bash", "busybox")
RAN = "RAN"

FAILING = (
    "false",
    "exit 0",
    "exit 7",
    "exec true",
    "if",
    "echo 'unclosed",
    "fi; true",
    ") # a comment",
    "return",
    "return 3",
    "set -e; false; true",
    "set -n",
    "trap 'exit 0' EXIT; false",
    "trap 'echo RAN' HUP; exit 0",
    "kill -9 $$",
    "${UNSET_THING?is not set}",
    ". /no/such/activate",
    "no-such-command",
    "exec no-such-command",
    "readonly FIXED=1; FIXED=2",
    "true; exit # the end",
)
SUCCEEDING = (
    "# nothing",
    "",
    "  \n\n",
    "true # a comment",
    "cat <<END",
    "set -e",
    "set -u",
    "set -f; set -C",
    "trap 'echo BYE' EXIT",
    "trap '' TERM",
    "cd /",
    "umask 777",
    "set -- some words",
    "alias case=false eval=false esac=false",
    "exec 3>&- 4>&- 8>&- 9>&-",
    "exec 2>/dev/null",
    "true &",
    "PATH=/nowhere",
    "unset HOME PATH TMPDIR",
    "A=1\nB=2\n",
    "f() { echo; }\n",
    "false || true",
)


@pytest.fixture(params=SHELLS)
def here(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """This machine; scripts and commands have this shell, and the tools are BusyBox's."""
    tools = home / "shell"
    tools.mkdir()
    subprocess.run(["busybox", "--install", "-s", str(tools)], check=True)
    program = shutil.which(request.param)
    assert program
    (tools / "sh").unlink()
    (tools / "sh").symlink_to(program)
    if request.param == "bash":
        (tools / "bash").symlink_to(program)
    monkeypatch.setenv("PATH", str(tools))
    return Place(LocalLink(Node("here", "localhost", connection="local")), home)


@pytest.fixture(autouse=True)
def _nothing_is_left(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    place = home / "tmp dir"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))  # a blank in it: another one serves
    yield
    assert list(Path("/tmp").glob(f"gridops-setup-{os.getpid()}-*")) == []


def execute(place: Place, setup: str, command: str) -> tuple[int, bytes, bytes]:
    node = replace(place.link.node, env_setup=setup)
    out, err = bytearray(), bytearray()
    run_id = f"setup-{os.getpid()}-{time.monotonic_ns()}"
    begun = ForegroundCommand(LocalLink(node), RunSpec(command), run_id=run_id, timeout=20)
    return begun.follow(out.extend, err.extend, Cancel()).status, bytes(out), bytes(err)


@pytest.mark.parametrize("setup", FAILING)
def test_a_setup_that_does_not_succeed_is_125_everywhere(here: Place, setup: str) -> None:
    status, out, err = execute(here, setup, f"echo {RAN}")
    assert (status, out) == (125, b"")
    assert b"gridops: env_setup failed" in err.splitlines()[-1]
    kept = Kept()
    end = kept.run(here, f"echo {RAN}", env_setup=setup)
    assert (end.job.state, end.job.reason, end.job.began) == ("refused", "setup", False)
    assert (exit_status(end.job), end.job.status, bytes(kept.out)) == (125, 125, b"")
    assert b"gridops: env_setup failed" in kept.err.splitlines()[-1]


@pytest.mark.parametrize("setup", SUCCEEDING)
def test_a_setup_that_succeeds_lets_the_command_run(here: Place, setup: str) -> None:
    status, out, _ = execute(here, setup, f"echo {RAN}; exit 7")
    assert (status, out.split()[:1]) == (7, [RAN.encode()])
    kept = Kept()
    end = kept.run(here, f"echo {RAN}; exit 7", env_setup=setup)
    assert (end.job.state, end.job.status, end.job.began) == ("finished", 7, True)
    assert bytes(kept.out).split()[:1] == [RAN.encode()]
    assert bytes(kept.out).split()[1:] == [b"BYE"] or "BYE" not in setup


def test_the_command_has_what_the_setup_made(here: Place) -> None:
    setup = "f() { echo of f; }; V=\"it's\"; set -u; cd /; export W=w; alias a='echo alias'"
    command = 'f; echo "$V $W $PWD $#"; echo "${NOT_SET-none}"'
    expected = b"of f\nit's w / 0\nnone\n"
    assert execute(here, setup, command)[:2] == (0, expected)
    kept = Kept()
    kept.run(here, command, env_setup=setup)
    assert bytes(kept.out) == expected


def test_a_setup_may_lead_the_output_elsewhere(here: Place) -> None:
    target = here.home / "log"
    assert execute(here, f"exec >{target}", "echo exec; exit 3")[:2] == (3, b"")
    assert target.read_text() == "exec\n"
    end = Kept().run(here, "echo run; exit 4", env_setup=f"exec >>{target}")
    assert (end.job.state, end.job.status) == ("finished", 4)
    assert target.read_text() == "exec\nrun\n"


def test_a_commands_own_errors_stay_its_own(here: Place) -> None:
    for command, status in (("exit 125", 125), ("exit 0", 0), ("exec sh -c 'exit 5'", 5)):
        assert execute(here, "true", command)[0] == status
        end = Kept().run(here, command, env_setup="true")
        assert (end.job.state, end.job.status) == ("finished", status)
    assert Kept().run(here, "if", env_setup="true").job.began
    assert execute(here, "true", "if")[0] not in (0, 125)


def test_the_end_of_the_setup_can_be_waited_for(here: Place) -> None:
    began = time.monotonic()
    failed = await_begin(here.link, start(here, "true", env_setup="sleep 0.3; exit 0"))
    assert failed
    assert (failed.state, failed.reason) == ("refused", "setup")
    slow = start(here, "sleep 30", env_setup="sleep 0.3")
    assert (found := await_begin(here.link, slow))
    assert found.state == "running"
    stuck = start(here, "true", env_setup="sleep 30", slots=9)
    assert (found := await_begin(here.link, stuck, 1))
    assert found.state == "running"
    assert time.monotonic() - began < 20
    for job_id in (slow, stuck):
        client.kill(here.link, job_id, grace=0)


def test_the_last_words_are_the_shells_not_ours() -> None:
    said = "one\nbash: line 1: conda:\tnot found\x1b\n\ngridops: env_setup failed (status 1): …\n"
    assert last_words(said) == "bash: line 1: conda:not found"
    assert last_words("gridops: env_setup failed (it ended the shell): …\n") == ""
