"""probe/nvidia.py and amd.py, on what the tools really print (tests/data/gpu/README.md)."""

from __future__ import annotations

from pathlib import Path

import pytest

from gridops.model import Gpu
from gridops.probe import amd, nvidia

DATA = Path(__file__).parents[2] / "data" / "gpu"


def lines(name: str) -> list[str]:
    return (DATA / name).read_text().splitlines()


def nvidia_smi(name: str, status: int = 0, **more: list[str]) -> tuple[tuple[Gpu, ...], str | None]:
    told = {"nvidia-gpus": lines(name), "nvidia-status": [f"gpus {status}"]}
    return nvidia.gpus({**told, **{k.replace("_", "-"): v for k, v in more.items()}}, 5000.0)


# -- NVIDIA ----------------------------------------------------------------------------------------


def test_eight_gpus_come_with_their_figures_and_processes() -> None:
    gpus, error = nvidia_smi(
        "nvidia-v100x8.csv",
        nvidia_apps=lines("nvidia-v100x8.apps.csv"),
        self=["77"],
        owner=["77 1000", "12345 1001"],
    )
    assert error is None
    assert [gpu.index for gpu in gpus] == list(range(8))
    assert gpus[6] == Gpu(
        index=6,
        uuid="GPU-c38d8d8c-638c-ef86-5142-a93eca9b5b56",
        name="Tesla V100-SXM2-32GB",
        memory_total_mib=32768,
        memory_used_mib=13928,
        utilization_percent=100.0,
        temperature_c=51.0,
        processes=1,
        other_processes=1,
    )
    assert sum(gpu.processes for gpu in gpus) == 1


def test_a_process_counts_as_another_users_unless_it_is_known_to_be_ours() -> None:
    uuid = "GPU-c38d8d8c-638c-ef86-5142-a93eca9b5b50"
    gpus, _ = nvidia_smi(
        "nvidia-v100x8.csv",
        nvidia_apps=[f"{uuid}, {pid}, 100" for pid in (10, 11, 12, 10)],
        self=["77"],
        owner=["77 1000", "10 1000", "11 0"],  # 12 is hidden from us (hidepid, a container)
    )
    assert (gpus[0].processes, gpus[0].other_processes) == (3, 2)


