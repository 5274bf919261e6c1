"""probe/probe.sh, run for real under every shell it has to work under, with tools that are fakes:
small scripts that print what the real ones do (tests/data/gpu)."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.nodes import find_program, wait_until

from gridops.probe.checker import probe_script, setup_script
from gridops.probe.parse import Figures, parse
from gridops.reach.preamble import command_for, script_input

DATA = Path(__file__).parents[2] / "data" / "gpu"
SHELLS = ("dash", "bash", "busybox")
# What a shell needs from outside; BusyBox gets its own applets and nothing else.
NEEDED = ("sh", "cat", "df", "ln", "mkdir", "readlink", "rm", "setsid", "sleep", "uname", "who")


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    find_program(request.param)
    return str(request.param)


class Machine:
    """A node to be: a PATH of its own, a HOME, and the shell that runs the probe there."""

    def __init__(self, base: Path, shell: str) -> None:
        self.home = base / "home"
        self.bin = base / "bin"
        self.shell = shell
        self.bin.mkdir()
        self.home.mkdir()
        if shell == "busybox":
            for name in NEEDED:
                (self.bin / name).symlink_to(shutil.which("busybox") or "")
        else:
            for name in NEEDED:
                (self.bin / name).symlink_to(shutil.which(name) or "")
            (self.bin / "sh").unlink()
            (self.bin / "sh").symlink_to(shutil.which(shell) or "")

    def tool(self, name: str, body: str) -> Path:
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(f"#!{self.bin}/sh\n{body}\n")
        path.chmod(0o755)
        return path

    def ask(
        self,
        root: str = "~/gridops",
        *,
        limit: str = "5",
        first: str = "",
        path: tuple[str, str] = ("", ""),
        setup: str = "",
        known: str = "",
    ) -> str:
        """The probe's answer. `first` is code that runs before it, `path` a path of the system and
        what stands in for it."""
        words = [f"{self.bin}/sh", "-s", "mark"]
        script = first + "\n" + (probe_script().replace(*path) if path[0] else probe_script())
        more = (setup, "the-node") if setup else ()
        script = setup_script() + script if setup else script
        text = script_input(script, (root, "0.05", limit, known, *more), "mark", has_input=False)
        done = subprocess.run(
            words,
            input=text,
            capture_output=True,
            timeout=30,
            check=False,
            env={"PATH": str(self.bin), "HOME": str(self.home)},
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == b"mark-stderr\n", "the probe is to print nothing to stderr"
        return done.stdout.decode().removeprefix("mark\n")

    def figures(self, root: str = "~/gridops", **options: Any) -> Figures:
        return parse(self.ask(root, **options).encode(), root)


@pytest.fixture
def machine(shell: str, home: Path) -> Machine:
    base = home / "machine"  # below the directory whose processes must all have ended
    base.mkdir()
    return Machine(base, shell)


def line(answer: str, tag: str) -> list[str]:
    return [
        rest for word, _, rest in (x.partition(" ") for x in answer.splitlines()) if word == tag
    ]


# -- figures ---------------------------------------------------------------------------------------


def test_the_figures_are_the_machines_own(machine: Machine) -> None:
    found = machine.figures()
    assert found.cpu.cores == len(os.sched_getaffinity(0)) or found.cpu.cores == os.cpu_count()
    assert found.cpu.load1 == pytest.approx(os.getloadavg()[0], abs=1.0)
    assert 0 <= found.cpu.percent <= 100
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert found.memory.total_bytes == pytest.approx(total, rel=0.02)
    assert 0 < found.memory.available_bytes < total
    disk = os.statvfs(machine.home)
    assert found.disk is not None
    assert found.disk.total_bytes == pytest.approx(disk.f_blocks * disk.f_frsize, rel=0.01)
    assert found.disk.available_bytes == pytest.approx(disk.f_bavail * disk.f_frsize, rel=0.05)
    assert found.uptime_s == pytest.approx(
        float(Path("/proc/uptime").read_text().split()[0]), abs=5
    )
    assert (found.gpus, found.gpu_error) == ((), None)
    assert found.unwritable is None


@pytest.mark.parametrize(
    ("root", "asked"),
    [
        ("~", "{home}"),
        ("~/gridops", "{home}"),
        ("~/a/b c/d", "{home}"),
        ("~/here/deep/er", "{home}/here"),
        ("projects", "{home}"),
        ("/no/such/place", "/"),
        ("/", "/"),
        ("/proc/self//", "/proc/self//"),
        ("~someone/x", "{home}"),
        ("$(touch pwned); '\"`", "{home}"),
        ("~/dangling/x", "{home}"),
    ],
)
def test_the_disk_is_that_of_the_nearest_directory_that_is_there(
    machine: Machine, root: str, asked: str
) -> None:
    (machine.home / "here").mkdir()
    (machine.home / "dangling").symlink_to("/no/such/target")
    machine.tool("df", 'printf "head\\n/dev/sd [%s] 100 50 50 50%% /\\n" "$*" >"$HOME/asked"; '
                 'cat "$HOME/asked"')  # fmt: skip
    answer = machine.ask(root)
    expected = asked.format(home=machine.home)
    assert line(answer, "disk") == [f"/dev/sd [-P -k {expected}] 100 50 50 50% /"]
    assert not (machine.home / "pwned").exists()


def test_a_df_that_fails_leaves_the_rest_alone(machine: Machine) -> None:
    machine.tool("df", "echo df: cannot read >&2; exit 1")
    found = machine.figures()
    assert found.disk is None
    assert found.cpu.cores > 0


def test_a_directory_that_we_may_not_write_is_told(shell: str) -> None:
    words = [*(["busybox", "sh"] if shell == "busybox" else [shell]), "-s", "--", "/etc/gridops"]
    done = subprocess.run(
        [*words, "0.05", "5"],
        input=probe_script().encode(),
        capture_output=True,
        timeout=30,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": "/"},
        **({"user": 65534, "group": 65534} if os.geteuid() == 0 else {}),  # type: ignore[arg-type]
    )
    assert parse(done.stdout, "/etc/gridops").unwritable == "/etc"


def test_a_sleep_that_knows_no_fractions_waits_a_second(machine: Machine) -> None:
    machine.tool("sleep", 'case $1 in *.*) echo "bad number" >&2; exit 1;; esac; exec sleep "$1"')
    real = machine.bin / "sleep"
    fake = machine.bin / "fake-sleep"
    real.rename(fake)
    text = fake.read_text().replace("exec sleep", f"exec {shutil.which('sleep')}")
    real.write_text(text)
    real.chmod(0o755)
    began = time.monotonic()
    assert 0 <= machine.figures().cpu.percent <= 100
    assert 1.0 <= time.monotonic() - began < 5.0


def test_logins_are_listed(machine: Machine) -> None:
    machine.tool("who", "echo 'ada   pts/0  2026-11-24 10:00 (10.0.0.1)'; echo 'ml tty1 today'")
    records = machine.home / "utmp"
    records.write_text("x")
    assert machine.figures(path=("/run/utmp", str(records))).users == ("ada", "ml")


def test_who_is_not_asked_where_logins_are_not_recorded(machine: Machine) -> None:
    machine.tool("who", 'echo asked >"$HOME/calls"')
    assert machine.figures(path=("/run/", f"{machine.home}/")).users == ()
    assert not calls(machine)


def test_a_system_without_proc_says_what_it_is(machine: Machine) -> None:
    machine.tool("uname", "echo Darwin")
    answer = machine.ask(path=("/proc/", "/no-proc/"))
    assert answer == "gridops-probe 1\nunsupported Darwin\nend\n"


# -- durable runs ----------------------------------------------------------------------------------

BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
HOST = Path("/proc/sys/kernel/hostname").read_text().strip()


def identity(pid: int) -> str:
    """PID.TICK.BOOT, as the supervisor of a run names itself."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{pid}.{ticks}.{BOOT.split('-')[0]}"


