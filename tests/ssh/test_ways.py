"""Jump hosts: how many log in through one at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gridops.inventory.settings import SshSettings
from gridops.model import Node
from gridops.observe import events
from gridops.reach import endpoint as endpoints
from gridops.reach import link_to
from gridops.reach.endpoint import Endpoint
from gridops.reach.fanout import fan_out


def endpoint(config: Path, **options: str) -> Endpoint:
    return Endpoint.of(Node("far", "far"), SshSettings(config_file=config, options=options))


@pytest.fixture(autouse=True)
def _forget() -> None:
    endpoints._mentioned.cache_clear()


def test_the_way_is_the_first_jump_host_or_the_command(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host far\n  ProxyJump me@gate:2222,inner\nHost *\n  ProxyCommand nc %h %p\n")
    assert endpoints.proxy_of(endpoint(config)) == "me@gate:2222"
    assert endpoints.proxy_of(endpoint(config, ProxyJump="other")) == "other"
    config.write_text("Host *\n  ProxyCommand nc %h %p\n")
    assert endpoints.proxy_of(endpoint(config)) == "nc %h %p"
    assert endpoints.proxy_of(endpoint(config, ProxyCommand="none")) is None


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("Host *\n  User me\n", False),
        ("# ProxyJump gate\nHost *\n  #ProxyCommand nc\n", False),
        ("Include none/*.conf\n", False),
        ("Host other\n  proxyjump=gate\n", True),
        ("Include ~/more/*.conf\n", True),
        ('Include "with blanks"\n', True),
        ("Include %d/more\n", True),
    ],
)
def test_ssh_is_asked_only_where_its_configuration_has_the_word(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, text: str, asked: bool
) -> None:
    (home / "more").mkdir()
    (home / "more" / "gate.conf").write_text("Host far\n  ProxyJump gate\n")
    config = tmp_path / "config"
    config.write_text(text)
    seen = []
    monkeypatch.setattr(Endpoint, "resolve", lambda self: seen.append(self) or {})
    assert endpoints.proxy_of(endpoint(config)) is None
    assert bool(seen) == asked


def test_a_jump_host_is_not_flooded(
    make_sandbox: Any, tmp_path: Path, fresh_runtime_dir: Path
) -> None:
    """Its sshd takes ten at a time that have not logged in yet, and drops every further one."""
    gate = make_sandbox(["gate"], options={"MaxStartups": "10:100:10"})
    many = make_sandbox(24, shared=True)
    config = tmp_path / "config"
    config.write_text(
        f"Host 127.*\n  ProxyJump gate\n"
        f"Match host gate,127.0.0.1\n  Include {gate.ssh_config}\n"
        f"Match all\n  Include {many.ssh_config}\n"
    )
    settings = SshSettings(config_file=config)
    port = many.nodes[0].port
    nodes = [Node(node.name, node.host, port=port) for node in many.nodes]
    seen: list[str] = []

    def work(node: Node) -> bytes:
        return link_to(node, settings).script("echo hello", timeout=60).stdout

    with events.listening(lambda event: seen.append(event.name)):
        outcomes = list(fan_out(nodes, work))
    assert [outcome.error for outcome in outcomes] == [None] * len(nodes)
    assert events.RETRY not in seen
