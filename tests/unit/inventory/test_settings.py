"""What each kind of value accepts; every key is documented, exemplified and in the schema."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from pydantic import BaseModel, ValidationError

from gridops.inventory import load, schema
from gridops.inventory.durations import YEAR, parse_duration
from gridops.inventory.settings import (
    HealthSettings,
    JobSettings,
    NodeRay,
    NodeSettings,
    RaySettings,
    RetrySettings,
    Section,
    Settings,
    SshSettings,
    SyncSettings,
)
from gridops.inventory.types import check_host, check_name
from gridops.retry import RetryConfig

ROOT = Path(__file__).parents[3]
EXAMPLE = ROOT / "inventories/example.yaml"
REFERENCE = ROOT / "docs/inventory.md"
SECTIONS: list[type[Section]] = [
    Settings,
    NodeSettings,
    NodeRay,
    HealthSettings,
    SshSettings,
    SyncSettings,
    JobSettings,
    RetrySettings,
    RaySettings,
]


# -- values ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (90, 90),
        (0.5, 0.5),
        ("90", 90),
        ("1.5", 1.5),
        ("10m", 600),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("1.5h", 5400),
        ("500ms", 0.5),
        ("2d", 172800),
        ("10M", 600),
    ],
)
def test_a_duration_is_a_number_of_seconds_or_text_with_units(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "10 minutes", "m", "10x", "1h30", "-5m", True, None])
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="should be a duration"):
        parse_duration(text)


@pytest.mark.parametrize("value", [0, "0", "-1", "nan", "inf", 2 * YEAR, "0.5"])
def test_a_time_limit_is_finite_and_more_than_nothing(value: object) -> None:
    with pytest.raises(ValidationError):
        SshSettings.model_validate({"persist": value})


@pytest.mark.parametrize(
    "host", ["alpha", "a_b", "a.example.org", "10.0.0.7", "fe80::1%eth0", "::1", "_jump"]
)
def test_host_names_aliases_and_addresses_are_hosts(host: str) -> None:
    assert check_host(host) == host


def test_an_ipv6_address_in_brackets_is_that_address() -> None:
    assert check_host("[::1]") == "::1"
    assert NodeSettings.model_validate({"host": "[fe80::1]"}).host == "fe80::1"


EVIL = [
    "-oProxyCommand=x",
    "",
    "a b",
    "a\nb",
    "a\x1bb",
    "a;b",
    "$(a)",
    "a/b",
    "ml@a",
    "a'b",
    "ä\u202e",
]


@pytest.mark.parametrize("text", EVIL)
def test_nothing_that_ssh_or_a_shell_could_take_amiss_is_a_host(text: str) -> None:
    with pytest.raises(ValueError, match="should be"):
        check_host(text)


@pytest.mark.parametrize("text", [*EVIL, "a:b", "..", ".hidden", "a" * 300])
def test_nothing_that_a_path_or_a_shell_could_take_amiss_is_a_name(text: str) -> None:
    with pytest.raises(ValueError, match="should be"):
        check_name(text)


@pytest.mark.parametrize("user", ["-x", "", "a b", "a\nb", "$HOME", "a;b", "`a`", "a/b", "a\\"])
def test_nothing_that_ssh_or_a_shell_could_take_amiss_is_a_user(user: str) -> None:
    with pytest.raises(ValidationError, match="login name"):
        NodeSettings.model_validate({"user": user})


@pytest.mark.parametrize("user", ["ml", "first.last", "me@corp.example", "CORP\\me", "svc-1", "_x"])
def test_users_of_directories_are_users(user: str) -> None:
    assert NodeSettings.model_validate({"user": user}).user == user


@pytest.mark.parametrize(
    ("path", "becomes"),
    [("~/gridops/", "~/gridops"), ("/scratch", "/scratch"), ("~", "~"), ("/", "/")],
)
def test_a_remote_root_is_absolute_or_in_the_home(path: str, becomes: str) -> None:
    assert Settings(remote_root=path).remote_root == becomes


@pytest.mark.parametrize("path", ["", "work", "-x", "~ml/x", "/a\nb", "$HOME/x"])
def test_other_remote_roots_are_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="remote_root"):
        Settings(remote_root=path)


def test_ssh_options_take_yaml_scalars_in_the_spelling_of_ssh() -> None:
    given = {"Compression": True, "TCPKeepAlive": "false", "ServerAliveFoo": 3, "Ciphers": "a,b"}
    assert SshSettings.model_validate({"options": given}).options == {
        "Compression": "yes",
        "TCPKeepAlive": "no",
        "ServerAliveFoo": "3",
        "Ciphers": "a,b",
    }


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("Foo Bar", "x", "name of an ssh_config"),
        ("-o", "x", "name of an ssh_config"),
        ("", "x", "name of an ssh_config"),
        ("stricthostkeychecking", "no", "use ssh.host_keys"),
        ("ControlPath", "x", "gridops sets it itself"),
        ("Ciphers", "a\nProxyCommand x", "one line"),
        ("Ciphers", ["a"], "valid string"),
    ],
)
def test_ssh_options_that_cannot_be_are_refused(name: str, value: object, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        SshSettings.model_validate({"options": {name: value}})


def test_one_weight_may_be_nothing_but_not_both() -> None:
    assert HealthSettings(cpu_weight=0).gpu_weight == 0.5
    with pytest.raises(ValidationError, match="cannot both be 0"):
        HealthSettings(cpu_weight=0, gpu_weight=0)


def test_the_defaults_are_those_of_the_design() -> None:
    settings = Settings()
    assert settings.remote_root == "~/gridops"
    health, ssh, sync = settings.health_check, settings.ssh, settings.sync
    assert (health.timeout, health.max_workers, health.cpu_weight) == (10, 64, 0.5)
    assert (ssh.pool_size, ssh.connect_timeout, ssh.persist, ssh.host_keys) == (
        64,
        5,
        600,
        "strict",
    )
    assert (sync.exclude_patterns, sync.gitignore, sync.delete) == ((), True, True)
    assert settings.ray.port == 6379
    assert RetryConfig.of(settings.retry) == RetryConfig()


def test_settings_do_not_change_once_made() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().ssh.pool_size = 3  # type: ignore[misc]


# -- every key everywhere -------------------------------------------------------------------------


def keys() -> Iterator[tuple[str, str]]:
    for section in SECTIONS:
        for key in section.model_fields:
            yield section.__name__, key


def all_keys(value: Any) -> Iterator[str]:
    for key, inner in value.items() if isinstance(value, dict) else ():
        yield key
        yield from all_keys(inner)


def test_the_sections_listed_here_are_all_there_are() -> None:
    def below(section: type[BaseModel]) -> Iterator[type[BaseModel]]:
        yield section
        for inner in section.__subclasses__():
            yield from below(inner)

    with_keys = {section for section in below(Section) if section.model_fields}
    assert with_keys - {NodeSettings.__base__} == set(SECTIONS)


@pytest.mark.parametrize(("section", "key"), list(keys()))
def test_every_key_is_in_the_reference(section: str, key: str) -> None:
    table_row = rf"^\| `{key}` \|"
    prose = rf"^`{key}`[: ]"
    assert re.search(f"{table_row}|{prose}", REFERENCE.read_text(), re.M), f"{section}.{key}"


def test_every_key_is_in_the_example() -> None:
    data = yaml.safe_load(EXAMPLE.read_text())
    for section, value in data.items():
        model = Settings.model_fields[section].annotation if section != "nodes" else None
        if isinstance(model, type) and issubclass(model, Section):
            assert set(value) == set(model.model_fields), section
    assert set(data) == {"nodes", *Settings.model_fields}
    assert set(NodeSettings.model_fields) | set(NodeRay.model_fields) <= set(
        all_keys(data["nodes"])
    )


def test_the_example_shows_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRID_USER", raising=False)
    shown, real = load(EXAMPLE).settings, Settings()
    for section in ("remote_root", "defaults", "health_check", "ssh", "sync", "retry"):
        assert getattr(shown, section) == getattr(real, section), section
    unset = {"version": None, "head": None}
    assert shown.ray.model_copy(update=unset) == real.ray


def test_every_default_in_the_reference_is_the_real_one() -> None:
    """Where the table gives a plain value it has to be the class's."""
    text = REFERENCE.read_text()
    for section in (HealthSettings, SshSettings, SyncSettings, RetrySettings, RaySettings):
        name = {"HealthSettings": "health_check"}.get(
            section.__name__, section.__name__.removesuffix("Settings").lower()
        )
        table = text.split(f"\n`{name}`: ")[1].split("\n\n")[1]
        rows = dict(re.findall(r"^\| `(\w+)` \|[^|]*\| `?([^|`]*)`? \|", table, re.M))
        assert list(rows) == list(section.model_fields)
        for key, shown in rows.items():
            if shown not in ("unset", "none", "empty", "~/.ssh/config", "null", "[default]"):
                given = section.model_validate({key: shown})
                assert getattr(given, key) == getattr(section(), key), key