def lock_file(machine: Machine, name: str, text: str = "", host: str = HOST) -> Path:
    """Make `leases/…` or `queue/…`."""
    path = machine.home / ".gridops" / "locks" / host / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_runs_that_hold_a_slot_and_runs_that_wait_are_counted(machine: Machine) -> None:
    me = identity(os.getpid())
    lock_file(machine, f"leases/{me}.run-1")
    lock_file(machine, f"leases/{me}.run_2", "GPU-a GPU-b\n")
    lock_file(machine, f"queue/1000000001.{me}.run-3")
    answer = machine.ask()
    assert sorted(line(answer, "lease")) == ["run-1 ", "run_2 GPU-a GPU-b"]
    assert line(answer, "waiting") == ["run-3"]


def test_where_no_run_ever_was_none_is_told(machine: Machine) -> None:
    assert not line(machine.ask(), "lease") + line(machine.ask(), "waiting")
    for name in ("leases", "queue"):
        lock_file(machine, f"{name}/x").unlink()
    assert not line(machine.ask(), "lease") + line(machine.ask(), "waiting")


@pytest.mark.parametrize("change", ["gone", "tick", "boot", "host", "exit", "zombie", "nonsense"])
def test_a_lease_or_ticket_of_a_run_that_is_no_more_does_not_count(
    machine: Machine, change: str
) -> None:
    """As lease.sh has it: its supervisor lives, in this boot, and its end is not on record."""
    child = subprocess.Popen(["sleep", "1000"])
    try:
        who, host = identity(child.pid), HOST
        pid, tick, boot = who.split(".")
        if change == "exit":
            (machine.home / ".gridops" / "jobs" / "run").mkdir(parents=True)
            (machine.home / ".gridops" / "jobs" / "run" / "exit").symlink_to("0.0.1.0.0.exit")
        who = {
            "gone": f"{2**22 + 1}.{tick}.{boot}",
            "tick": f"{pid}.1{tick}.{boot}",
            "boot": f"{pid}.{tick}.00000000",
            "nonsense": "..",
        }.get(change, who)
        if change == "host":
            host = "another"  # a home may be shared by nodes
        lock_file(machine, f"leases/{who}.run", "GPU-a\n", host)
        lock_file(machine, f"queue/7.{who}.run", "", host)
        if change == "zombie":
            child.kill()
            wait_until(lambda: gone(child.pid))
        answer = machine.ask()
        assert not line(answer, "lease") + line(answer, "waiting")
    finally:
        child.kill()
        child.wait()