def test_a_process_of_a_mig_instance_is_on_its_gpu() -> None:
    uuid = "GPU-c38d8d8c-638c-ef86-5142-a93eca9b5b51"
    gpus, _ = nvidia_smi("nvidia-v100x8.csv", nvidia_apps=[f"MIG-{uuid}/1/0, 10, 100"])
    assert [gpu.processes for gpu in gpus] == [0, 1, 0, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("line", ["", "No running processes found", "a, b, c", "GPU-x, [N/A], 1"])
def test_lines_that_tell_of_no_process_are_passed_over(line: str) -> None:
    gpus, error = nvidia_smi("nvidia-gb10.csv", nvidia_apps=[line])
    assert (gpus[0].processes, error) == (0, None)


@pytest.mark.parametrize(
    ("name", "total", "used", "utilization", "temperature"),
    [
        ("nvidia-a100-mig-pod.csv", None, None, None, 47.0),
        ("nvidia-a800-mig.csv", 81920, 36537, None, 33.0),
        ("nvidia-gb10.csv", None, None, 0.0, 35.0),
        ("nvidia-geforce-old.csv", 1998, 214, None, 44.0),
    ],
)
def test_a_figure_that_the_driver_does_not_tell_is_no_fault(
    name: str,
    total: int | None,
    used: int | None,
    utilization: float | None,
    temperature: float | None,
) -> None:
    (gpu,), error = nvidia_smi(name)
    assert error is None
    assert (gpu.memory_total_mib, gpu.memory_used_mib) == (total, used)
    assert (gpu.utilization_percent, gpu.temperature_c) == (utilization, temperature)


def test_a_gpu_that_needs_a_reset_is_named_and_the_sound_one_counts() -> None:
    gpus, error = nvidia_smi("nvidia-reset.csv")
    assert error == "GPU 0: GPU requires reset"
    assert [gpu.memory_used_mib for gpu in gpus] == [0, 80620]
    assert gpus[0].utilization_percent is None


def test_the_gpus_that_are_left_are_seen_when_one_is_lost() -> None:
    gpus, error = nvidia_smi("nvidia-one-lost.csv", 255)
    assert len(gpus) == 2
    assert error == (
        "nvidia-smi: Unable to determine the device handle for GPU0000:A1:00.0: Unknown Error"
    )


@pytest.mark.parametrize(
    ("name", "status", "says"),
    [
        ("nvidia-mismatch.txt", 18, "driver and its library are of different versions"),
        ("nvidia-mismatch.txt", 18, "NVML library version: 535.161"),
        ("nvidia-no-driver.txt", 9, "the NVIDIA driver is not loaded"),
        ("nvidia-no-devices.txt", 6, "the NVIDIA driver finds no GPU"),
        ("nvidia-no-devices.txt", 0, "the NVIDIA driver finds no GPU"),
        ("nvidia-no-supported.txt", 255, "the NVIDIA driver finds no GPU"),
        ("nvidia-unknown-error.txt", 255, "nvidia-smi: Failed to initialize NVML: Unknown Error"),
        ("nvidia-lost.txt", 15, "a GPU has fallen off the bus; the node needs a reboot"),
    ],
)
def test_why_there_are_no_gpus_is_said_in_words(name: str, status: int, says: str) -> None:
    gpus, error = nvidia_smi(name, status)
    assert gpus == ()
    assert error is not None
    assert says in error


def test_a_tool_that_failed_without_a_word_is_an_error() -> None:
    told = {"nvidia-status": ["gpus 127"]}
    assert nvidia.gpus(told, None) == ((), "nvidia-smi failed with status 127")


def test_no_tool_and_no_driver_are_no_gpus_and_no_error() -> None:
    assert nvidia.gpus({}, None) == ((), None)
    assert amd.gpus({}, None) == ((), None)


def test_a_driver_without_nvidia_smi_is_told() -> None:
    _, error = nvidia.gpus({"nvidia-missing": [""]}, None)
    assert error == "an NVIDIA driver is loaded, but nvidia-smi is missing"


def test_a_tool_that_was_too_slow_is_told_and_what_it_said_before_counts() -> None:
    gpus, error = nvidia_smi("nvidia-gb10.csv", nvidia_late=["apps"])
    assert len(gpus) == 1
    assert error == "nvidia-smi did not answer in time"


def test_a_tool_that_hangs_for_ever_is_told_with_its_age() -> None:
    gpus, error = nvidia.gpus({"nvidia-stuck": ["4711 140000"]}, 5000.0)
    assert gpus == ()
    assert error is not None
    assert "hung in the driver for 60 min (pid 4711)" in error
    assert "no second one" in error


def test_a_name_with_commas_stays_whole() -> None:
    told = {"nvidia-gpus": ["0, GPU-a, ACME, Inc., Model 1, 10, 5, 1, 2"]}
    (gpu,), _ = nvidia.gpus(told, None)
    assert (gpu.name, gpu.memory_total_mib, gpu.temperature_c) == ("ACME, Inc., Model 1", 10, 2.0)


def test_a_flood_of_gpus_is_cut_and_control_characters_go() -> None:
    rows = [f"{i}, GPU-{i}, N\x1b[2J\x07ame, 1, 1, 1, 1" for i in range(10000)]
    gpus, error = nvidia.gpus({"nvidia-gpus": rows}, None)
    assert len(gpus) == 256
    assert gpus[0].name == "N[2Jame"
    assert error is not None
    assert error.isprintable()
    assert len(error) < 400


# -- AMD -------------------------------------------------------------------------------------------


def rocm_smi(name: str, **more: list[str]) -> tuple[tuple[Gpu, ...], str | None]:
    told = {"amd-rocm": lines(name), "amd-status": ["rocm 0"]}
    return amd.gpus({**told, **{k.replace("_", "-"): v for k, v in more.items()}}, None)


def test_rocm_smi_tells_memory_and_load_and_the_kernel_tells_the_processes() -> None:
    (gpu,), error = rocm_smi(
        "rocm-rx7900xt.json",
        amd_apps=["26967, 10, 27000000", "26967, 11, 0", "99, 12, 5"],
        self=["77"],
        owner=["77 1000", "10 1001"],
    )
    assert error is None
    assert gpu == Gpu(
        index=0,
        uuid="",
        name="Radeon RX 7900 XT",
        memory_total_mib=20464,
        memory_used_mib=26,
        utilization_percent=0.0,
        temperature_c=None,
        processes=1,
        other_processes=1,
        vendor="amd",
    )


def test_the_hottest_spot_counts_and_a_card_without_a_series_has_its_architecture() -> None:
    (card, apu), _ = rocm_smi("rocm-r9700-and-apu.json")
    assert (card.temperature_c, apu.temperature_c) == (36.0, 39.0)
    assert (card.name, apu.name) == ("gfx1201", "gfx1103")
    assert (card.memory_total_mib, card.memory_used_mib) == (32624, 27871)


def test_an_apu_has_no_unique_id() -> None:
    (gpu,), _ = rocm_smi("rocm-780m.json")
    assert (gpu.uuid, gpu.name, gpu.memory_total_mib) == ("", "Phoenix3", None)
    assert (gpu.utilization_percent, gpu.temperature_c) == (19.0, 31.0)


def test_the_older_spelling_of_keys_is_read() -> None:
    (gpu,), _ = rocm_smi("rocm-mi250-old.json")
    assert gpu.uuid == "GPU-1f9de0957d137942"
    assert gpu.name == "AMD INSTINCT MI200 (MCM) OAM LC MBA HPE C2"
    assert gpu.utilization_percent == 100.0


def test_a_warning_before_the_figures_does_no_harm() -> None:
    told = {"amd-rocm": ["WARNING: AMD GPU device(s) is/are in a low-power state.", "", "{"]}
    told["amd-rocm"] += ['"card0": {"GPU use (%)": "7"}', "}"]
    (gpu,), error = amd.gpus({**told, "amd-status": ["rocm 0"]}, None)
    assert (gpu.utilization_percent, error) == (7.0, None)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("rocm-no-driver.txt", "rocm-smi: ERROR:root:Driver not initialized (amdgpu not found"),
        ("rocm-nothing.txt", "rocm-smi: WARNING: No JSON data to report"),
    ],
)
def test_why_there_are_no_amd_gpus_is_said(name: str, says: str) -> None:
    gpus, error = rocm_smi(name)
    assert gpus == ()
    assert error is not None
    assert error.startswith(says)


