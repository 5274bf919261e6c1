"""A node that never stops sending: each answer is cut off in time and in bounded memory.

Its `sh` is a program of somebody else's: it says the line that we wait for and then never ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.jobs import Kept, Place

from gridops.model import Node
from gridops.reach.local import LocalLink

MEMORY = 64 * 1024  # KiB that a hostile answer may take more than an honest one
TIMEOUT = 100.0  # seconds for a call, on a busy machine

# What it does with `sh -s` (a script on its input) and with `sh SCRIPT BASE VERB MARK …`.
FAKE = """\
#!/bin/sh
real={real}
case $1 in
-c)
    case $2 in
    *dd\\ bs=*) mark=$4 ;;
    *) exec $real "$@" ;;
    esac
    ;;
-s) mark=$2 ;;
*) mark=$4 ;;
esac
echo "$mark-stderr" >&2
echo "$mark"
{flood}
"""
FLOODS = {
    "lines": "exec yes 'state 20261130-164003-7128cbdd running'",
    "runs": 'exec awk \'BEGIN { for (;;) print "state r" ++n " running" }\'',
    "one line": "exec cat /dev/zero",
    "after the end": "echo end; echo done; exec yes x",
    "errors": "exec yes x >&2",
    "output": "exec yes 'out 0 3\nhi'",
}
CALLS = {
    "jobs": ("lines", "runs", "one line", "after the end"),
    "jobs.show": ("lines", "output"),
    "jobs.logs": ("lines", "after the end"),
    "jobs.wait": ("lines", "output"),
    "jobs.fetch": ("one line",),
    "jobs.prune": ("lines",),
    "health": ("lines", "errors"),
    "sync": ("one line",),
}
CASES = [(call, flood) for call, floods in CALLS.items() for flood in floods]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> int:
    """The peak memory of a call to a node that is well, in KiB."""
    path = tmp_path_factory.mktemp("honest")
    (path / "project").mkdir()
    return call(path, os.environ["PATH"], ["jobs"])[3]


@pytest.fixture
def run_id(home: Path) -> str:
    """A run of this machine, which is the node: what calls are asked about."""
    place = Place(LocalLink(Node("good", "localhost", connection="local")), home)
    return Kept().run(place, "echo hi").job.id


def hostile(tmp_path: Path, flood: str) -> str:
    """A PATH on which `sh` is the program above."""
    directory = tmp_path / "bin"
    directory.mkdir()
    fake = directory / "sh"
    fake.write_text(FAKE.replace("{real}", "/bin/sh").replace("{flood}", FLOODS[flood]))
    fake.chmod(0o755)
    return f"{directory}:{os.environ['PATH']}"


def call(tmp_path: Path, path: str, words: list[str]) -> tuple[int, str, str, int]:
    """Exit status, stdout, stderr, and the peak memory in KiB of `gridops WORDS`."""
    program = (
        "import resource, sys\n"
        "from gridops.tasks.program import main\n"
        "sys.argv = ['gridops', *sys.argv[1:]]\n"
        "try: main()\n"
        "finally:\n"
        "    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "    print(f'peak {peak}', file=sys.stderr)\n"
    )
    nodes = tmp_path / "nodes.yaml"
    nodes.write_text(
        json.dumps({"nodes": {"bad": {"connection": "local"}}, "retry": {"max_retries": 0}})
    )
    environment = {**os.environ, "PATH": path, "GRIDOPS_INVENTORY": str(nodes)}
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
        env=environment, cwd=tmp_path / "project", timeout=TIMEOUT, check=False,
    )  # fmt: skip
    *said, peak = done.stderr.splitlines()
    return done.returncode, done.stdout, "\n".join(said), int(peak.split()[1])


@pytest.mark.parametrize(("verb", "flood"), CASES)
def test_a_node_that_never_stops_sending_is_cut_off(
    tmp_path: Path, honest: int, run_id: str, verb: str, flood: str
) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "file").write_text("x")
    words = [verb]
    if verb.startswith("jobs.") and verb != "jobs.prune":
        words.append(run_id)
    if verb == "jobs.fetch":
        words += ["--pattern", "*"]
    status, out, said, peak = call(tmp_path, hostile(tmp_path, flood), words)
    assert status in (1, 125), (status, out, said)
    assert "Traceback" not in said
    assert len(said) < 5000
    assert peak - honest < MEMORY, (peak, honest)