# -- GPU tools -------------------------------------------------------------------------------------


def nvidia_smi(machine: Machine, gpus: str, apps: str = ":", status: int = 0) -> None:
    machine.tool(
        "nvidia-smi",
        f'echo "$$ $*" >>{machine.home}/calls\n'
        f"case $1 in --query-gpu=*) {gpus}; exit {status};; *) {apps};; esac",
    )


def calls(machine: Machine) -> list[str]:
    path = machine.home / "calls"
    return path.read_text().splitlines() if path.exists() else []


def test_nvidia_gpus_are_asked_by_name_and_their_processes_are_given_owners(
    machine: Machine,
) -> None:
    uuid = "GPU-c38d8d8c-638c-ef86-5142-a93eca9b5b56"
    theirs = 1 if os.geteuid() else 2**22 + 1  # pid 1 is root's; beyond pid_max there is nobody
    nvidia_smi(
        machine,
        f"cat {DATA}/nvidia-v100x8.csv",
        f'echo "{uuid}, {os.getpid()}, 100"; echo "{uuid}, {theirs}, 100"',
    )
    found = machine.figures()
    assert found.gpu_error is None
    assert len(found.gpus) == 8
    assert (found.gpus[6].processes, found.gpus[6].other_processes) == (2, 1)
    fields = "index,uuid,name,memory.total,memory.used,utilization.gpu,temperature.gpu"
    assert [call.partition(" ")[2] for call in calls(machine)] == [
        f"--query-gpu={fields} --format=csv,noheader,nounits",
        "--query-compute-apps=gpu_uuid,pid,used_memory --format=csv,noheader,nounits",
    ]


