"""probe/parse.py and answer.py: a node's answer in figures, or a ProbeError."""

from __future__ import annotations

import pytest

from gridops.errors import ProbeError
from gridops.probe.parse import Figures, parse
from gridops.probe.protocol import MAX_ANSWER

LINES = (
    "gridops-probe 1",
    "stat cpu  8417 0 12901 201513 387 0 76 26 0 0",
    "online 0-1",
    "load 1.13 0.45 0.15 6/304 15733",
    "uptime 1119.96 2015.13",
    "mem MemTotal: 24684084",
    "mem MemFree: 23223652",
    "mem MemAvailable: 23643648",
    "disk /dev/vda         264212084 23172984  83217928      22% /",
    "user ml",
    "user ada",
    "user ml",
    "stat cpu  8430 0 12916 201516 389 0 76 26 0 0",
    "end",
)


def answer(*changes: tuple[str, str]) -> bytes:
    """The answer above, its line that starts with a change's first word replaced by the second;
    an empty one is left out."""
    lines = list(LINES)
    for start, line in changes:
        at = next(i for i, old in enumerate(lines) if old.startswith(start))
        lines[at : at + 1] = [line] if line else []
    return ("\n".join(lines) + "\n").encode()


def figures(*changes: tuple[str, str]) -> Figures:
    return parse(answer(*changes), "~/gridops")


def test_an_answer_becomes_figures() -> None:
    found = figures()
    assert (found.cpu.cores, found.cpu.load1, found.cpu.load5, found.cpu.load15) == (
        *(2, 1.13),
        *(0.45, 0.15),
    )
    assert found.memory.total_bytes == 24684084 * 1024
    assert found.memory.available_bytes == 23643648 * 1024
    assert found.memory.percent == pytest.approx(4.215, abs=0.01)
    assert found.uptime_s == 1119.96
    assert found.users == ("ml", "ada")
    assert (found.gpus, found.gpu_error) == ((), None)
    assert (found.running, found.queued) == (0, 0)


def test_busy_is_what_was_neither_idle_nor_waiting_for_a_disk() -> None:
    # user +13, system +15, idle +3, iowait +2
    assert figures().cpu.percent == pytest.approx(100 * 28 / 33)


def test_guest_time_is_not_counted_twice_and_stolen_time_is_busy() -> None:
    found = parse(
        answer(
            ("stat cpu  8417", "stat cpu 100 0 0 100 0 0 0 0 50 0"),
            ("stat cpu  8430", "stat cpu 110 0 0 180 0 0 0 10 60 0"),
        ),
        "~",
    )
    assert found.cpu.percent == pytest.approx(20.0)


def test_counters_that_run_backwards_do_not_give_a_share_below_zero() -> None:
    found = figures(("stat cpu  8430", "stat cpu  8417 0 12901 201513 0 0 76 26 0 0"))
    assert found.cpu.percent == 0.0


def test_a_kernel_of_2_6_tells_seven_times() -> None:
    found = figures(
        ("stat cpu  8417", "stat cpu 10 0 10 80 0 0 0"),
        ("stat cpu  8430", "stat cpu 20 0 10 170 0 0 0"),
    )
    assert found.cpu.percent == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("listed", "cores"),
    [("online 0", 1), ("online 0-63", 64), ("online 0-3,8,10-11", 7), ("cores 12", 12)],
)
def test_cores_are_those_online(listed: str, cores: int) -> None:
    assert figures(("online", listed)).cpu.cores == cores


def test_available_memory_is_estimated_where_the_kernel_does_not_tell_it() -> None:
    parts = "mem Buffers: 100\nmem Cached: 5000\nmem SReclaimable: 400\nmem Shmem: 1500"
    found = figures(("mem MemFree", "mem MemFree: 1000"), ("mem MemAvailable", parts))
    assert found.memory.available_bytes == 5000 * 1024


@pytest.mark.parametrize(
    ("line", "total", "available", "percent"),
    [
        ("/dev/sda1 1000 400 500 45% /", 1000, 500, 400 / 9),  # 100 are kept for root
        ("//nas/ml data 2000 500 1500 25% /mnt/ml data 10", 2000, 1500, 25.0),
        ("host:/vol 9 8 7 6 1000 1000 0 100% /h", 1000, 0, 100.0),
        ("/dev/sda1 1000 1000 -50 106% /", 1000, 0, 100.0),
        ("none 0 0 0 - /sys", 0, 0, 0.0),
        ("overlay\t1000\t250\t750\t25%\t/", 1000, 750, 25.0),
    ],
)
def test_odd_lines_of_df_are_read(line: str, total: int, available: int, percent: float) -> None:
    disk = figures(("disk", f"disk {line}")).disk
    assert disk is not None
    assert (disk.total_bytes, disk.available_bytes) == (total * 1024, available * 1024)
    assert disk.percent == pytest.approx(percent)
    assert disk.path == "~/gridops"


