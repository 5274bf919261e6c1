"""An inventory that was read before is recalled, and only while it says the same."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import BaseModel

from gridops.inventory import load
from gridops.retry import RetryConfig

TEXT = """
nodes:
  "gpu[1-2]": {tags: [gpu, big], slots: 2, ray: {num_cpus: 3, labels: {zone: a}}}
  here: {connection: local}
ssh: {persist: 10m, options: {Compression: yes}, config_file: cfg}
sync: {exclude_patterns: ["*.ckpt"]}
retry: {max_retries: 7}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "grid.yaml"
    path.write_text(TEXT)
    return path


def kept(home: Path) -> list[Path]:
    return list((home / "cache/gridops/inventories").glob("*"))


def plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, SimpleNamespace):
        return {name: plain(one) for name, one in vars(value).items()}
    return value


def test_what_is_recalled_is_what_was_read(file: Path, home: Path) -> None:
    first = load(file)
    assert [path.stat().st_mode & 0o777 for path in kept(home)] == [0o600]
    second = load(file)
    assert type(second.settings) is not type(first.settings)
    assert second.nodes == first.nodes
    assert [node.ray for node in second.nodes] == [node.ray for node in first.nodes]
    assert plain(second.settings) == plain(first.settings)
    assert second.settings.ssh.config_file == file.parent / "cfg"
    assert RetryConfig.of(second.settings.retry).max_retries == 7
    assert second.path == file


def test_a_recalled_inventory_loads_neither_pydantic_nor_yaml(file: Path) -> None:
    load(file)
    code = (
        "import sys; from gridops.inventory import load; from gridops.grid import Grid;"
        f" load({str(file)!r}); print(sorted({{'pydantic', 'yaml'}} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "[]\n"


def test_a_file_that_was_changed_is_read_again(file: Path) -> None:
    assert load(file).settings.retry.max_retries == 7
    file.write_text(TEXT.replace("max_retries: 7", "max_retries: 8"))
    assert load(file).settings.retry.max_retries == 8


def test_a_file_with_variables_is_never_kept(
    file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text("nodes: {a: {host: '${WHERE}'}}")
    for host in ("one", "two"):
        monkeypatch.setenv("WHERE", host)
        assert load(file).nodes[0].host == host
    assert kept(home) == []


def test_a_home_that_moved_is_noticed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text("nodes: [a]\nssh: {config_file: ~/cfg}")
    before = load(file).settings.ssh.config_file
    cache = Path.home() / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("HOME", "/elsewhere")
    assert load(file).settings.ssh.config_file != before


@pytest.mark.parametrize("rubbish", ["", "{}", "[1]", '{"of": 1}', "\0"])
def test_a_broken_snapshot_is_passed_over(file: Path, home: Path, rubbish: str) -> None:
    first = load(file)
    (place,) = kept(home)
    place.write_text(rubbish)
    assert load(file).nodes == first.nodes
    assert load(file).nodes == first.nodes


def test_a_cache_that_cannot_be_written_is_no_reason_to_fail(file: Path, home: Path) -> None:
    (home / "cache").write_text("a file where a directory should be")
    assert [node.name for node in load(file).nodes] == ["gpu1", "gpu2", "here"]
