"""What deploy/ offers, each file checked with the tool that will read it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from invoke import Collection
from invoke.parser import Parser
from prometheus_client import ProcessCollector
from support.nodes import find_program

from gridops.observe import exposition
from gridops.observe.scrape import Scrape
from gridops.observe.store import Store
from gridops.tasks import ns

REPOSITORY = Path(__file__).parents[2]
DEPLOY = REPOSITORY / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
GITHUB, GITLAB = DEPLOY / "ci/github-actions.yml", DEPLOY / "ci/gitlab-ci.yml"
UNIT = DEPLOY / "systemd/gridops-exporter.service"
DASHBOARD = DEPLOY / "grafana/gridops.json"
DOCKERFILE = DEPLOY / "docker/Dockerfile"


def tool(name: str) -> str:
    """A program of this virtual environment, or of the system."""
    return shutil.which(name, path=str(Path(sys.executable).parent)) or find_program(name)


def run(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, capture_output=True, text=True, timeout=60, check=False,
        stdin=subprocess.DEVNULL, **options,
    )  # fmt: skip


def passes(*words: str, **options: Any) -> str:
    """What it prints; fails unless it is content."""
    done = run(*words, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


# -- Prometheus ----------------------------------------------------------------------------------


def metrics() -> set[str]:
    """The names of all series that gridops has."""
    store = Store(Path("/nonexistent/gridops.db"))
    found = {"up"}
    families = [
        *exposition.of_store(store),
        *Scrape(store)._of_exporter(True),
        *ProcessCollector(registry=None).collect(),
    ]
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        more = ("_bucket", "_sum", "_count") if family.type == "histogram" else ("",)
        found |= {name + suffix for suffix in more}
    return found


def unknown_metrics(expressions: Iterator[str] | list[str]) -> set[str]:
    named = re.compile(r"\b(?:grid|process)_[a-z0-9_]+")
    return {name for one in expressions for name in named.findall(one)} - metrics()


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "gridops.rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_the_yaml_is_tidy():
    passes(
        tool("yamllint"), "--strict", str(DEPLOY), str(REPOSITORY / "inventories"), cwd=REPOSITORY
    )


def test_prometheus_takes_its_configuration_and_the_rules():
    said = passes(tool("promtool"), "check", "config", str(PROMETHEUS / "prometheus.yml"))
    assert "12 rules found" in said
    assert said.count("SUCCESS") >= 2


def test_the_alerts_fire_when_they_should_and_not_before():
    said = passes(tool("promtool"), "test", "rules", str(PROMETHEUS / "gridops.rules.test.yml"))
    assert "SUCCESS" in said


def test_every_alert_is_tested_firing():
    tests = yaml.safe_load((PROMETHEUS / "gridops.rules.test.yml").read_text())["tests"]
    firing = {
        one["alertname"]
        for test in tests
        for one in test["alert_rule_test"]
        if one.get("exp_alerts")
    }
    assert firing == {rule["alert"] for rule in rules()}


def test_the_alerts_know_only_metrics_that_exist():
    assert unknown_metrics([rule["expr"] for rule in rules()]) == set()
    assert unknown_metrics(["grid_node_upp == 0"]) == {"grid_node_upp"}


def test_the_alerts_name_only_tasks_and_commands_that_exist():
    text = (PROMETHEUS / "gridops.rules.yml").read_text()
    for line in re.findall(r"`gridops ([^`]*)`", text):
        parse(shlex.split(line.replace("{{ $labels.node }}", "gpu01")))


# -- Grafana -------------------------------------------------------------------------------------


def panels() -> list[dict[str, Any]]:
    return json.loads(DASHBOARD.read_text())["panels"]


def expressions() -> list[str]:
    """Of all panels, with Grafana's variables filled in as it would."""
    found = [target["expr"] for panel in panels() for target in panel.get("targets", ())]
    filled = {"$node": ".*", "$job": ".*", "$__rate_interval": "1m", "$__range": "1h"}
    for name, value in filled.items():
        found = [one.replace(name, value) for one in found]
    return found


def test_the_dashboard_asks_only_what_prometheus_understands(tmp_path):
    recorded = [
        {"record": f"panel:expression:{number}", "expr": one}
        for number, one in enumerate(expressions())
    ]
    file = tmp_path / "dashboard.rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    said = passes(tool("promtool"), "check", "rules", str(file))
    assert f"{len(recorded)} rules found" in said
    assert len(recorded) > 25


def test_the_dashboard_shows_only_metrics_that_exist_and_all_that_are_ours():
    asked = expressions()
    assert unknown_metrics(asked) == set()
    listed = {name for one in asked for name in re.findall(r"\bgrid_\w+", one)}
    eight = {
        "grid_tasks_completed_total",
        "grid_sync_operations_total",
        "grid_task_duration_seconds_bucket",
        "grid_node_selection_seconds_bucket",
        "grid_sync_duration_seconds_bucket",
        "grid_active_tasks",
        "grid_node_health_score",
    }
    assert eight <= listed


def test_the_panels_do_not_overlap_and_have_names_of_their_own():
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)


def test_the_dashboard_works_with_any_data_source():
    found = json.loads(DASHBOARD.read_text())
    uids = {t["datasource"]["uid"] for p in found["panels"] for t in p.get("targets", ())}
    assert uids == {"${datasource}"}
    assert [one["name"] for one in found["templating"]["list"]] == ["datasource", "job", "node"]


