"""probe/score.py: how loaded a node is, and which is the best."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from gridops.model import Cpu, Gpu, Jobs, Node, NodeHealth, Space
from gridops.probe.score import cpu_load, gpu_load, rank, score

GIB = 1024**3


@dataclass(frozen=True)
class Weights:
    cpu_weight: float = 0.5
    gpu_weight: float = 0.5


def cpu(percent: float = 0.0, load1: float = 0.0, cores: int = 4) -> Cpu:
    return Cpu(cores, load1, load1, load1, percent)


def gpu(used: int | None, total: int | None = 1000, index: int = 0, others: int = 0) -> Gpu:
    return Gpu(index, f"GPU-{index}", "H200", total, used, 0.0, 30.0, others, others)


def health(name: str, value: float | None = 10.0, **changes: object) -> NodeHealth:
    made = NodeHealth(
        Node(name, name),
        "healthy",
        score=value,
        cpu=cpu(10, 0.4),
        memory=Space(8 * GIB, 4 * GIB, 50.0),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


# -- the score -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figures", "load"),
    [
        (cpu(), 0.0),
        (cpu(100, 4.0), 100.0),
        (cpu(40, 2.0), 45.0),  # the mean of 40 % and 2/4
        (cpu(100, 400.0), 100.0),  # load beyond the cores counts as full
        (cpu(0, 4.0), 50.0),  # its job has just ended
        (cpu(100, 0.0), 50.0),  # its job has just begun
    ],
)
def test_cpu_load_is_the_mean_of_the_busy_share_and_load_over_cores(
    figures: Cpu, load: float
) -> None:
    assert cpu_load(figures) == pytest.approx(load)


def test_gpu_load_is_the_mean_of_the_memory_in_use() -> None:
    assert gpu_load([gpu(1000), gpu(0), gpu(500)]) == pytest.approx(50.0)


def test_gpus_that_tell_no_memory_do_not_count() -> None:
    assert gpu_load([gpu(500), gpu(None), gpu(5, None), gpu(5, 0)]) == pytest.approx(50.0)
    assert gpu_load([gpu(None)]) is None
    assert gpu_load([]) is None


def test_the_score_weighs_cpu_and_gpu_load() -> None:
    figures, gpus = cpu(40, 1.6), [gpu(800)]
    assert score(figures, gpus, Weights()) == 60.0
    assert score(figures, gpus, Weights(1, 0)) == 40.0
    assert score(figures, gpus, Weights(0, 1)) == 80.0
    assert score(figures, gpus, Weights(3, 1)) == 50.0


@pytest.mark.parametrize("weights", [Weights(), Weights(0.1, 0.9), Weights(0, 1), Weights(1, 0)])
def test_where_no_gpu_counts_the_cpu_load_is_the_score(weights: Weights) -> None:
    assert score(cpu(40, 1.6), [], weights) == 40.0
    assert score(cpu(40, 1.6), [gpu(None)], weights) == 40.0


def test_a_score_never_leaves_0_to_100() -> None:
    assert score(cpu(), [gpu(0)], Weights()) == 0.0
    assert score(cpu(100, 999.0), [gpu(5000)], Weights(7, 9)) == 100.0


# -- the ranking -----------------------------------------------------------------------------------


def names(*healths: NodeHealth) -> list[str]:
    return [ranked.health.node.name for ranked in rank(healths)]


def test_the_least_loaded_comes_first() -> None:
    assert names(health("a", 30), health("b", 5), health("c", 12.5)) == ["b", "c", "a"]


def test_healthy_before_degraded_before_unreachable_whatever_the_score() -> None:
    down = NodeHealth(Node("down", "down"), "unreachable", error="refused")
    bad = health("bad", 0.0, state="degraded", reasons=("disk 97 % full",))
    assert names(down, bad, health("good", 99)) == ["good", "bad", "down"]


def test_equal_scores_go_by_cores_then_memory_then_order() -> None:
    big = health("big", cpu=cpu(10, 0.4, cores=8))
    roomy = health("roomy", memory=Space(8 * GIB, 6 * GIB, 25.0))
    assert names(health("a"), health("b"), roomy, big) == ["big", "roomy", "a", "b"]
    assert names(health("b"), health("a")) == ["b", "a"]


def test_scores_that_read_alike_are_alike() -> None:
    big = health("big", 10.04, cpu=cpu(10, 0.4, cores=8))
    assert names(health("small", 9.96), big) == ["big", "small"]


def test_places_count_from_one_and_every_node_has_one() -> None:
    ranking = rank([health("a"), NodeHealth(Node("b", "b"), "unreachable", error="x")])
    assert [ranked.place for ranked in ranking] == [1, 2]
    assert rank([]) == ()


def test_a_place_is_explained_by_its_loads() -> None:
    node = health("a", 36.3, cpu=cpu(5, 6.2, cores=64), gpus=(gpu(600), gpu(800, index=1)))
    assert rank([node])[0].reason == (
        "score 36.3: CPU load 7 % (5 % busy now, load 6.20 on 64 cores), "
        "70 % of the memory of its 2 GPUs in use"
    )


def test_other_peoples_processes_on_its_gpus_are_told() -> None:
    node = health("a", gpus=(gpu(0), gpu(0, index=1, others=2), gpu(0, index=3, others=1)))
    assert rank([node])[0].reason.endswith("; processes of other users on GPUs 1, 3")


def test_a_tie_says_what_decided() -> None:
    big = health("big", cpu=cpu(10, 0.4, cores=8))
    roomy = health("roomy", memory=Space(8 * GIB, 6 * GIB, 25.0))
    reasons = [ranked.reason for ranked in rank([health("a"), health("b"), roomy, big])]
    assert reasons[1].endswith("as loaded as big, which has more cores")
    assert reasons[2].endswith("as loaded as roomy, which has more memory free")
    assert reasons[3].endswith("as loaded as a, which comes first")
    assert "as loaded" not in reasons[0]


def test_a_degraded_node_says_why_first_and_an_unreachable_one_only_that() -> None:
    bad = health("bad", state="degraded", reasons=("disk 97 % full", "GPU 0 at 93 °C"))
    down = NodeHealth(Node("down", "down"), "unreachable", error="it refused")
    reasons = [ranked.reason for ranked in rank([bad, down])]
    assert reasons[0].startswith("degraded: disk 97 % full, GPU 0 at 93 °C; score 10.0: ")
    assert reasons[1] == "unreachable: it refused"


def test_a_node_whose_env_setup_fails_comes_after_all_that_can_be_reached():
    broken = health("broken", 0.0, setup_error="env_setup fails: x", jobs=Jobs(0, 9, 0))
    full = health("full", 99.0, state="degraded", reasons=("r",), jobs=Jobs(1, 1, 3))
    down = NodeHealth(Node("down", "down"), "unreachable", error="refused")
    names = [one.health.node.name for one in rank([down, broken, full])]
    assert names == ["full", "broken", "down"]
