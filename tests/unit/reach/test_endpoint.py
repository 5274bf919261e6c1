"""Where OpenSSH connects: the command lines, and which destinations may share a master."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from gridops.errors import ReachError
from gridops.inventory.settings import SshSettings
from gridops.model import Node
from gridops.reach.endpoint import Endpoint
from gridops.system import rundir

HERE = Endpoint("gpu01.lan", user="ml", port=2222, name="gpu01")


def value(words: list[str], option: str) -> str:
    """The first value of an option counts, as in ssh."""
    pairs = [word.split("=", 1) for word in words if "=" in word]
    return next(value for name, value in pairs if name == option)


def test_it_is_made_of_a_node_and_the_settings() -> None:
    ssh = SshSettings(
        config_file=Path("/etc/cfg"), options={"Compression": "yes"}, host_keys="accept-new"
    )
    endpoint = Endpoint.of(Node("gpu01", "10.0.0.7", user="ml", port=22), ssh)
    words = endpoint.destination()
    assert words[:2] == ["-F", "/etc/cfg"]
    assert value(words, "Compression") == "yes"
    assert value(words, "StrictHostKeyChecking") == "accept-new"
    assert value(words, "BatchMode") == "yes"
    assert words[-4:] == ["-l", "ml", "-p", "22"]
    assert endpoint.name == "gpu01"


def test_host_keys_are_checked_strictly_unless_said_otherwise() -> None:
    assert value(HERE.destination(), "StrictHostKeyChecking") == "yes"


def test_a_timeout_below_a_second_is_one() -> None:
    assert value(replace(HERE, connect_timeout=0.2).destination(), "ConnectTimeout") == "1"


def test_the_masters_own_options_win_over_the_users() -> None:
    endpoint = replace(HERE, options=(("RequestTTY", "force"), ("ServerAliveInterval", "0")))
    words = endpoint.master("/run/s%d")
    assert value(words, "RequestTTY") == "no"
    assert value(words, "ServerAliveInterval") == "5"
    assert value(words, "ControlPath") == "/run/s%%d"
    assert words[-2:] == ["--", "gpu01.lan"]


def test_the_same_endpoint_has_the_same_key_whatever_it_is_called() -> None:
    assert HERE.key == replace(HERE, name="other", persist=1, connect_timeout=1).key
    assert len(HERE.key) == 16


@pytest.mark.parametrize(
    "change",
    [
        {"host": "x"},
        {"user": None},
        {"port": 22},
        {"host_keys": "accept-new"},
        {"options": (("Compression", "yes"),)},
        {"config_file": "/etc/cfg"},
    ],
)
def test_whatever_may_lead_elsewhere_makes_another_key(change: dict[str, object]) -> None:
    assert replace(HERE, **change).key != HERE.key  # type: ignore[arg-type]


def test_a_changed_configuration_file_makes_another_key(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host a\n")
    before = replace(HERE, config_file=str(config)).key
    config.write_text("Host a\n  HostName b\n")
    assert replace(HERE, config_file=str(config)).key != before


def test_the_target_is_for_people() -> None:
    assert HERE.target == "ml@gpu01.lan:2222"
    assert Endpoint("h").target == "h"


class TestRuntimeDirectory:
    @pytest.fixture(autouse=True)
    def _nothing_chosen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("GRIDOPS_RUNTIME_DIR")

    def test_it_is_made_for_us_alone(
        self, session_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = session_dir / "made" / "run"
        monkeypatch.setenv("GRIDOPS_RUNTIME_DIR", str(path))
        assert rundir.runtime_dir() == path
        assert path.stat().st_mode & 0o777 == 0o700

    def test_xdg_runtime_dir_is_used_where_there_is_one(
        self, session_dir: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(session_dir))
        assert rundir.runtime_dir() == session_dir / "gridops"

    def test_one_that_is_too_long_or_gone_is_passed_over(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = Path(f"/tmp/gridops-{os.getuid()}")
        long = tmp_path / ("x" * 100)
        long.mkdir()
        for path in (long, tmp_path / "gone"):
            monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
            assert rundir._candidates()[-1] == own
            assert rundir.runtime_dir() == own

    def test_a_chosen_one_that_is_too_long_is_an_error_with_the_limit(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GRIDOPS_RUNTIME_DIR", str(tmp_path / ("x" * 100)))
        with pytest.raises(ReachError, match=rf"at most {rundir.LONGEST} bytes"):
            rundir.runtime_dir()

    @pytest.mark.parametrize("kind", ["open", "link", "file"])
    def test_one_that_others_may_enter_is_refused(
        self, session_dir: Path, monkeypatch: pytest.MonkeyPatch, kind: str
    ) -> None:
        path = session_dir / f"not-ours-{kind}"
        if kind == "open":
            path.mkdir()
            path.chmod(0o755)
        elif kind == "link":
            path.symlink_to(session_dir)
        else:
            path.touch()
        monkeypatch.setenv("GRIDOPS_RUNTIME_DIR", str(path))
        with pytest.raises(ReachError, match=kind):
            rundir.runtime_dir()

    def test_the_longest_path_leaves_room_for_what_ssh_adds_while_it_binds(self) -> None:
        names = (f"{'0' * 16}.31", "0" * 16 + "." + "x" * 16)
        assert all(rundir.LONGEST + 1 + len(name) < 104 for name in names)
