"""Every test here runs over each way to a node, and with each shell that a node's `sh` may be."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from jobhelpers import Place, shell_path

from gridops.jobs import client
from gridops.model import Node
from gridops.reach.local import LocalLink

WAYS = ("local", "bash", "busybox", "ssh")


@pytest.fixture(params=WAYS)
def place(request: pytest.FixtureRequest, home: Path) -> Iterator[Place]:
    if request.param == "ssh":
        node = request.getfixturevalue("sandbox").node("node1")
        made = Place(request.getfixturevalue("link1"), node.home)
    else:
        if request.param != "local":
            path = shell_path(request.param, home)
            request.getfixturevalue("monkeypatch").setenv("PATH", path)
        made = Place(LocalLink(Node("here", "localhost", connection="local")), home)
    yield made
    for job in client.list_jobs(made.link):
        if job.active:
            client.kill(made.link, job.id, grace=0)
    shutil.rmtree(made.home / ".gridops", ignore_errors=True)
