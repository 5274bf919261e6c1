"""The parts of job.sh that decide who lives, who belongs to whom and who may have what."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support.jobs import Kept, Place, begun, done, pids_with, shell_path, start
from support.nodes import find_program, wait_until

from gridops.errors import NodeError, NotStarted
from gridops.jobs import client, script
from gridops.jobs.spec import JobSpec
from gridops.jobs.start import start_job
from gridops.model import Node
from gridops.reach.local import LocalLink
from gridops.system.scripts import source

SHELLS = ("dash", "bash", "busybox")
OURS = os.getpid()  # in the arguments of processes: others may run the same tests beside us
BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().split("-")[0]


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PATH", shell_path(request.param, home))
    return str(request.param)


@pytest.fixture
def place(shell: str, home: Path) -> Iterator[Place]:
    """This machine, whose sh is `shell`."""
    made = Place(LocalLink(Node("here", "localhost", connection="local")), home)
    yield made
    for job in client.list_jobs(made.link):
        if job.active:
            client.kill(made.link, job.id, grace=0)


def functions() -> str:
    """The script without the call of main."""
    return script.text().decode().rpartition("\nmain ")[0]


def sh(home: Path, text: str) -> str:
    """What `text` prints, with the script's functions at hand."""
    run = home / "functions.sh"
    run.write_text(f"{functions()}\nboot={BOOT}\nnl='\n'\n{text}\n")
    done = subprocess.run(
        ["sh", str(run)], cwd=home, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stderr == ""
    return done.stdout


def tick_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[19]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own."""
    child = subprocess.Popen(["/bin/sleep", f"4720.{OURS}"], start_new_session=True)
    yield child
    child.kill()
    child.wait()


# -- the script -----------------------------------------------------------------------------------


def test_shellcheck_finds_nothing(tmp_path: Path) -> None:
    parts = ("reach/shield.sh", "reach/become.sh", *script.PARTS)
    whole = "\n".join(map(source, parts))  # preamble.sh's own disables would hold for all
    joined = tmp_path / "job.sh"
    joined.write_text(re.sub("(?m)^# shellcheck shell=sh disable.*", "", whole))
    (tmp_path / "install.sh").write_text(script.installer())
    found = subprocess.run(
        [find_program("shellcheck"), "-s", "sh", str(joined), str(tmp_path / "install.sh")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.stdout == ""


def test_the_script_is_placed_once_and_anew_when_it_is_missing_or_torn(place: Place) -> None:
    assert client.list_jobs(place.link) == ()
    (copy,) = (place.home / ".gridops" / "lib").iterdir()
    assert copy.read_bytes() == script.text()
    before = copy.stat().st_ino
    assert client.list_jobs(place.link) == ()
    assert copy.stat().st_ino == before
    copy.write_bytes(script.text()[:-20])
    assert client.list_jobs(place.link) == ()
    assert copy.read_bytes() == script.text()


# -- processes ------------------------------------------------------------------------------------


def test_a_process_is_known_by_when_it_started(
    shell: str, home: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    who = f"{sleeper.pid}.{tick_of(sleeper.pid)}.{BOOT}"
    ask = 'for who in {}; do alive "$who" && echo yes || echo no; done'
    others = [
        f"{sleeper.pid}.1.{BOOT}",
        who.replace(BOOT, "0badb007"),
        f"4194999.1.{BOOT}",
        f"{who}.host",
    ]
    said = sh(home, ask.format(" ".join([who, *others])))
    assert said.split() == ["yes", "no", "no", "no", "yes"]


def test_a_zombie_is_dead(shell: str, home: Path) -> None:
    child = subprocess.Popen(["/bin/true"])
    wait_until(lambda: ") Z " in Path(f"/proc/{child.pid}/stat").read_text())
    who = f"{child.pid}.{tick_of(child.pid)}.{BOOT}"
    assert sh(home, f"alive {who} && echo yes || echo no") == "no\n"
    child.wait()


def test_a_process_with_an_evil_name_is_read_right(shell: str, home: Path) -> None:
    evil = home / ") Z 1 (\n) S"
    shutil.copy("/bin/sleep", evil)
    child = subprocess.Popen([str(evil), "60"])
    try:
        wait_until(lambda: "Z 1" in Path(f"/proc/{child.pid}/stat").read_text())
        said = sh(home, f'look_up {child.pid} && echo "$state $tick"')
        assert said.split() in (["S", tick_of(child.pid)], ["R", tick_of(child.pid)])
    finally:
        child.kill()
        child.wait()


def test_helpers_of_a_supervisor_that_died_before_it_was_ready_are_let_go(
    shell: str, home: Path
) -> None:
    job = home / "job"
    job.mkdir()
    (job / "sup").symlink_to(f"999999.1.{BOOT}.host")
    for name in ("p.out", "p.err", "p.sup"):
        os.mkfifo(job / name)
    helper = subprocess.Popen(["sh", "-c", "cat <job/p.out"], cwd=home)
    try:
        time.sleep(0.1)
        sh(home, "settle job")
        assert helper.wait(5) == 0
    finally:
        helper.kill()
        helper.wait()
    assert not list(job.glob("p.*"))
    assert (job / "exit").is_symlink()


def test_pipes_of_a_supervisor_that_died_once_it_had_recorded_the_end_are_removed(
    shell: str, home: Path
) -> None:
    job = home / "job"
    job.mkdir()
    (job / "exit").symlink_to("0.0.1.0.0.exit")
    for name in ("p.out", "p.err", "p.sup"):
        os.mkfifo(job / name)
    sh(home, "id=job timer=''\nguard </dev/null")
    assert not list(job.glob("p.*"))


def test_a_pipe_that_goes_meanwhile_leaves_none_of_the_others(shell: str, home: Path) -> None:
    """Several may release the pipes of a run at once; opening one that has gone makes a file."""
    (home / "id").mkdir()
    os.mkfifo(home / "id/p.out")
    (home / "id/p.sup").symlink_to("gone")
    assert sh(home, "release id; release id; echo on") == "on\n"
    assert not list((home / "id").iterdir())


@pytest.fixture
def replace_stat(shell: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """The `stat` of the node does a text before it answers.

    The script puts the system's directories first, so all the other tools are found elsewhere.
    """

    def replace(text: str) -> None:
        program, tools = home / "shell/stat", home / "tools"
        if shell != "busybox":
            tools.mkdir()
            for one in Path("/usr/bin").iterdir():
                (tools / one.name).symlink_to(one)
            monkeypatch.setenv("PATH", f"{home}/shell:{tools}")
        program.unlink(missing_ok=True)
        program.write_text(f'#!/bin/sh\n{text}\nexec /usr/bin/stat "$@"\n')
        program.chmod(0o755)

    return replace


def test_an_upload_that_goes_while_it_is_looked_at_stops_nothing(
    home: Path, replace_stat: Callable[[str], None]
) -> None:
    upload = home / "id/new.1.2"
    upload.mkdir(parents=True)
    (upload / "env").touch()
    replace_stat('rm -rf "$3"')
    assert sh(home, "discard_cut_uploads; echo on") == "on\n"
    assert not upload.exists()
    assert sh(home, "host=h; forget 0; echo on") == "on\n"
    assert not upload.parent.exists()


def test_signals_while_the_end_is_recorded_lose_no_output(
    place: Place, replace_stat: Callable[[str], None]
) -> None:
    """A shutdown's TERM reaches the processes that the supervisor asks for the streams' sizes."""
    replace_stat(
        """case $(tr '\\0' ' ' <"/proc/$PPID/cmdline") in *" supervise "*) kill -TERM 0 ;; esac""",
    )
    job_id = Kept().run(place, "seq 1000; echo bad >&2; exit 7").job.id
    kept = Kept()
    job = kept.follow(place, job_id).job
    assert (job.state, job.status) == ("finished", 7)
    assert bytes(kept.out) == b"".join(b"%d\n" % n for n in range(1, 1001))
    assert bytes(kept.err) == b"bad\n"


def test_an_innocent_process_with_a_reused_session_number_is_left_alone(
    shell: str, home: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    (home / "j1").mkdir()
    (home / "j1" / "child").symlink_to(f"{sleeper.pid}.1.{BOOT}")
    assert sh(home, "members j1").split() == []
    (home / "j1" / "child").unlink()
    (home / "j1" / "child").symlink_to(f"{sleeper.pid}.{tick_of(sleeper.pid)}.{BOOT}")
    assert sh(home, "members j1").split() == [str(sleeper.pid)]
    sh(home, "sweep j1 1")
    assert sleeper.wait(5) == -signal.SIGTERM


def test_a_process_that_ends_as_it_is_read_hides_no_other(
    shell: str, home: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    (home / "j1").mkdir()
    (home / "j1" / "child").symlink_to(f"{sleeper.pid}.{tick_of(sleeper.pid)}.{BOOT}")
    # Reading a directory fails as reading the stat of a process does that is gone by then.
    stats = f"candidates() {{ environs='' stats='/proc /proc/{sleeper.pid}/stat'; }}"
    assert sh(home, f"{stats}\nmembers j1").split() == [str(sleeper.pid)]


def test_ending_processes_without_mercy_is_known_to_have_worked(
    shell: str, home: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    (home / "j1").mkdir()
    (home / "j1" / "child").symlink_to(f"{sleeper.pid}.{tick_of(sleeper.pid)}.{BOOT}")
    assert sh(home, "sweep j1 0 && echo ended") == "ended\n"
    assert sleeper.wait(5) == -signal.SIGKILL


def test_the_tag_of_one_run_is_not_taken_for_that_of_another(shell: str, home: Path) -> None:
    env = {**os.environ, "GRIDOPS_RUN_ID": "run-10", "OTHER": "GRIDOPS_RUN_ID=run-1"}
    child = subprocess.Popen(["/bin/sleep", "60"], env=env, start_new_session=True)
    try:
        begun = "for id in run-1 run-10; do mkdir $id; ln -s 1.1.x $id/child; done"
        assert sh(home, f"{begun}; members run-1").split() == []
        assert sh(home, "members run-10").split() == [str(child.pid)]
        # One that never began has none: its id may run on another node, which is this machine, too.
        assert sh(home, "rm run-10/child; ln -s void run-10/child; members run-10").split() == []
    finally:
        child.kill()
        child.wait()


# -- many of them ---------------------------------------------------------------------------------


def test_many_runs_are_told_of_at_the_cost_of_a_few_processes(place: Place) -> None:
    first = Kept().run(place, "echo hi; exit 3").job.id
    about = (place.job(first) / "spec" / "run").read_text()
    for number in range(400):
        job_id = f"20200101-{number:06}-000abcde"
        (place.job(job_id) / "spec").mkdir(parents=True)
        (place.job(job_id) / "spec" / "run").write_text(about.replace(first, job_id))
        for name in ("out", "err"):
            (place.job(job_id) / name).touch()
        for name in ("sup", "child", "exit"):
            (place.job(job_id) / name).symlink_to((place.job(first) / name).readlink())
    odd = place.home / ".gridops" / "jobs" / "o'd d\"r\n x"
    odd.mkdir()
    (odd / "exit").symlink_to("odd")
    pruned = place.job("20200101-000000-000abcde")
    shutil.rmtree(pruned / "spec")
    (pruned / "out").unlink()
    (pruned / "err").unlink()
    running = start(place, "sleep 300")
    begun(place, running)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    jobs = client.list_jobs(place.link)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert [job.state for job in jobs] == ["finished"] * 400 + ["running"]
    assert (jobs[-1].id, jobs[0].status, jobs[0].out_bytes) == (running, 3, 3)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent < 0.25  # seconds; bash took 0.6 when it looked at each


# -- forgetting -----------------------------------------------------------------------------------


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_a_snapshot_with_directories_that_cannot_be_written_to_is_forgotten(
    shell: str, home: Path
) -> None:
    (home / "j1/tree/fixed/deep").mkdir(parents=True)
    (home / "j1/spec").mkdir()
    (home / "j1/tree/fixed/deep/file").write_text("x")
    for path in (home / "j1/tree/fixed/deep", home / "j1/tree/fixed"):
        path.chmod(0o555)
    subprocess.run(["chown", "-R", "65534:65534", str(home)], check=True)
    home.parent.chmod(0o711)
    script = f"{functions()}\ndrop j1 0 5 2>/dev/null\n"
    done = subprocess.run(
        ["sh", "-c", script], cwd=home, capture_output=True, text=True, check=False, user=65534
    )
    home.parent.chmod(0o700)
    assert (done.stdout, done.stderr) == ("pruned j1\n", "")
    assert list((home / "j1").iterdir()) == []


# -- the mutex ------------------------------------------------------------------------------------


COUNT = """
locks=locks; identify $$; me=$identity
i=0
while [ $i -lt 12 ]; do
    lock
    read -r n <counter
    echo $((n + 1)) >counter
    unlock
    i=$((i + 1))