# -- the schema -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def editor() -> jsonschema.Draft202012Validator:
    made = schema()
    jsonschema.Draft202012Validator.check_schema(made)
    return jsonschema.Draft202012Validator(made)


@pytest.mark.parametrize("name", ["example.yaml", "local.yaml"])
def test_an_editor_accepts_the_inventories_that_gridops_ships(
    editor: jsonschema.Draft202012Validator, name: str
) -> None:
    editor.validate(yaml.safe_load((ROOT / "inventories" / name).read_text()))
    load(ROOT / "inventories" / name)


@pytest.mark.parametrize(
    "text",
    [
        "nodes: [alpha, 'gpu[01-04]', 7]",
        "nodes: ${NODES}",
        "nodes: {a: {port: '${PORT}', slots: '${N:-2}', connection: '${C}', tags: gpu}}",
        "nodes: {a: }\nssh: \nray: {python: 3.11}",
        "nodes: [a]\nssh: {persist: 10m, connect_timeout: 2.5, options: {Compression: yes}}",
        "nodes: [a]\nsync: {gitignore: '${G}', exclude_patterns: '*.o'}",
        "nodes: [a]\nhealth_check: {deadline: null, timeout: '${T}'}",
    ],
)
def test_an_editor_accepts_what_gridops_accepts(
    editor: jsonschema.Draft202012Validator, text: str
) -> None:
    editor.validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    "text",
    [
        "ssh: {}",
        "nodes: []",
        "nodes: {}",
        "nodes: [a]\nshh: {}",
        "nodes: [a]\nssh: {persists: 1}",
        "nodes: {a: {slot: 1}}",
        "nodes: {a: {slots: 0}}",
        "nodes: {a: {port: 70000}}",
        "nodes: {a: {connection: telnet}}",
        "nodes: [a]\nssh: {persist: soon}",
        "nodes: {a: {ray: {gpus: 1}}}",
    ],
)
def test_an_editor_refuses_what_gridops_refuses(
    editor: jsonschema.Draft202012Validator, text: str
) -> None:
    with pytest.raises(jsonschema.ValidationError):
        editor.validate(yaml.safe_load(text))


def test_the_schema_describes_every_key_and_allows_no_other() -> None:
    made = schema()
    objects = [made, *(part for part in made["$defs"].values() if part.get("type") == "object")]
    assert len(objects) == len(SECTIONS) + 1  # NodeDefaults too
    for part in objects:
        assert part["additionalProperties"] is False
        for key, value in part["properties"].items():
            assert value.get("description"), key
