"""probe/checker.py: thresholds, retries and limits; the links are stand-ins (tests/ssh has real
nodes)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from gridops.errors import (
    AuthenticationFailed,
    ConnectionLost,
    ConnectRefused,
    ConnectTimeout,
    GridError,
    NodeTimeout,
)
from gridops.inventory.settings import HealthSettings, Settings
from gridops.model import Cpu, Gpu, Jobs, Node, NodeHealth, Reply, Space
from gridops.observe import events
from gridops.probe import checker
from gridops.probe.checker import check
from gridops.probe.parse import Figures
from gridops.probe.thresholds import judge
from gridops.retry import without_waiting

GIB = 1024**3
NODE = Node("gpu01", "10.0.0.1", slots=2)
CALM = Figures(
    cpu=Cpu(8, 0.8, 0.5, 0.2, 10.0),
    memory=Space(8 * GIB, 6 * GIB, 25.0),
    disk=Space(100 * GIB, 60 * GIB, 40.0, "~/gridops"),
    uptime_s=3600.0,
    users=("ada",),
)
ANSWER = b"""gridops-probe 1
stat cpu 0 0 0 0 0 0 0 0
online 0-7
load 0.8 0.5 0.2 1/1 1
mem MemTotal: 8388608
mem MemAvailable: 6291456
disk /dev/sda 104857600 41943040 62914560 40% /
stat cpu 10 0 0 90 0 0 0 0
end
"""


def settings(**health: object) -> Settings:
    return Settings.model_validate({"health_check": health})


def gpu(temperature: float | None) -> Gpu:
    return Gpu(3, "GPU-3", "H200", 1000, 500, 0.0, temperature)


# -- judging ---------------------------------------------------------------------------------------


def judged(**changes: object) -> NodeHealth:
    figures = replace(CALM, **changes)  # type: ignore[arg-type]
    return judge(NODE, figures, HealthSettings(), latency_ms=8.1)


def test_a_calm_node_is_healthy_and_its_figures_are_kept() -> None:
    health = judged(gpus=(gpu(30.0),), running=2, queued=1)
    assert (health.state, health.reasons, health.error) == ("healthy", (), None)
    assert health.score == 30.0  # CPU load 10 %, GPU memory 50 %
    assert health.latency_ms == 8.1
    assert health.jobs == Jobs(running=2, slots=2, queued=1)  # a full node is healthy, too
    assert (health.uptime_s, health.users) == (3600.0, ("ada",))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cpu": Cpu(4, 43.2, 1, 1, 99.0)}, "load 43 on 4 cores (limit 10 per core)"),
        ({"memory": Space(100, 3, 97.0)}, "memory 97 % used (limit 95 %)"),
        ({"disk": Space(100, 3, 96.2, "~")}, "disk of ~/gridops 97 % full (limit 95 %)"),
        ({"disk": None}, "the disk of ~/gridops could not be read"),
        ({"unwritable": "/srv"}, "~/gridops cannot be written (/srv is read-only for us)"),
        ({"gpus": (gpu(93.0),)}, "GPU 3 at 93 °C (limit 90 °C)"),
        ({"gpu_error": "the NVIDIA driver is not loaded"}, "the NVIDIA driver is not loaded"),
    ],
)
def test_a_threshold_that_is_passed_degrades_with_the_reason(
    changes: dict[str, object], reason: str
) -> None:
    health = judged(**changes)
    assert (health.state, health.reasons) == ("degraded", (reason,))
    assert health.score is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"memory": Space(100, 5, 95.0)},
        {"disk": Space(100, 5, 95.0, "~")},
        {"gpus": (gpu(90.0), gpu(None))},
    ],
)
def test_a_threshold_that_is_just_reached_does_not(changes: dict[str, object]) -> None:
    assert judged(**changes).state == "healthy"


def test_a_busy_node_is_not_ill() -> None:
    assert judged(cpu=Cpu(8, 12.0, 12.0, 12.0, 100.0)).state == "healthy"


def test_a_short_burst_is_not_taken_for_load() -> None:
    strict = HealthSettings(max_cpu_percent=90)
    burst, load = Cpu(8, 0.5, 0.5, 0.5, 100.0), Cpu(8, 8.0, 8.0, 8.0, 99.0)
    assert judge(NODE, replace(CALM, cpu=burst), strict).state == "healthy"
    assert judge(NODE, replace(CALM, cpu=load), strict).reasons == ("CPU load 100 % (limit 90 %)",)


def test_thresholds_are_those_of_the_settings() -> None:
    strict = HealthSettings(max_memory_percent=20, max_gpu_temperature_c=50)
    health = judge(NODE, replace(CALM, gpus=(gpu(60.0),)), strict)
    assert health.reasons == ("memory 25 % used (limit 20 %)", "GPU 3 at 60 °C (limit 50 °C)")


# -- asking ----------------------------------------------------------------------------------------


class Link:
    """Answers what it is told to: an error is raised, anything else returned."""

    def __init__(self, *answers: GridError | Reply | Callable[[], Reply]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[tuple[str, ...], float]] = []

    def script(self, text: str, *args: str, timeout: float, stdin: bytes = b"") -> Reply:
        self.asked.append((args, timeout))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, GridError):
            raise answer
        return answer() if callable(answer) else answer


GOOD = Reply(0, ANSWER, b"", latency=0.0081)
Links = dict[str, Link]


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> Links:
    made: Links = {}
    monkeypatch.setattr(checker, "link_to", lambda node, ssh: made[node.name])
    return made


def probe(links: Links, made: Settings | None = None, **options: object) -> dict[str, NodeHealth]:
    nodes = [Node(name, name, slots=2) for name in links]
    found = list(check(nodes, made or settings(), **options))  # type: ignore[arg-type]
    assert sorted(h.node.name for h in found) == sorted(links), "one NodeHealth a node"
    return {health.node.name: health for health in found}


def test_a_node_is_asked_once_with_its_root_and_limits(links: Links) -> None:
    links["a"] = Link(GOOD)
    health = probe(links)["a"]
    assert (health.state, health.score, health.latency_ms) == ("healthy", 10.0, 8.1)
    ((args, timeout),) = links["a"].asked
    assert args == ("~/gridops", "0.1", "5", "")
    assert 9.5 < timeout <= 10.0


def test_gpu_tools_get_half_of_a_short_time(links: Links) -> None:
    links["a"] = Link(GOOD)
    probe(links, settings(timeout=3))
    assert links["a"].asked[0][0][2] == "1.5"


def test_what_goes_wrong_with_one_node_is_in_its_row_alone(links: Links) -> None:
    links["refused"] = Link(AuthenticationFailed("the login was refused", hint="ssh-add"))
    links["garbage"] = Link(Reply(0, b"Welcome!\n"))
    links["failed"] = Link(Reply(127, b"", b"motd\nsh: not found\n"))
    links["bug"] = Link(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    links["good"] = Link(GOOD)
    found = probe(links)
    assert found["good"].state == "healthy"
    bad = {name: health.error for name, health in found.items() if health.state == "unreachable"}
    assert bad == {
        "refused": "the login was refused (ssh-add)",
        "garbage": "its answer to the probe makes no sense: 'Welcome!'",
        "failed": "the probe failed with status 127: sh: not found",
        "bug": "ZeroDivisionError: division by zero",
    }
    assert found["refused"].score is None


def test_a_cause_that_may_pass_is_tried_again(links: Links) -> None:
    links["a"] = Link(ConnectRefused("refused"), ConnectionLost("lost"), GOOD)
    with without_waiting():
        assert probe(links)["a"].state == "healthy"
    assert len(links["a"].asked) == 3


def test_retries_are_those_of_the_settings_and_an_impatient_caller_wants_none(
    links: Links,
) -> None:
    made = Settings.model_validate({"retry": {"max_retries": 1}})
    for options, attempts in (({}, 2), ({"patient": False}, 1)):
        links["a"] = Link(ConnectRefused("refused"))
        with without_waiting():
            assert probe(links, made, **options)["a"].error == "refused"
        assert len(links["a"].asked) == attempts


@pytest.mark.parametrize(
    "error", [AuthenticationFailed("no"), ConnectTimeout("silent"), NodeTimeout("slow")]
)
def test_a_cause_that_will_not_pass_or_had_its_patience_is_not_tried_again(
    links: Links, error: GridError
) -> None:
    links["a"] = Link(error)
    with without_waiting():
        assert probe(links)["a"].error == error.message
    assert len(links["a"].asked) == 1


def test_retries_end_within_the_nodes_time(links: Links) -> None:
    links["a"] = Link(ConnectRefused("refused"))
    made = Settings.model_validate(
        {
            "health_check": {"timeout": 0.5},
            "ssh": {"connect_timeout": 0.2},
            "retry": {"max_retries": 1000, "initial_delay": 0.05, "exponential_base": 1},
        }
    )
    began = time.monotonic()
    assert probe(links, made)["a"].error == "refused"
    assert time.monotonic() - began < 0.6
    assert len(links["a"].asked) > 2
    assert all(timeout >= 0.1 for _, timeout in links["a"].asked)


def test_a_link_that_never_comes_back_costs_its_own_row_only(links: Links) -> None:
    release = threading.Event()
    links["stuck"] = Link(lambda: (release.wait(20), GOOD)[1])
    links["good"] = Link(GOOD)
    began = time.monotonic()
    found = probe(links, settings(timeout=0.2))
    release.set()
    assert time.monotonic() - began < 2.0
    assert found["good"].state == "healthy"
    assert found["stuck"].state == "unreachable"
    assert "no answer" in (found["stuck"].error or "")


@pytest.mark.parametrize("where", ["argument", "settings"])
def test_a_deadline_bounds_all_of_them(links: Links, where: str) -> None:
    release = threading.Event()
    for name in "abc":
        links[name] = Link(lambda: (release.wait(20), GOOD)[1])
    made = settings(max_workers=1, **({"deadline": 0.2} if where == "settings" else {}))
    began = time.monotonic()
    found = probe(links, made, **({"deadline": 0.2} if where == "argument" else {}))
    release.set()
    assert time.monotonic() - began < 2.0
    assert {health.state for health in found.values()} == {"unreachable"}


def test_every_result_is_an_event(links: Links) -> None:
    links["good"], links["bad"] = Link(GOOD), Link(AuthenticationFailed("no"))
    seen: list[events.Event] = []
    with events.listening(seen.append):
        probe(links)
    told = {e.fields["node"]: e.fields for e in seen if e.name == events.NODE_PROBED}
    assert (told["good"]["state"], told["good"]["score"]) == ("healthy", 10.0)
    assert (told["bad"]["state"], told["bad"]["error"]) == ("unreachable", "no")
    assert all(fields["seconds"] >= 0 for fields in told.values())


def test_no_nodes_are_no_results() -> None:
    assert list(check([], settings())) == []