# -- systemd -------------------------------------------------------------------------------------


def test_systemd_has_nothing_to_say_about_the_unit(tmp_path, home):
    program = home / ".local/bin/gridops"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    shutil.copy(UNIT, tmp_path)
    (tmp_path / "run").mkdir(mode=0o700)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    words = (tool("systemd-analyze"), "--user", "verify", str(tmp_path / UNIT.name))
    assert passes(*words, env=environment) == ""
    broken = tmp_path / UNIT.name
    broken.write_text(broken.read_text().replace("Restart=on-failure", "Restart=onfailure"))
    done = run(*words, env=environment)
    assert "onfailure" in done.stderr


def test_the_unit_starts_a_command_that_exists():
    line = re.search(r"^ExecStart=\S+/gridops (.*)$", UNIT.read_text(), re.MULTILINE)
    assert line
    words = line[1].replace("${GRIDOPS_PORT}", "9464").replace("${GRIDOPS_EVERY}", "15")
    parse(words.split())


# -- CI ------------------------------------------------------------------------------------------


def parse(words: list[str]) -> None:
    """Fails unless gridops has such a task with such flags."""
    Parser(contexts=Collection.to_contexts(ns)).parse_argv(words)


def commands(file: Path) -> list[list[str]]:
    """The gridops command lines in a file, without comments."""
    found = []
    for line in file.read_text().splitlines():
        line = line.split(" #")[0].strip()
        call = re.search(r"(?:^|: |- )gridops (.*)$", line)
        if call and not line.startswith("#"):
            found.append(shlex.split(call[1]))
    return found


@pytest.mark.parametrize("file", [GITHUB, GITLAB], ids=lambda file: file.stem)
def test_the_examples_call_tasks_and_flags_that_exist(file):
    found = commands(file)
    assert {words[0] for words in found} >= {"health", "run", "report"}
    for words in found:
        parse(words)


def test_the_github_workflow_is_one():
    passes(tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", str(GITHUB))


def test_the_gitlab_pipeline_is_one():
    passes(
        tool("check-jsonschema"), "--builtin-schema", "vendor.gitlab-ci",
        "--data-transform", "gitlab-ci", str(GITLAB),
    )  # fmt: skip


def scripts(file: Path) -> list[str]:
    """The shell scripts that a workflow or a pipeline has."""
    found = yaml.safe_load(file.read_text())
    if file == GITHUB:
        return [step["run"] for step in found["jobs"]["train"]["steps"] if "run" in step]
    keys = ("before_script", "script", "after_script")
    jobs = [one for one in found.values() if isinstance(one, dict)]
    return ["\n".join(job[key]) for job in jobs for key in keys if key in job]


@pytest.mark.parametrize("file", [GITHUB, GITLAB], ids=lambda file: file.stem)
def test_shellcheck_has_nothing_to_say_of_the_scripts(file, tmp_path):
    found = scripts(file)
    assert len(found) > 3
    for number, text in enumerate(found):
        script = tmp_path / str(number)
        script.write_text(text)
        assert passes(tool("shellcheck"), "--shell=bash", str(script)) == ""


def test_no_expression_is_pasted_into_a_script():
    """An input or a branch's name would become part of the program."""
    for step in yaml.safe_load(GITHUB.read_text())["jobs"]["train"]["steps"]:
        assert "${{" not in step.get("run", "")


def test_secrets_are_written_for_nobody_else(tmp_path):
    """The scripts of both examples, run as they are."""
    github = next(
        step["run"]
        for step in yaml.safe_load(GITHUB.read_text())["jobs"]["train"]["steps"]
        if "SSH_KEY" in step.get("env", {})
    )
    gitlab = "\n".join(yaml.safe_load(GITLAB.read_text())[".grid"]["before_script"])
    for number, script in enumerate((github, gitlab)):
        home = tmp_path / str(number)
        home.mkdir()
        (home / "key").write_text("KEY\n")
        (home / "hosts").write_text("HOSTS\n")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "SSH_KEY": "KEY",
            "KNOWN_HOSTS": "HOSTS",
            "GRID_SSH_KEY": str(home / "key"),
            "GRID_KNOWN_HOSTS": str(home / "hosts"),
        }
        assert passes("bash", "-euo", "pipefail", "-c", script, env=environment) == ""
        key, hosts = home / ".ssh/id_ed25519", home / ".ssh/known_hosts"
        assert (key.read_text(), hosts.read_text()) == ("KEY\n", "HOSTS\n")
        assert key.stat().st_mode & 0o777 == 0o600
        assert key.parent.stat().st_mode & 0o777 == 0o700


# -- Docker --------------------------------------------------------------------------------------


def test_hadolint_has_nothing_to_say():
    assert passes(tool("hadolint"), "--no-color", str(DOCKERFILE)) == ""


def test_the_image_is_built_from_all_that_the_package_needs():
    """And nothing else gets into the build: no .git, no virtual environment, no inventory."""
    lines = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().split()
    assert lines[0] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert let_in == {"setup.cfg", "pyproject.toml", "LICENSE", "README.md", "gridops"}


def test_the_image_runs_commands_that_exist():
    for line in re.findall(r"gridops gridops (.*)$", DOCKERFILE.read_text(), re.MULTILINE):
        parse(shlex.split(line))
    assert 'CMD ["gridops", "--list"]' in DOCKERFILE.read_text()
    assert "USER 1000" in DOCKERFILE.read_text()