@pytest.mark.parametrize(
    ("name", "status", "gpus", "says"),
    [
        ("nvidia-mismatch.txt", 18, 0, "different versions"),
        ("nvidia-no-driver.txt", 9, 0, "not loaded"),
        ("nvidia-one-lost.csv", 255, 2, "Unable to determine the device handle"),
        ("nvidia-a100-mig-pod.csv", 0, 1, None),
    ],
)
def test_what_nvidia_smi_says_arrives_whole(
    machine: Machine, name: str, status: int, gpus: int, says: str | None
) -> None:
    nvidia_smi(machine, f"cat {DATA}/{name}", status=status)
    found = machine.figures()
    assert len(found.gpus) == gpus
    assert says is None if found.gpu_error is None else says in found.gpu_error
    assert len(calls(machine)) == (1 if status else 2)  # no second question after a failure


def test_an_answer_on_stderr_and_without_a_last_newline_is_heard(machine: Machine) -> None:
    nvidia_smi(machine, "printf 'Failed to initialize NVML: Unknown Error' >&2", status=255)
    assert machine.figures().gpu_error == "nvidia-smi: Failed to initialize NVML: Unknown Error"


def test_rocm_smi_is_asked_once(machine: Machine) -> None:
    machine.tool("rocm-smi", f"echo x >>{machine.home}/calls; cat {DATA}/rocm-rx7900xt.json")
    found = machine.figures()
    assert [gpu.name for gpu in found.gpus] == ["Radeon RX 7900 XT"]
    assert (found.gpu_error, len(calls(machine))) == (None, 1)


def test_amd_smi_serves_where_there_is_no_rocm_smi(machine: Machine) -> None:
    machine.tool(
        "amd-smi",
        f"case $1 in list) t=list;; static) t=asic;; *) t=metric;; esac\n"
        f'cat "{DATA}/amdsmi-r9700.$t.json"',
    )
    found = machine.figures()
    assert [gpu.uuid for gpu in found.gpus] == ["GPU-64ac21a676f77a5b", "GPU-10db7231938f80d6"]
    assert found.gpu_error is None


def test_processes_on_amd_gpus_are_found_where_the_kernel_lists_them(machine: Machine) -> None:
    kfd = machine.home / "kfd" / "proc" / str(os.getpid())
    kfd.mkdir(parents=True)
    (kfd / "vram_26967").write_text("27000000\n")
    (kfd / "vram_99").write_text("0\n")
    machine.tool("rocm-smi", f"cat {DATA}/rocm-rx7900xt.json")
    (gpu,) = machine.figures(path=("/sys/class/kfd/kfd/proc", str(kfd.parent))).gpus
    assert (gpu.processes, gpu.other_processes) == (1, 0)


def test_both_vendors_in_one_machine_are_both_seen(machine: Machine) -> None:
    nvidia_smi(machine, f"cat {DATA}/nvidia-gb10.csv")
    machine.tool("rocm-smi", f"cat {DATA}/rocm-780m.json")
    assert [gpu.vendor for gpu in machine.figures().gpus] == ["nvidia", "amd"]


# -- tools that hang -------------------------------------------------------------------------------

HANG = "while :; do sleep 1000 & wait; done"


