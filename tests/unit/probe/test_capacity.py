"""probe/capacity.py: whether a node has room for a run, and what that does to a ranking."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gridops.model import Cpu, Gpu, Jobs, Node, NodeHealth
from gridops.probe.capacity import Fits, fit
from gridops.probe.score import rank

FREE = Gpu(0, "GPU-0", "H200", 1000, 0, 0.0, 30.0)
USED = replace(FREE, processes=1)  # by whoever
LEASED = replace(FREE, lease="run-1")
AMD = replace(FREE, vendor="amd")


def health(name: str = "a", value: float = 10.0, **changes: object) -> NodeHealth:
    made = NodeHealth(
        Node(name, name), "healthy", score=value, cpu=Cpu(4, 0.4, 0.4, 0.4, 10.0), jobs=Jobs(0, 1)
    )
    return replace(made, **changes)  # type: ignore[arg-type]


DOWN = NodeHealth(Node("down", "down"), "unreachable", error="refused")
FULL = Jobs(1, 1)


@pytest.mark.parametrize(
    ("jobs", "fits"),
    [
        (Jobs(0, 1), "now"),
        (Jobs(1, 2), "now"),
        (Jobs(1, 1), "later"),
        (Jobs(3, 2), "later"),  # another inventory gives it more slots
        (Jobs(1, 2, queued=1), "later"),  # nobody overtakes one who waits for GPUs
    ],
)
def test_a_run_fits_where_a_slot_is_free_and_nobody_waits(jobs: Jobs, fits: Fits) -> None:
    assert fit(health(jobs=jobs)) == fits


@pytest.mark.parametrize(
    ("gpus", "needed", "fits"),
    [
        ((), 0, "now"),
        ((), 1, "never"),
        ((USED, LEASED), 0, "now"),
        ((FREE, USED), 1, "now"),
        ((FREE, USED), 2, "later"),
        ((FREE, LEASED), 2, "later"),
        ((FREE, FREE), 3, "never"),
        ((AMD, AMD), 2, "now"),
        ((FREE, AMD), 2, "never"),  # runs are given GPUs of one make
    ],
)
def test_a_run_fits_where_so_many_gpus_are_free(
    gpus: tuple[Gpu, ...], needed: int, fits: Fits
) -> None:
    assert fit(health(gpus=gpus), needed) == fits


def test_never_is_said_only_where_it_is_certain() -> None:
    assert fit(health(gpu_error="nvidia-smi did not answer in time"), 1) == "later"
    assert fit(DOWN, 1) == "later"
    assert fit(DOWN) == "later"


# -- in a ranking ----------------------------------------------------------------------------------


def names(*healths: NodeHealth, gpus: int = 0) -> list[str]:
    return [ranked.health.node.name for ranked in rank(healths, gpus)]


def test_a_free_slot_comes_before_a_lower_score_and_even_before_good_health() -> None:
    full = health("full", 1.0, jobs=FULL)
    fuller = health("fuller", 2.0, jobs=FULL)
    bad = health("bad", 0.0, state="degraded", reasons=("disk 97 % full",))
    assert names(DOWN, fuller, full, bad, health("idle", 50.0), health("busy", 90.0)) == [
        *("idle", "busy", "bad", "full", "fuller", "down"),
    ]


def test_free_gpus_come_first_and_too_few_last() -> None:
    cpus = health("cpus", 0.0)
    one = health("one", 1.0, gpus=(FREE,))
    taken = health("taken", 2.0, gpus=(FREE, LEASED))
    free = health("free", 90.0, gpus=(USED, FREE, FREE))
    assert names(cpus, one, taken, free) == ["cpus", "one", "taken", "free"]
    assert names(cpus, one, taken, free, DOWN, gpus=2) == ["free", "taken", "cpus", "one", "down"]
    ranking = rank([cpus, one, taken, free], gpus=2)
    assert [ranked.fits for ranked in ranking] == ["now", "later", "never", "never"]
    assert [ranked.serves for ranked in ranking] == [True, True, False, False]


def reason(health: NodeHealth, gpus: int = 0) -> str:
    return rank([health], gpus)[0].reason


def test_slots_that_are_taken_are_said_first_where_they_decide() -> None:
    assert "slots" not in reason(health())
    assert reason(health(jobs=Jobs(1, 2))).endswith("on 4 cores); 1 of 2 slots taken")
    assert reason(health(jobs=FULL)).startswith("1 of 1 slots taken; score 10.0: ")
    said = reason(health(jobs=Jobs(2, 2, 3)))
    assert said.startswith("2 of 2 slots taken, 3 runs wait; score")
    said = reason(health(jobs=Jobs(0, 2, 1)))
    assert said.startswith("0 of 2 slots taken, 1 run waits; score")


@pytest.mark.parametrize(
    ("gpus", "needed", "says"),
    [
        ((FREE,), 2, "has 1 GPU, 2 are needed; score"),
        ((FREE, FREE), 3, "has 2 GPUs, 3 are needed; score"),
        ((), 1, "has no GPU, 1 is needed; score"),
        ((USED, FREE), 2, "1 of 2 GPUs free, 2 are needed; score"),
        ((LEASED,), 1, "0 of 1 GPU free, 1 is needed; score"),
    ],
)
def test_gpus_that_are_missing_are_said_first(
    gpus: tuple[Gpu, ...], needed: int, says: str
) -> None:
    assert reason(health(gpus=gpus), needed).startswith(says)


def test_gpus_that_could_not_be_read_are_not_said_to_be_missing() -> None:
    sick = health(state="degraded", reasons=("nvidia-smi hangs",), gpu_error="nvidia-smi hangs")
    assert reason(sick, 2).startswith("degraded: nvidia-smi hangs; score")


def test_a_full_node_is_not_as_loaded_as_a_free_one() -> None:
    free, full, other = rank([health("c", jobs=FULL), health("a"), health("b", jobs=FULL)])
    assert "as loaded" not in free.reason + full.reason
    assert other.reason.endswith("as loaded as c, which comes first")