@pytest.mark.parametrize("line", ["", "disk ", "disk df: /x: No such file", "disk a 1 2 3"])
def test_a_df_that_failed_leaves_the_disk_unknown(line: str) -> None:
    assert figures(("disk", line)).disk is None


def test_a_directory_that_is_not_ours_to_write_is_told() -> None:
    found = figures(("user ml", "readonly /srv/data"))
    assert found.unwritable == "/srv/data"


# -- durable runs ----------------------------------------------------------------------------------

GPUS = "\n".join(f"nvidia-gpus {n}, GPU-{n}, H200, 1000, 0, 0, 30" for n in range(3))


def test_runs_are_counted_and_the_gpus_that_one_has_are_marked() -> None:
    found = figures(
        ("user ml", f"lease run-1 \nlease run-2 GPU-0 GPU-2\n{GPUS}"),
        ("user ada", "waiting run-3\nwaiting run-4"),
    )
    assert (found.running, found.queued) == (2, 2)
    assert [gpu.lease for gpu in found.gpus] == ["run-2", None, "run-2"]
    assert [gpu.free for gpu in found.gpus] == [False, True, False]


def test_a_run_that_gets_its_slot_just_now_does_not_wait_any_more() -> None:
    found = figures(("user ml", "waiting run-1\nlease run-1 "))
    assert (found.running, found.queued) == (1, 0)


def test_the_gpus_of_amd_are_leased_by_number() -> None:
    cards = 'amd-rocm {"card0": {"Unique ID": "0x1f"}, "card1": {}}\namd-status rocm 0'
    found = figures(("user ml", f"lease run-1 1\n{cards}"))
    assert [(gpu.index, gpu.lease) for gpu in found.gpus] == [(0, None), (1, "run-1")]


# -- broken and hostile answers --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "it sent no answer"),
        (b"bash: sh: command not found\n", "makes no sense: 'bash: sh: command not found'"),
        (b"gridops-probe 2\nend\n", "makes no sense: 'gridops-probe 2'"),
        (answer()[:-5], "broke off"),
        (answer()[:200], "broke off"),
        (b"gridops-probe 1\nend\n", "no valid CPU figures"),
        (answer(("mem MemTotal", "")), "no valid memory figures"),
        (answer(("mem MemTotal", "mem MemTotal: 0")), "no valid memory figures"),
        (answer(("mem MemTotal", "mem MemTotal:")), "no valid memory figures"),
        (answer(("load", "load nan 1 1 1/1 1")), "no valid CPU figures"),
        (answer(("load", "load -1 1 1 1/1 1")), "no valid CPU figures"),
        (answer(("load", "load 1 1")), "no valid CPU figures"),
        (answer(("online", "online 0-99999999999")), "no valid CPU figures"),
        (answer(("online", "online 5-1")), "no valid CPU figures"),
        (answer(("online", "online ")), "no valid CPU figures"),
        (answer(("online", "")), "no valid CPU figures"),
        (answer(("stat cpu  8430", "")), "no valid CPU figures"),
        (answer(("stat cpu  8430", "stat cpu x y z 1 1 1")), "no valid CPU figures"),
        (answer(("stat cpu  8430", "stat cpu 1 2 3")), "no valid CPU figures"),
        (b"gridops-probe 1\nunsupported Darwin\nend\n", "it runs Darwin; the probe needs Linux"),
        (b"gridops-probe 1\n" + b"x" * MAX_ANSWER, f"longer than {MAX_ANSWER} bytes"),
        (bytes(range(256)) * 100, "makes no sense"),
    ],
)
def test_an_answer_that_cannot_be_used_is_an_error_of_the_node(data: bytes, says: str) -> None:
    with pytest.raises(ProbeError) as failed:
        parse(data, "~/gridops")
    assert says in str(failed.value)
    assert str(failed.value).isprintable()


def test_unknown_tags_and_what_follows_the_end_are_passed_over() -> None:
    data = answer(("user ml", "later-version something")) + b"user goodbye\nstat x\n"
    assert parse(data, "~").users == ("ada", "ml")


@pytest.mark.parametrize("uptime", ["uptime inf 1", "uptime nan 1", "uptime -1 1", "uptime ", ""])
def test_an_uptime_that_is_none_is_left_out(uptime: str) -> None:
    assert figures(("uptime", uptime)).uptime_s is None


def test_nothing_that_is_shown_can_steer_a_terminal() -> None:
    found = figures(
        ("user ml", "user \x1b[31mevil\x1b[0m\x07\u202e"),
        ("user ada", f"readonly /a\x1b]0;x\x07\nlease \x1b[0m{'x' * 999} GPU-0\n{GPUS}"),
    )
    assert found.users == ("[31mevil[0m", "ml")
    assert found.unwritable == "/a]0;x"
    assert found.gpus[0].lease == "[0m" + "x" * 61


def test_a_crowd_of_logins_is_cut() -> None:
    crowd = "\n".join(f"user u{i}" for i in range(5000))
    assert len(figures(("user ml", crowd)).users) == 100
