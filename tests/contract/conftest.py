"""Every test here runs over each way to a node, and with each shell that a node's `sh` may be."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.dropbear import Dropbear, dropbear
from support.jobs import Place, shell_path

from gridops.jobs import client
from gridops.model import Node
from gridops.reach.local import LocalLink

WAYS = ("local", "bash", "busybox", "ssh")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What a durable run promises holds with dropbear, too; all else has nothing to do with it."""
    if "place" in metafunc.fixturenames and not hasattr(metafunc.module, "place"):
        more = ("dropbear",) if metafunc.module.__name__.endswith("test_jobs") else ()
        metafunc.parametrize("place", (*WAYS, *more), indirect=True)


@pytest.fixture(scope="session")
def router(session_dir: Path, runtime_dir: Path) -> Iterator[Dropbear]:
    with dropbear(session_dir / "db", session_dir) as made:
        yield made


@pytest.fixture
def place(request: pytest.FixtureRequest, home: Path) -> Iterator[Place]:
    if request.param == "ssh":
        node = request.getfixturevalue("sandbox").node("node1")
        made = Place(request.getfixturevalue("link1"), node.home)
    elif request.param == "dropbear":
        found = request.getfixturevalue("router")
        made = Place(found.link(), found.home, busybox=True, cuts=True)
    else:
        if request.param != "local":
            path = shell_path(request.param, home)
            request.getfixturevalue("monkeypatch").setenv("PATH", path)
        here = LocalLink(Node("here", "localhost", connection="local"))
        made = Place(here, home, busybox=request.param == "busybox")
    yield made
    for job in client.list_jobs(made.link):
        if job.active:
            client.kill(made.link, job.id, grace=0)
    shutil.rmtree(made.home / ".gridops", ignore_errors=True)
