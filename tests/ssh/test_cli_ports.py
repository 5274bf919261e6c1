"""`run --port`, as a process of its own."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import suppress

import pytest
from support.cli import run, started
from support.forwarding import ask, echo, free_port, server
from support.nodes import end, settings_of, sshd_sessions, wait_until

from gridops.jobs import client
from gridops.reach import pool

SERVE = f"echo up; exec {sys.executable} -m http.server --bind 127.0.0.1 "
LEADS = re.compile(r"gridops: (\S+): http://127\.0\.0\.1:(\d+) leads to port (\d+) there\n")


@pytest.fixture(autouse=True)
def _nowhere(inventory, monkeypatch, link1) -> Iterator[None]:
    """A working directory that is no project; no run is left on node1."""
    monkeypatch.chdir("/")
    yield
    for job in client.list_jobs(link1):
        if job.active:
            client.kill(link1, job.id, grace=0)


def serving(*ports: str, remote: int, on: str = "node1"):
    flags = [word for port in ports for word in ("--port", port)]
    return started("run", "--on", on, "--no-sync", *flags, "--cmd", SERVE + str(remote))


def page(port: int) -> bool:
    """Whether the node's web server answers here."""
    with suppress(OSError):
        url = f"http://127.0.0.1:{port}/"
        return b"Directory listing" in urllib.request.urlopen(url, timeout=20).read()
    return False


def interrupted(child: subprocess.Popen[bytes]) -> str:
    """What it said once Ctrl-C has ended it."""
    child.send_signal(signal.SIGINT)
    err = child.communicate(timeout=30)[1].decode()
    assert child.returncode == 130, err
    return err


def leads(err: str) -> list[tuple[str, int, int]]:
    return [(node, int(local), int(remote)) for node, local, remote in LEADS.findall(err)]


def test_a_port_given_with_a_local_one_leads_there_until_the_run_ends():
    local, remote = free_port(), free_port()
    with serving(f"{local}:{remote}", remote=remote) as child:
        wait_until(lambda: page(local))
        assert leads(interrupted(child)) == [("node1", local, remote)]
    socket.create_server(("127.0.0.1", local)).close()


def test_without_one_a_free_port_is_chosen_and_said():
    remote = free_port()
    with serving(str(remote), remote=remote) as child:
        assert child.stderr
        line = next(line for line in child.stderr if b"leads" in line)
        ((node, local, to),) = leads(line.decode())
        assert (node, to) == ("node1", remote)
        assert local != remote
        wait_until(lambda: page(local))


def test_several_lead_to_several():
    remote, one, two = free_port(), free_port(), free_port()
    with server(echo) as other, serving(f"{one}:{remote}", f"{two}:{other}", remote=remote):
        wait_until(lambda: page(one))
        assert ask(two, b"x") == b"x"


@pytest.mark.parametrize("node", ["node1", "here"])
def test_the_same_port_works_where_the_node_is_this_machine(node, inventory):
    inventory({"here": {"connection": "local"}})
    port = free_port()
    with serving(f"{port}:{port}", remote=port, on=node) as child:
        wait_until(lambda: page(port))
        assert leads(interrupted(child)) == [(node, port, port)]


def test_it_works_again_when_the_connection_is_back(sandbox):
    local, remote = free_port(), free_port()
    with serving(f"{local}:{remote}", remote=remote) as child:
        wait_until(lambda: page(local))
        end(sshd_sessions(int((sandbox.root / "node1" / "pid").read_text())))
        wait_until(lambda: page(local))
        assert child.poll() is None


def test_it_works_again_when_the_masters_are_gone(sandbox):
    local, remote = free_port(), free_port()
    with serving(f"{local}:{remote}", remote=remote) as child:
        wait_until(lambda: page(local))
        assert pool.close([], settings_of(sandbox)) == 0
        assert pool.close() > 0
        wait_until(lambda: page(local))
        assert child.poll() is None


@pytest.mark.parametrize("port", ["0", "70000", "http", "1:2:3", ""])
def test_a_bad_port_is_said_before_anything(port):
    done = run("gridops", "run", "--no-sync", "--port", port, "--cmd", "echo ran")
    assert done.status == 2
    assert done.complaint.startswith(f"--port {port!r} is not [LOCAL:]REMOTE (ports from 1")


def test_a_taken_port_is_said_before_anything_with_who_has_it():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("gridops", "run", "--no-sync", "--port", f"{port}:80", "--cmd", "echo ran")
    assert done.status == 2
    assert f"port {port} of this machine is taken" in done.complaint


def test_a_port_that_is_in_use_on_the_node_is_said_before_the_command_starts():
    with server(echo) as busy:
        done = run(
            *("gridops", "run", "--on", "node1", "--no-sync"),
            *("--port", str(busy), "--cmd", "echo ran >&2"),
        )
    assert done.status == 0
    warned = done.err.index(f"warning: node1: something listens on port {busy} there already")
    assert warned < done.err.index("ran\n")


def test_a_run_that_is_left_keeps_no_port():
    local, remote = free_port(), free_port()
    with serving(f"{local}:{remote}", remote=remote) as child:
        wait_until(lambda: page(local))
        child.terminate()
        child.communicate(timeout=30)
        socket.create_server(("127.0.0.1", local)).close()
        assert page(remote)  # the run goes on