def test_amd_smi_tells_the_same_in_three_answers() -> None:
    told = {
        f"amd-{topic}": lines(f"amdsmi-r9700.{topic}.json") for topic in ("list", "asic", "metric")
    }
    told |= {"amd-status": ["list 0", "asic 0", "metric 0"], "amd-apps": ["51545, 10, 29429556000"]}
    (gpu, silent), error = amd.gpus(told, None)
    assert error is None
    assert gpu == Gpu(
        index=0,
        uuid="GPU-64ac21a676f77a5b",
        name="AMD Radeon AI PRO R9700",
        memory_total_mib=32624,
        memory_used_mib=28123,
        utilization_percent=87.0,
        temperature_c=74.0,
        processes=1,
        other_processes=1,
        vendor="amd",
    )
    assert silent.uuid == "GPU-10db7231938f80d6"
    assert (silent.memory_total_mib, silent.utilization_percent, silent.processes) == (
        None,
    ) * 2 + (0,)


def test_the_bare_list_of_older_amd_smi_is_read() -> None:
    told = {"amd-metric": lines("amdsmi-w7700.metric.json"), "amd-status": ["metric 0"]}
    (gpu,), _ = amd.gpus(told, None)
    assert gpu.utilization_percent == 42.0


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"card0": []}',
        '{"card0": {"GPU use (%)": {"a": [1e999]}}, "card99999999999": {}}',
        '[{"gpu": true}, {"gpu": -1}, {"gpu": "0"}, 5, null]',
        '{"gpu_data": {"gpu": 0}}',
        "\x1b]0;title\x07{",
    ],
)
def test_nonsense_from_an_amd_tool_breaks_nothing(text: str) -> None:
    for topic in ("rocm", "list", "asic", "metric"):
        gpus, error = amd.gpus({f"amd-{topic}": [text], "amd-status": [f"{topic} 0"]}, None)
        assert all(gpu.memory_total_mib is None for gpu in gpus)
        assert error is None or error.isprintable()


def test_an_amd_tool_that_was_too_slow_is_told() -> None:
    assert amd.gpus({"amd-late": ["rocm"]}, None) == ((), "rocm-smi did not answer in time")
    assert amd.gpus({"amd-late": ["list"]}, None) == ((), "amd-smi did not answer in time")