def gone(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return text.rpartition(")")[2].split()[0] == "Z"


def reap(machine: Machine) -> None:
    """End what a killed fake left behind: unlike the real tools they have children."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if str(machine.bin).encode() in (entry / "environ").read_bytes():
                    os.kill(int(entry.name), signal.SIGKILL)


@pytest.mark.parametrize("stubborn", ["", "trap '' TERM INT HUP;"])
def test_a_tool_that_hangs_is_ended_in_time_and_the_rest_is_told(
    machine: Machine, stubborn: str
) -> None:
    nvidia_smi(machine, f"{stubborn} exec sleep 1000")
    began = time.monotonic()
    found = machine.figures(limit="0.3")
    assert time.monotonic() - began < 3.0
    assert found.gpu_error == "nvidia-smi did not answer in time"
    assert found.cpu.cores > 0
    pid = int(calls(machine)[0].split()[0])
    wait_until(lambda: gone(pid))
    assert not list(machine.home.glob(".gridops/*"))


def test_gpus_that_were_told_before_the_tool_hung_are_not_lost(machine: Machine) -> None:
    nvidia_smi(machine, f"cat {DATA}/nvidia-gb10.csv", "exec sleep 1000")
    found = machine.figures(limit="0.3")
    assert len(found.gpus) == 1
    assert found.gpu_error == "nvidia-smi did not answer in time"


def test_one_vendors_hang_does_not_hide_the_others_gpus(machine: Machine) -> None:
    nvidia_smi(machine, "exec sleep 1000")
    machine.tool("rocm-smi", f"cat {DATA}/rocm-780m.json")
    found = machine.figures(limit="0.3")
    assert [gpu.vendor for gpu in found.gpus] == ["amd"]


def test_no_timer_is_left_behind_by_a_tool_that_answered(machine: Machine) -> None:
    nvidia_smi(machine, f"cat {DATA}/nvidia-gb10.csv")
    machine.figures(limit="977")
    wait_until(lambda: not _sleepers("977"))


def _sleepers(seconds: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if seconds.encode() in words:
                    found.append(entry.name)
    return found


def test_no_second_tool_is_started_beside_one_that_cannot_be_killed(machine: Machine) -> None:
    """The fake stands for one stuck in the driver: the probe's kill does not reach it."""
    nvidia_smi(machine, "exec sleep 1000")
    try:
        found = machine.figures(limit="0.3", first="kill() { :; }")
        pid = int(calls(machine)[0].split()[0])
        assert found.gpu_error is not None
        assert f"(pid {pid})" in found.gpu_error

        record = next(machine.home.glob(".gridops/nvidia-stuck.*"))
        assert record.readlink().name.startswith(f"{pid}.")
        assert stat.S_IMODE((machine.home / ".gridops").stat().st_mode) == 0o700

        began = time.monotonic()
        found = machine.figures(limit="5")
        assert time.monotonic() - began < 2.0
        assert found.gpu_error is not None
        assert "no second one is started" in found.gpu_error
        assert f"(pid {pid})" in found.gpu_error
        assert len(calls(machine)) == 1
    finally:
        reap(machine)
    wait_until(lambda: gone(pid))

    nvidia_smi(machine, f"cat {DATA}/nvidia-gb10.csv")
    found = machine.figures()
    assert (len(found.gpus), found.gpu_error) == (1, None)
    assert not record.is_symlink()


@pytest.mark.parametrize("change", ["ticks", "boot", "nonsense"])
def test_a_record_of_another_process_or_another_boot_holds_nobody_up(
    machine: Machine, change: str
) -> None:
    sleeper = subprocess.Popen(["sleep", "1000"])
    try:
        ticks = Path(f"/proc/{sleeper.pid}/stat").read_text().rpartition(")")[2].split()[19]
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        host = Path("/proc/sys/kernel/hostname").read_text().strip()
        record = machine.home / ".gridops" / f"nvidia-stuck.{host}"
        record.parent.mkdir(mode=0o700)
        nvidia_smi(machine, f"cat {DATA}/nvidia-gb10.csv")

        record.symlink_to(f"{sleeper.pid}.{ticks}.{boot}")
        assert "no second one" in (machine.figures().gpu_error or "")

        record.unlink()
        fresh = {
            "ticks": f"{sleeper.pid}.1{ticks}.{boot}",
            "boot": f"{sleeper.pid}.{ticks}.00000000-0000",
            "nonsense": "../..",
        }
        record.symlink_to(fresh[change])
        assert machine.figures().gpu_error is None
        assert not record.is_symlink()
    finally:
        sleeper.kill()
        sleeper.wait()


# -- login shells ----------------------------------------------------------------------------------


@pytest.mark.parametrize("login", ["fish", "tcsh", "csh", "zsh", "bash", "dash", "busybox sh"])
def test_the_probe_comes_through_every_login_shell(login: str, home: Path) -> None:
    """sshd gives the login shell one command line with -c; the script itself is on stdin."""
    words = login.split()
    find_program(words[0])
    text = script_input(probe_script(), ("~/a'b $x", "0.05", "5"), "mark", has_input=False)
    done = subprocess.run(
        [*words, "-c", command_for(text, "mark", has_input=False)],
        input=text,
        capture_output=True,
        timeout=30,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(home)},
    )
    _, _, answer = done.stdout.partition(b"mark\n")
    assert parse(answer, "~").cpu.cores > 0
    assert done.stderr.endswith(b"mark-stderr\n")