done
"""


def test_the_mutex_lets_one_in_at_a_time_and_keeps_its_directory_small(
    shell: str, home: Path
) -> None:
    (home / "counter").write_text("0\n")
    run = home / "functions.sh"
    run.write_text(f"{functions()}\nboot={BOOT}\nnl='\n'\n{COUNT}")
    children = [subprocess.Popen(["sh", str(run)], cwd=home) for _ in range(6)]
    for child in children:
        assert child.wait(60) == 0
    assert (home / "counter").read_text() == "72\n"
    assert len(list((home / "locks" / "mutex").iterdir())) <= 64


def test_the_mutex_of_a_dead_holder_can_be_taken(shell: str, home: Path) -> None:
    for name in ("mutex", "queue", "leases"):
        (home / "locks" / name).mkdir(parents=True)
    (home / "locks" / "mutex" / "7").symlink_to(f"4194999.5.{BOOT}")
    said = sh(home, "locks=locks; identify $$; me=$identity; lock; echo $ours; unlock")
    assert said == "8\n"


# -- GPUs -----------------------------------------------------------------------------------------


FAKE = """#!/bin/sh
case "$*" in
*--query-gpu*) printf '%s, %s, H100\\n' 0 GPU-aaa 1 GPU-bbb 2 GPU-ccc 3 GPU-ddd ;;
*--query-compute-apps*) [ ! -f "$HOME/busy" ] || cat "$HOME/busy" ;;
esac
"""


@pytest.fixture
def nvidia(place: Place) -> Path:
    """A node with four GPUs, of which GPU-bbb is used by somebody."""
    tool = place.home / "shell" / "nvidia-smi"
    tool.write_text(FAKE)
    tool.chmod(0o755)
    (place.home / "busy").write_text("GPU-bbb, 4242\n")
    return tool


@pytest.mark.usefixtures("nvidia")
def test_gpus_that_nobody_uses_are_leased_by_uuid(place: Place) -> None:
    first = start(place, 'echo "$CUDA_VISIBLE_DEVICES"; sleep 300', gpus=2, slots=9)
    begun(place, first)
    kept = Kept()
    end = kept.run(place, 'echo "$CUDA_VISIBLE_DEVICES"', gpus=1, slots=9)
    assert (kept.out, end.job.gpus, end.job.gpus_wanted) == (b"GPU-ddd\n", ("GPU-ddd",), 1)
    assert client.status(place.link, [first])[first].gpus == ("GPU-aaa", "GPU-ccc")
    with pytest.raises(NotStarted) as caught:
        start(place, "true", gpus=2, slots=9)
    assert (caught.value.reason, caught.value.holders) == ("busy", (first,))
    with pytest.raises(NotStarted, match="has 4 GPUs, but the run needs 5"):
        start(place, "true", gpus=5, slots=9, wait=60.0)
    assert Kept().run(place, "true", slots=9).job.status == 0


@pytest.mark.usefixtures("nvidia")
def test_a_lease_ends_with_its_run_whatever_ends_that(place: Place) -> None:
    holder = start(place, f"sleep 4721.{OURS}", gpus=3, slots=9, grace=0)
    begun(place, holder)
    waiter = start(place, 'echo "$CUDA_VISIBLE_DEVICES"', gpus=3, slots=9, wait=60.0)
    pid = int((place.job(holder) / "sup").readlink().name.split(".")[0])
    os.kill(pid, signal.SIGKILL)
    assert done(place, waiter).status == 0
    assert (place.job(waiter) / "out").read_text() == "GPU-aaa,GPU-ccc,GPU-ddd\n"
    assert pids_with(f"4721.{OURS}") == []


@pytest.mark.usefixtures("nvidia")
def test_racing_runs_never_share_a_gpu(place: Place) -> None:
    room = place.home / "room"
    room.mkdir()
    mine = f"{room}/$CUDA_VISIBLE_DEVICES"
    command = f"mkdir {mine} || exit 1; sleep 0.1; rmdir {mine}"
    ids = [start(place, command, gpus=1, slots=9, wait=100.0) for _ in range(9)]
    assert [done(place, job_id).status for job_id in ids] == [0] * 9


def test_a_driver_that_hangs_is_said_and_not_asked_again(place: Place, nvidia: Path) -> None:
    sleep = f"4722.{os.getpid()}"  # of this test alone
    nvidia.write_text(f"#!/bin/sh\necho $$ >>~/asked\nexec sleep {sleep}\n")
    library = place.home / ".gridops" / "lib"
    client.list_jobs(place.link)
    (copy,) = library.iterdir()
    copy.write_bytes(script.text().replace(b"gpu_limit=1000", b"gpu_limit=50"))
    began = time.monotonic()
    with pytest.raises(NotStarted, match="hangs") as caught:
        start(place, "true", gpus=1)
    assert caught.value.reason == "gpus"
    assert time.monotonic() - began < 8
    assert pids_with(sleep) == []


def test_a_driver_that_fails_is_said(place: Place, nvidia: Path) -> None:
    nvidia.write_text("#!/bin/sh\nexit 9\n")
    with pytest.raises(NotStarted, match="fails"):
        start(place, "true", gpus=1)


def test_amd_gpus_are_those_of_the_kernels_topology(shell: str, home: Path) -> None:
    for node, gpu in enumerate((0, 11, 22, 33)):
        (home / f"kfd/topology/nodes/{node}").mkdir(parents=True)
        (home / f"kfd/topology/nodes/{node}/gpu_id").write_text(f"{gpu}\n")
    (home / "kfd/proc/77").mkdir(parents=True)
    (home / "kfd/proc/77/vram_22").write_text("4096\n")
    (home / "kfd/proc/77/vram_33").write_text("0\n")  # it has opened the driver, no more
    said = sh(home, "PATH=$PATH:; kfd=kfd; ask_kfd; echo $all_gpus . $free_gpus")
    assert said == "0 1 2 . 0 2\n"


MOUNT = shutil.which("mount", path="/bin:/usr/bin:/sbin") or "mount"
UMOUNT = shutil.which("umount", path="/bin:/usr/bin:/sbin") or "umount"


# -- a full disk ----------------------------------------------------------------------------------


def fill(directory: Path) -> None:
    """Leave no room there."""
    with suppress(OSError), (directory / "filler").open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)


@pytest.fixture
def small_disk(place: Place) -> Iterator[Path]:
    """~/.gridops on a file system of 1 MiB."""
    base = place.home / ".gridops"
    client.list_jobs(place.link)
    kept = base / "lib"
    shutil.move(kept, place.home / "lib")
    if os.getuid():
        pytest.skip("only root can mount")
    subprocess.run([MOUNT, "-t", "tmpfs", "-o", "size=1m,mode=700", "none", str(base)], check=True)
    shutil.copytree(place.home / "lib", kept)
    yield base
    for job in client.list_jobs(place.link):
        if job.active:
            client.kill(place.link, job.id, grace=0)
    time.sleep(0.3)
    subprocess.run([UMOUNT, "-l", str(base)], check=True)


def test_a_disk_that_fills_up_cuts_the_output_but_not_the_run(
    place: Place, small_disk: Path
) -> None:
    kept = Kept()
    end = kept.run(place, "head -c 3000000 /dev/zero; echo end >&2; exit 6")
    assert (end.job.state, end.job.status, end.job.cut) == ("finished", 6, "full")
    assert 0 < len(kept.out) < 1_048_576
    assert end.job.out_bytes == len(kept.out)


def test_nothing_starts_on_a_full_disk_and_that_is_why(place: Place, small_disk: Path) -> None:
    fill(small_disk)
    with pytest.raises(NotStarted, match="disk is full") as caught:
        start(place, "echo never")
    assert caught.value.reason == "nospace"
    assert client.list_jobs(place.link) == ()


def test_a_full_disk_keeps_no_secrets_of_a_run_that_ended(place: Place, small_disk: Path) -> None:
    spec = JobSpec(command="sleep 0.5", env={"TOKEN": "hunter2"})
    start_job(place.link, spec)
    begun(place, spec.id)
    secret = place.job(spec.id) / "spec" / "env"
    assert b"hunter2" in secret.read_bytes()
    fill(small_disk)
    assert done(place, spec.id).status == 0
    assert not secret.exists()


def test_a_run_on_a_disk_that_is_full_by_then_keeps_its_true_state(
    place: Place, small_disk: Path
) -> None:
    job_id = start(place, "while [ ! -f ~/go ]; do sleep 0.05; done; kill -9 $$")
    begun(place, job_id)
    fill(small_disk)
    (place.home / "go").touch()
    job = done(place, job_id)
    assert (job.state, job.status, job.signal) == ("finished", 137, 9)


@pytest.mark.parametrize("jobs", [True, False])
def test_a_node_where_nothing_can_be_written_says_so(
    place: Place, small_disk: Path, jobs: bool
) -> None:
    client.list_jobs(place.link)
    if not jobs:
        (small_disk / "jobs").rmdir()
    subprocess.run([MOUNT, "-o", "remount,ro", str(small_disk)], check=True)
    try:
        with pytest.raises(NotStarted, match="Read-only file system") as caught:
            start(place, "echo never")
        assert (caught.value.reason, caught.value.exit_status) == ("unwritable", 125)
        if not jobs:
            with pytest.raises(NodeError, match="cannot be written to: Read-only file system"):
                client.list_jobs(place.link)
    finally:
        subprocess.run([MOUNT, "-o", "remount,rw", str(small_disk)], check=True)
