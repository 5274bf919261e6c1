"""What a user mistypes is met with one line, exit status 2, and before anything is connected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import Tell, teller

NODES = """\
nodes:
  gpu[1-2]: {tags: [gpu]}
  cpu1: {}
"""


WHO_CONNECTS = (
    "dispatch.assignment",
    "dispatch.exec",
    "dispatch.executor",
    "dispatch.holders",
    "jobs.lookup",
    "probe.checker",
)


@pytest.fixture
def tell(
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
    cwd: Path,
) -> Iterator[Tell]:
    connected: list[object] = []
    for module in (*WHO_CONNECTS, "reach"):  # that last: the others take theirs from there
        monkeypatch.setattr(f"gridops.{module}.link_to", lambda *args: connected.append(args))
    (cwd / "nodes.yaml").write_text(NODES)
    (cwd / "bad.yaml").write_text("nodes:\n  a: {slot: 1}\n")
    (cwd / "twice.yaml").write_text("nodes:\n  a: {}\n  a: {}\n")
    (cwd / "torn.yaml").write_text("nodes: [a,\n")
    (cwd / "empty.yaml").write_text("")
    monkeypatch.setenv("GRIDOPS_INVENTORY", "nodes.yaml")
    yield from teller(capfdbinary, monkeypatch)
    assert connected == []


TYPOS = [
    # nodes and tags, wherever one can select
    ("health --nodes gpu9", "unknown node 'gpu9' (did you mean gpu2? valid: gpu1, gpu2, cpu1)"),
    ("best --nodes gpu[1-3]", "valid: gpu1, gpu2, cpu1"),
    ("run --cmd x --nodes @gpus", "unknown tag 'gpus' (did you mean gpu? valid: gpu)"),
    ("exec --cmd x --tags gpo", "unknown tag 'gpo' (did you mean gpu? valid: gpu)"),
    ("sync --nodes gpu[1-", "gpu[1-"),
    ("sync --nodes=", "--nodes is empty"),
    ("health --nodes cpu1 --tags gpu", "--nodes cpu1 --tags gpu selects no node"),
    ("inventory.list --nodes nix*", "valid: gpu1, gpu2, cpu1"),
    ("pool.open --nodes nobody", "valid: gpu1, gpu2, cpu1"),
    ("trust --nodes nobody", "valid: gpu1, gpu2, cpu1"),
    # formats
    ("health --format xml", "unknown format 'xml' (valid: table, json, csv)"),
    ("best --format csv", "unknown format 'csv' (valid: table, json)"),
    ("exec --cmd x --format cvs", "unknown format 'cvs' (valid: table, json)"),
    ("sync --format yaml", "unknown format 'yaml' (valid: table, json)"),
    ("inventory.list --format jason", "(did you mean json? valid: table, json, csv)"),
    # values of flags
    ("health --watch soon", "--watch 'soon' is not a duration (such as 90, 1.5, 10m, 1h30m)"),
    ("health --watch 5 --format json", "--watch does not go with --format json"),
    ("health --watch 5 --format csv", "--watch does not go with --format csv"),
    ("run --cmd x --timeout never", "--timeout 'never' is not a duration"),
    ("run --cmd x --timeout 9999999d", "--timeout '9999999d' is longer than a year"),
    ("run --cmd x --timeout=-5", "--timeout '-5' is not a duration"),
    ("exec --cmd x --timeout 0", "--timeout '0' is not a duration"),
    ("run --cmd x --env LR", "--env 'LR' is not NAME=VALUE (--env LR=0.1 --env SEED=3)"),
    ("exec --cmd x --env 1A=2", "--env '1A' is not NAME=VALUE"),
    ("run --cmd x --env UID=0", "--env UID: shells do not allow to set it"),
    ("run --cmd x --on gpu7", "unknown node 'gpu7' (did you mean gpu2? valid: gpu1, gpu2, cpu1)"),
    ("run --cmd x --on cpu1 --tags gpu", "--on cpu1 is not among the selected nodes (valid: gpu["),
    ("run --cmd x --src no/such", "--src no/such: there is no such directory"),
    ("run", "no command (inv run --cmd"),
    ("exec", "no command (inv exec --cmd"),
    ("run --cmd x -- y", "both --cmd and a command after --"),
    ("health --log-level loud", "unknown log level 'loud' (valid: DEBUG, INFO"),
    ("health --log-format xml", "unknown log format 'xml' (valid: auto, human, json)"),
    ("sandbox.up --nodes many", "--nodes 'many' is not a number from 1 to 200"),
    ("sandbox.up --nodes 201", "1 to 200"),
    # inventories
    ("health --inventory no.yaml", "no.yaml"),
    ("health --inventory=", "--inventory is empty"),
    ("health --inventory bad.yaml", "bad.yaml:2:nodes.a.slot: unknown key (did you mean slots?"),
    ("run --cmd x --inventory twice.yaml", "twice.yaml:3:"),
    ("best --inventory torn.yaml", "torn.yaml:"),
    ("sync --inventory empty.yaml", "empty.yaml"),
    ("health --inventory .", "."),
    # what invoke refuses itself
    ("helth", "helth"),
    ("health --nodse x", "--nodse"),
    ("health --nodes", "nodes"),
]


@pytest.mark.parametrize(("line", "words"), TYPOS, ids=[line for line, _ in TYPOS])
def test_a_mistake_is_one_line_that_says_what_is_valid(tell, line, words):
    done = tell(*line.split())
    assert done.status == 2, done
    assert words in done.complaint


def test_an_inventory_of_the_environment_is_said_to_be_its(tell, monkeypatch):
    monkeypatch.setenv("GRIDOPS_INVENTORY", "gone.yaml")
    done = tell("health")
    assert done.status == 2
    assert "GRIDOPS_INVENTORY" in done.complaint


def test_no_one_syncs_a_home_by_accident(tell, home, monkeypatch, cwd):
    monkeypatch.setenv("GRIDOPS_INVENTORY", str(cwd / "nodes.yaml"))
    monkeypatch.chdir(home)
    for words in (("run", "--cmd", "x"), ("sync",)):
        done = tell(*words)
        assert done.status == 2
        assert done.complaint.startswith(
            f"this would sync all of {home} (change to the project's directory, or"
        )
