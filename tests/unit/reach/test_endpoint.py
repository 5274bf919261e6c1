"""Where OpenSSH connects: the command lines, and which destinations may share a master."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gridops.inventory.settings import SshSettings
from gridops.model import Node
from gridops.reach.endpoint import Endpoint

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