# -- env_setup -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "setup",
    ["true", "# nothing", "set -e", "exec >/dev/null 2>&1", "exec 3>&- 9>&-", "trap 'echo' EXIT",
     "echo '#gridops late'x; A=1 # a", "sleep 300 &", '[ "$GRIDOPS_NODE" = the-node ]'],
)  # fmt: skip
def test_an_env_setup_that_succeeds_is_not_said(machine: Machine, setup: str) -> None:
    began = time.monotonic()
    answer = machine.ask(setup=setup)
    assert time.monotonic() - began < 4
    assert "setup" not in answer
    assert parse(answer.encode(), "~").setup_error is None


@pytest.mark.parametrize(
    ("setup", "reason"),
    [
        ("exit 0", "env_setup fails: it ends the shell"),
        ("exec sh -c :", "env_setup fails: it ends the shell"),
        ("false", "env_setup fails: status 1"),
        ("echo one; echo two >&2; echo; exit 3", "env_setup fails: two"),
        ("echo 'no end", "nterminated"),
        ("nonsense-here a b", "nonsense-here"),
        ("kill -9 $$", "env_setup fails: "),
        ("printf 'cut \\033[2J'; false", "env_setup fails: cut [2J"),
    ],
)
def test_an_env_setup_that_fails_is_told_with_its_last_words(
    machine: Machine, setup: str, reason: str
) -> None:
    found = machine.figures(setup=setup).setup_error
    assert found
    assert found.startswith("env_setup fails: ")
    assert reason in found or (reason == "nterminated" and "unexpected EOF" in found)


def test_an_env_setup_that_hangs_costs_the_probe_its_limit_and_is_ended(machine: Machine) -> None:
    began = time.monotonic()
    found = machine.figures(setup=f"echo here; sleep 300.{os.getpid()}; true", limit="1")
    assert 1 <= time.monotonic() - began < 5
    assert found.setup_error == "env_setup has not ended within 1 s: here"
    assert found.cpu.cores > 0
    wait_until(lambda: not sleeping(f"300.{os.getpid()}"))


def test_what_an_env_setup_takes_is_no_load_of_the_node(machine: Machine) -> None:
    busy = "n=0; while [ $n -lt 20000 ]; do n=$((n + 1)); done"
    answer = machine.ask(setup=busy)
    plain = line(answer, "stat")
    assert len(plain) == 2
    known = machine.ask(setup=busy, known=plain[0])
    assert len(line(known, "stat")) == 2


def sleeping(word: str) -> bool:
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            if word.encode() in entry.read_bytes().split(b"\0"):
                return True
    return False


def test_a_daemon_that_env_setup_starts_is_ended(machine, shell):
    for name in ("grep", "tr"):
        found = shutil.which("busybox" if shell == "busybox" else name)
        (machine.bin / name).symlink_to(found or "")
    seconds = f"300.{os.getpid()}"
    setup = f"(setsid sleep {seconds} </dev/null >/dev/null 2>&1 &); sleep 0.3"
    assert machine.figures(setup=setup).setup_error is None
    words = seconds.encode() + b"\0"
    end = time.monotonic() + 5
    while any(words in _command_line(one) for one in Path("/proc").glob("[0-9]*")):
        assert time.monotonic() < end
        time.sleep(0.05)


def _command_line(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""
