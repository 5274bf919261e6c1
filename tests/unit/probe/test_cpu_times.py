"""CPU times of a moment ago spare the next probe its wait; older ones count for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridops.inventory.settings import Settings
from gridops.model import Node
from gridops.probe.checker import check
from gridops.probe.cpu_times import SAMPLE_MAX_AGE, Samples

NODE = Node("a", "a", user="ml", port=22)
LINE = "cpu  10 0 0 90 0 0 0 0 0 0"


@pytest.fixture(autouse=True)
def runtime(fresh_runtime_dir: Path) -> Path:
    return fresh_runtime_dir


@pytest.mark.parametrize(
    ("age", "found"),
    [(0.05, ""), (0.1, LINE), (SAMPLE_MAX_AGE, LINE), (SAMPLE_MAX_AGE + 0.1, ""), (-1, "")],
)
def test_only_a_reading_of_the_last_seconds_counts(age: float, found: str) -> None:
    now = [1000.0]
    samples = Samples(lambda: now[0])
    samples.add(NODE, LINE)
    now[0] += age
    assert samples.recent(NODE, 0.1) == found


def test_the_next_process_finds_it_and_only_for_that_node(runtime: Path) -> None:
    samples = Samples(lambda: 1000.0)
    samples.add(NODE, LINE)
    samples.save()
    later = Samples(lambda: 1001.0)
    assert later.recent(NODE, 0.1) == LINE
    assert later.recent(Node("a", "a", user="ml", port=2222), 0.1) == ""
    assert (runtime / "cpu").exists()


@pytest.mark.parametrize("line", ["cpu  1 2 3", "cpu $(id) 1 2 3 4 5", "x", ""])
def test_a_reading_that_is_none_is_not_handed_on(line: str) -> None:
    now = [1000.0]
    samples = Samples(lambda: now[0])
    samples.add(NODE, line)
    now[0] += 1
    assert samples.recent(NODE, 0.1) == ""


@pytest.mark.parametrize("rubbish", ["", "[]", '{"a": 1}', "\0", '{"a": ["x", "y"]}'])
def test_a_broken_file_is_passed_over(runtime: Path, rubbish: str) -> None:
    (runtime / "cpu").write_text(rubbish)
    assert Samples().recent(NODE, 0.1) == ""


def test_a_second_probe_does_not_wait_and_gives_the_share_since_the_first() -> None:
    here = Node("here", "here", connection="local")
    (first,) = check([here], Settings())
    samples = Samples()
    _, line = samples._found["local @here:"]
    words = [int(word) for word in line.split()[1:]]
    total = sum(words[:8])
    assert total > 0
    idle = " ".join(str(max(0, word - (100000 if at == 3 else 0))) for at, word in enumerate(words))
    samples._found["local @here:"] = (samples._clock() - 1, f"cpu  {idle}")
    samples.save()
    (second,) = check([here], Settings())
    assert first.cpu is not None
    assert second.cpu is not None
    assert second.cpu.percent < 20  # a hundred thousand idle ticks since that reading
