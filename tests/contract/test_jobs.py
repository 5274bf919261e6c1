"""What a durable run promises, over every way to a node."""

from __future__ import annotations

import os
import shlex
import signal
import stat
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from support.jobs import Kept, Place, begun, done, pids_with, run, start, supervisor
from support.nodes import wait_until

from gridops.errors import NoJob, NotStarted, UsageError
from gridops.jobs import client, follow
from gridops.jobs.attach import Attachment, DetachRequested
from gridops.jobs.protocol import ScriptSession
from gridops.jobs.spec import JobSpec, new_id
from gridops.jobs.start import start_job
from gridops.system.signals import OUTPUT_CLOSED, Cancel

OURS = os.getpid()  # in the arguments of processes: others may run the same tests beside us

# -- one run --------------------------------------------------------------------------------------


def test_a_run_hands_on_both_streams_and_its_status(place: Place) -> None:
    kept = Kept()
    end = kept.run(place, "echo out; echo err >&2; exit 3")
    assert (bytes(kept.out), bytes(kept.err)) == (b"out\n", b"err\n")
    assert (end.job.state, end.job.status, end.job.signal) == ("finished", 3, None)
    assert (end.job.out_bytes, end.job.err_bytes) == (4, 4)
    assert end.job.command.startswith("echo out")
    assert end.job.began
    assert end.job.started is not None
    assert abs(end.job.started - time.time()) < 10


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_signal_that_ended_the_command_is_named(place: Place, number: signal.Signals) -> None:
    end = Kept().run(place, f"kill -{int(number)} $$; sleep 5")
    assert (end.job.status, end.job.signal) == (128 + number, number)


def test_an_exit_status_above_128_is_no_signal(place: Place) -> None:
    end = Kept().run(place, "exit 143")
    assert (end.job.state, end.job.status, end.job.signal) == ("finished", 143, None)


def test_the_command_sees_default_signals_a_null_input_and_the_users_umask(place: Place) -> None:
    kept = Kept()
    kept.run(place, "cat; grep -E '^Sig(Ign|Blk)' /proc/self/status; umask; tty; ulimit -f")
    said = kept.out.decode().split()
    ignored = int(said[said.index("SigIgn:") + 1], 16)
    assert not ignored & ((1 << signal.SIGINT - 1) | (1 << signal.SIGQUIT - 1))
    assert not ignored & ((1 << signal.SIGPIPE - 1) | (1 << signal.SIGTERM - 1)), hex(ignored)
    assert int(said[said.index("SigBlk:") + 1], 16) == 0
    assert said[-1] == "unlimited"
    assert [word for word in said if word.startswith("00")][2] != "0077"


def test_odd_values_names_and_paths_arrive_as_they_are(place: Place) -> None:
    odd = "a 'b' \"c\" $(touch /tmp/no) `d` \\e\n-f \t ü ☃ *"
    where = place.home / "-dir 'x' $(y)\nü"
    where.mkdir()
    kept = Kept()
    kept.run(
        place,
        f'printf %s "$ODD"; printf "|%s|" {shlex.quote(odd)}; pwd; echo $state.$id.$GRIDOPS_NODE',
        env={"ODD": odd, "state": "s", "id": "i"},
        directory=str(where),
    )
    expected = f"{odd}|{odd}|{where}\ns.i.{place.link.node.name}\n"
    assert kept.out.decode() == expected
    assert kept.err == b""


def test_a_large_environment_and_a_large_command_arrive(place: Place) -> None:
    kept = Kept()
    big = "x" * 100_000
    end = kept.run(
        place, f"echo ${{#BIG}} ${{#M3}}\n: {'y' * 300_000}", env={"BIG": big, "M3": big}
    )
    assert (end.job.status, kept.out) == (0, b"100000 100000\n")


@pytest.mark.parametrize("name", ["A-B", "1A", "", "A=B", "UID", "GRIDOPS_RUN_ID"])
def test_a_name_that_no_shell_can_export_is_refused_at_home(name: str) -> None:
    with pytest.raises(UsageError):
        JobSpec(command="true", env={name: "x"})


def test_secrets_are_in_no_command_line_and_no_file_that_others_can_read(place: Place) -> None:
    job_id = start(place, ": hush-command; sleep 30", env={"TOKEN": "hush-value"})
    begun(place, job_id)
    assert pids_with("hush-") == []
    for path in (place.home / ".gridops").rglob("*"):
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode):
            assert not mode & 0o077, path
    assert "hush-value" not in client.show(place.link, job_id).command


def test_env_setup_that_fails_ends_the_run_before_the_command(place: Place) -> None:
    kept = Kept()
    end = kept.run(place, "echo ran $X", env_setup="X=1")
    assert kept.out == b"ran 1\n"
    end = kept.run(place, "echo never", env_setup="false")
    assert end.job.status == 125
    assert b"env_setup failed" in kept.err
    assert b"never" not in kept.out


def test_a_directory_that_must_exist_is_missed_before_the_command_begins(place: Place) -> None:
    kept = Kept()
    end = kept.run(place, "echo never", directory="~/nowhere", must_exist=True)
    assert (end.job.status, end.job.began, kept.out) == (125, False, b"")
    assert b"cannot enter the directory" in kept.err


def test_what_a_run_was_started_with_can_be_shown(place: Place) -> None:
    long = "echo " + "z" * 10_000 + "\nboot x\nout 1 2\n\n"
    job_id = start(
        place,
        long,
        commit="abc123",
        diff="--- a\n+++ b\n",
        why="least busy",
        timeout=50.0,
        user="me@pc",
    )
    job = client.show(place.link, job_id)
    assert job.command == long
    assert (job.commit, job.why, job.timeout, job.user) == ("abc123", "least busy", 50.0, "me@pc")
    assert (job.diff, job.diff_bytes) == (f"~/.gridops/jobs/{job_id}/spec/diff", 12)
    assert client.diff(place.link, job_id) == b"--- a\n+++ b\n"
    done(place, job_id)
    assert client.diff(place.link, Kept().run(place, "true").job.id) == b""
    assert job_id in [one.id for one in client.list_jobs(place.link)]
    with pytest.raises(NoJob):
        client.show(place.link, "nothing")


# -- never twice ----------------------------------------------------------------------------------


def test_a_hundred_racing_starts_of_one_id_run_it_once(place: Place) -> None:
    marks = place.home / "marks"
    spec = JobSpec(command=f"echo ran >>{marks}; sleep 0.3")
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda _: start_job(place.link, spec).state, range(100)))
    began = replies.count("started")
    assert began == 1 or (place.cuts and began == 0)
    assert replies.count("exists") == 100 - began
    assert done(place, spec.id).status == 0
    assert marks.read_text() == "ran\n"
    assert not list(place.job(spec.id).glob("new.*"))
    marks.unlink()


def test_an_id_stays_taken_after_its_run_was_pruned(place: Place) -> None:
    marks = place.home / "marks"
    spec = JobSpec(command=f"echo ran >>{marks}")
    start_job(place.link, spec)
    done(place, spec.id)
    assert client.prune(place.link, 0) == (spec.id,)
    assert client.list_jobs(place.link) == ()
    assert start_job(place.link, spec).state == "exists"
    time.sleep(0.2)
    assert marks.read_text() == "ran\n"
    marks.unlink()


def test_a_run_that_was_killed_before_its_start_arrives_never_begins(place: Place) -> None:
    spec = JobSpec(command="echo never")
    assert client.kill(place.link, spec.id).state == "killed"
    with pytest.raises(NotStarted) as caught:
        start_job(place.link, spec)
    assert caught.value.reason == "cancelled"
    assert not (place.job(spec.id) / "spec").exists()


def sent(place: Place, *args: str, words: bytes) -> list[str]:
    """What the node answers to a start as it is sent, once."""
    with ScriptSession(place.link, "start", *args, stdin=words) as session:
        return list(session.lines())


def test_an_upload_that_is_cut_claims_nothing(place: Place) -> None:
    spec = JobSpec(command="echo never")
    upload, size = spec.upload("n"), str(len(spec.run_file("n")))
    assert "ack short" in sent(place, spec.id, size, "-", words=upload[:-5])
    assert "ack cut" in sent(place, spec.id, size, "-", words=upload[5:])
    assert "ack cut" in sent(place, spec.id, size, "-", words=b"")
    assert client.status(place.link, [spec.id]) == {}
    assert start_job(place.link, spec).state == "started"


def test_a_retry_after_a_reboot_is_refused(place: Place) -> None:
    assert "ack rebooted" in sent(place, new_id(), "5", "0badb007", words=b"12345")


# -- ending ---------------------------------------------------------------------------------------


STUBBORN = {
    "an ordinary one": "sleep 4711",
    "one that ignores TERM": "trap '' TERM; sleep 4711 & wait; sleep 4711",
    "one that forked away": "(setsid sleep 4711 >/dev/null 2>&1 &) ; nohup sleep 4711 & sleep 4711",
    "one in other sessions without its environment": "setsid env -i sleep 4711 & sleep 4711",
    "a stopped one": "sleep 4711 & kill -STOP $!; kill -STOP $$",
}


@pytest.mark.parametrize("command", STUBBORN.values(), ids=STUBBORN)
def test_kill_ends_the_whole_tree(place: Place, command: str) -> None:
    job_id = start(place, command.replace("4711", f"4711.{OURS}"))
    begun(place, job_id)
    wait_until(lambda: pids_with(f"4711.{OURS}") or "STOP" in command)
    time.sleep(0.3)
    job = client.kill(place.link, job_id, by="me@pc", grace=1)
    assert (job.state, job.by) == ("killed", "me@pc")
    assert pids_with(f"4711.{OURS}") == []


def test_a_command_has_its_grace_to_save_its_work(place: Place) -> None:
    job_id = start(place, "trap 'sleep 0.5; echo saved; exit 0' TERM; sleep 300 & wait")
    begun(place, job_id)
    time.sleep(0.2)
    job = client.kill(place.link, job_id, grace=5)
    kept = Kept()
    kept.follow(place, job_id)
    assert (job.state, job.status, kept.out) == ("killed", 0, b"saved\n")


def test_a_run_that_ended_is_not_killed_afterwards(place: Place) -> None:
    job_id = Kept().run(place, "exit 7").job.id
    job = client.kill(place.link, job_id)
    assert (job.state, job.status) == ("finished", 7)


def test_the_node_ends_a_run_that_takes_too_long(place: Place) -> None:
    end = Kept().run(place, f"sleep 4712.{OURS} & sleep 4712.{OURS}", timeout=0.5, grace=1)
    assert (end.job.state, end.job.reason, end.job.status) == ("timed out", "timeout", 143)
    assert pids_with(f"4712.{OURS}") == []
    assert 0.4 < (end.job.seconds or 0) < 5


def test_what_a_command_leaves_behind_is_ended_with_it(place: Place) -> None:
    kept = Kept()
    end = kept.run(place, f"sleep 4713.{OURS} & (setsid sleep 4713.{OURS} &) ; echo hi")
    assert (end.job.state, end.job.status, kept.out) == ("finished", 0, b"hi\n")
    assert pids_with(f"4713.{OURS}") == []


def test_what_a_kept_daemon_writes_later_is_not_output_of_the_run(place: Place) -> None:
    kept, again = Kept(), Kept()
    end = kept.run(place, "(sleep 1.5; echo more) & echo hi", keep=True)
    assert kept.out == b"hi\n"
    wait_until(lambda: (place.job(end.job.id) / "out").stat().st_size > end.job.out_bytes)
    again.follow(place, end.job.id)
    assert len(again.out) == end.job.out_bytes
    assert again.out == kept.out


def test_a_daemon_may_be_kept_and_holds_nobody_up(place: Place) -> None:
    began = time.monotonic()
    kept = Kept()
    end = kept.run(place, f"sleep 4714.{OURS} & echo hi", keep=True)
    left = pids_with(f"4714.{OURS}")
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert (end.job.status, kept.out, len(left)) == (0, b"hi\n", 1)
    assert time.monotonic() - began < 5


# -- honest states --------------------------------------------------------------------------------


def test_a_run_goes_on_without_its_client_and_is_running_until_it_ends(place: Place) -> None:
    job_id = start(place, "sleep 0.7; echo late")
    begun(place, job_id)
    job = client.status(place.link, [job_id])[job_id]
    assert (job.state, job.active, job.status) == ("running", True, None)
    kept = Kept()
    assert kept.follow(place, job_id).job.state == "finished"
    assert kept.out == b"late\n"


def test_a_run_whose_supervisor_is_killed_is_lost_and_leaves_nothing(place: Place) -> None:
    job_id = start(place, f"echo some; sleep 4715.{OURS}", grace=1)
    begun(place, job_id)
    wait_until(lambda: (place.job(job_id) / "out").stat().st_size == 5)
    os.kill(supervisor(place, job_id), signal.SIGKILL)
    kept = Kept()
    job = kept.follow(place, job_id).job
    assert (job.state, job.reason, job.status, job.began) == ("lost", "supervisor", None, True)
    assert kept.out == b"some\n"
    assert pids_with(f"4715.{OURS}") == []
    again = Kept()
    assert again.run(place, "echo next").job.status == 0  # the slot is free again


def test_a_run_whose_node_rebooted_is_lost(place: Place) -> None:
    job_id = Kept().run(place, "true").job.id
    claim = place.job(job_id) / "sup"
    pid, tick, _, *host = claim.readlink().name.split(".")
    for name in ("sup", "exit"):
        (place.job(job_id) / name).unlink()
    claim.symlink_to(".".join([pid, tick, "0badb007", *host]))
    job = client.status(place.link, [job_id])[job_id]
    assert (job.state, job.reason, job.began) == ("lost", "rebooted", True)


def test_a_lost_run_that_never_began_is_known_not_to_have_and_cannot_any_more(place: Place) -> None:
    holder = start(place, "sleep 300")
    job_id = start(place, "echo never", wait=60.0)
    os.kill(supervisor(place, job_id), signal.SIGKILL)
    wait_until(lambda: client.status(place.link, [job_id])[job_id].state == "lost")
    job = client.status(place.link, [job_id])[job_id]
    assert (job.began, job.reason) == (False, "supervisor")
    assert (place.job(job_id) / "child").readlink().name == "void"
    client.kill(place.link, holder, grace=0)
    assert Kept().run(place, "echo next").job.status == 0


def test_a_pid_that_another_process_has_by_now_is_not_the_supervisor(place: Place) -> None:
    job_id = Kept().run(place, "true").job.id
    claim = place.job(job_id) / "sup"
    _, _, boot, *host = claim.readlink().name.split(".")
    for name in ("sup", "exit"):
        (place.job(job_id) / name).unlink()
    claim.symlink_to(".".join([str(os.getpid()), "1", boot, *host]))
    job = client.status(place.link, [job_id])[job_id]
    assert job.state == "lost"


# -- following ------------------------------------------------------------------------------------


def test_output_can_be_followed_from_any_byte(place: Place) -> None:
    job_id = start(place, "printf 0123456789; printf abcdef >&2")
    done(place, job_id)
    kept = Kept()
    end = kept.follow(place, job_id, 4, 6)
    assert (kept.out, kept.err) == (b"456789", b"")
    assert (end.out_offset, end.err_offset) == (10, 6)
    assert client.list_jobs(place.link)
    assert follow.tail_offset(place.link, job_id, "out", 1) == 0


def test_a_tail_begins_at_a_line(place: Place) -> None:
    job_id = start(place, "seq 100")
    done(place, job_id)
    kept = Kept()
    kept.follow(place, job_id, follow.tail_offset(place.link, job_id, "out", 3))
    assert kept.out == b"98\n99\n100\n"


def test_what_there_is_now_can_be_read_without_waiting(place: Place) -> None:
    job_id = start(place, "echo one; sleep 300")
    wait_until(lambda: (place.job(job_id) / "out").stat().st_size == 4)
    kept = Kept()
    end = follow.follow(
        place.link, job_id, on_stdout=kept.out.extend, on_stderr=kept.err.extend, live=False
    )
    assert (end.job.state, kept.out) == ("running", b"one\n")


def test_binary_output_without_a_final_newline_arrives_byte_for_byte(place: Place) -> None:
    kept = Kept()
    data = bytes(range(256)) * 500 + b"\0\xffend"
    (place.home / "data").write_bytes(data)
    kept.run(place, "cat ~/data; cat ~/data >&2")
    assert bytes(kept.out) == data
    assert bytes(kept.err) == data


def test_a_million_short_lines_arrive(place: Place) -> None:
    kept = Kept()
    end = kept.run(place, "seq 1000000; seq 1000 >&2")
    assert end.job.status == 0
    assert bytes(kept.out) == b"".join(b"%d\n" % n for n in range(1, 1_000_001))
    assert bytes(kept.err).endswith(b"999\n1000\n")


def test_a_line_is_seen_soon_after_it_was_written(place: Place) -> None:
    lags = []

    def seen(data: bytes) -> None:
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        lags.extend(now - float(stamp) for stamp in data.split())

    # BusyBox's date knows no nanoseconds; /proc/uptime has hundredths of a second.
    command = "for i in 1 2 3 4 5 6 7 8; do sleep 0.4; read -r up _ </proc/uptime; echo $up; done"
    spec = JobSpec(command=command)
    run(place.link, spec, seen, seen)
    assert sorted(lags)[len(lags) // 2] < 0.15, lags


def test_a_follower_whose_session_dies_goes_on_at_the_very_byte(place: Place) -> None:
    job_id = start(place, "i=0; while [ $i -lt 30 ]; do echo line $i; sleep 0.05; i=$((i+1)); done")
    stop = threading.Event()

    def disturb() -> None:
        while not stop.wait(0.4):
            for pid in set(pids_with("\0follow\0")) & set(pids_with(str(place.home))):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=disturb)
    thread.start()
    kept = Kept()
    try:
        end = kept.follow(place, job_id)
    finally:
        stop.set()
        thread.join()
    assert end.job.status == 0
    assert kept.out == b"".join(b"line %d\n" % n for n in range(30))


def test_a_wish_to_leave_ends_the_following_but_not_the_run(place: Place) -> None:
    cancel = Cancel()
    cancel.leave("SIGTERM")
    spec = JobSpec(command="sleep 0.8; echo on >&2")

    def attend() -> None:
        with Attachment(place.link, spec.id, cancel) as attached:
            attached.start(spec)
            attached.follow(len, len)

    with pytest.raises(DetachRequested):
        attend()
    start_job(place.link, spec)
    assert done(place, spec.id).status == 0


def test_who_asks_for_an_end_and_leaves_at_once_has_the_run_ended(place: Place) -> None:
    spec, cancel = JobSpec(command="sleep 60"), Cancel()
    with Attachment(place.link, spec.id, cancel) as attached:
        attached.start(spec)
        cancel.request("SIGINT")
        cancel.leave("SIGTERM")
        with pytest.raises(DetachRequested):
            attached.follow(len, len)
        assert attached.ending
    assert done(place, spec.id).state == "killed"


def test_a_session_that_goes_with_the_reader_of_its_output_leaves_the_run(place: Place) -> None:
    """The reader's end alone would end the run; the hang-up just after says that all went."""
    spec, cancel = JobSpec(command="sleep 1; echo on"), Cancel()
    with Attachment(place.link, spec.id, cancel) as attached:
        attached.start(spec)
        cancel.request(OUTPUT_CLOSED)
        cancel.leave("SIGHUP")
        with pytest.raises(DetachRequested):
            attached.follow(len, len)
        assert not attached.ending
    assert done(place, spec.id).state == "finished"


# -- limits ---------------------------------------------------------------------------------------


def test_output_beyond_the_cap_is_cut_and_the_command_goes_on(place: Place) -> None:
    kept = Kept()
    end = kept.run(place, "seq 100000; echo fine >&2; exit 5", log_cap=4096)
    assert (end.job.status, end.job.cut, end.job.out_bytes) == (5, "cap", 4096)
    assert (len(kept.out), kept.err) == (4096, b"fine\n")


# -- slots ----------------------------------------------------------------------------------------


def test_a_full_node_refuses_and_says_who_holds_its_slots(place: Place) -> None:
    holder = start(place, "sleep 300")
    with pytest.raises(NotStarted) as caught:
        start(place, "echo never")
    assert (caught.value.reason, caught.value.holders) == ("busy", (holder,))
    assert [job.id for job in client.list_jobs(place.link) if job.active] == [holder]
    client.kill(place.link, holder, grace=0)
    assert Kept().run(place, "true").job.status == 0


def test_those_who_wait_come_first_come_first(place: Place) -> None:
    order = place.home / "order"
    holder = start(place, "sleep 300")
    ids = [start(place, f"echo {n} >>{order}", wait=60.0) for n in range(4)]
    states = client.status(place.link, ids)
    assert {job.state for job in states.values()} == {"queued"}
    with pytest.raises(NotStarted):
        start(place, "echo pushy", slots=9)  # a slot for it, but others were first
    client.kill(place.link, ids[1])
    client.kill(place.link, holder, grace=0)
    for job_id in ids:
        done(place, job_id)
    assert order.read_text().split() == ["0", "2", "3"]
    assert client.status(place.link, [ids[1]])[ids[1]].state == "killed"
    order.unlink()


def test_who_waits_in_vain_is_refused_and_never_began(place: Place) -> None:
    start(place, "sleep 300")
    job = done(place, start(place, "echo never", wait=0.4))
    assert (job.state, job.reason, job.began) == ("refused", "busy", False)


def test_fifty_runs_for_four_slots_never_are_more_than_four_at_once(place: Place) -> None:
    room = place.home / "room"
    room.mkdir()
    command = f"touch {room}/$$; ls {room} | wc -l >>{room}.counts; sleep 0.1; rm {room}/$$"
    specs = [JobSpec(command=command, slots=4, wait=100.0) for _ in range(50)]
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda spec: start_job(place.link, spec), specs))
    for spec in specs:
        assert done(place, spec.id).status == 0
    counts = [int(word) for word in Path(f"{room}.counts").read_text().split()]
    Path(f"{room}.counts").unlink()
    room.rmdir()
    assert len(counts) == 50
    assert max(counts) <= 4
    leases = list((place.home / ".gridops" / "locks").glob("*/leases/*"))
    assert leases == []


def test_a_held_run_begins_when_it_is_told_to_and_only_then(place: Place) -> None:
    holder = start(place, "sleep 300")
    spec = JobSpec(command="echo begun", wait=60.0, hold=30.0)
    assert start_job(place.link, spec).state == "queued"
    assert not client.confirm(place.link, spec.id)  # it has no slot yet
    client.kill(place.link, holder, grace=0)
    wait_until(lambda: client.status(place.link, [spec.id])[spec.id].state == "held")
    time.sleep(0.2)
    assert client.status(place.link, [spec.id])[spec.id].began is False
    assert client.confirm(place.link, spec.id)
    assert client.confirm(place.link, spec.id)
    assert done(place, spec.id).status == 0


def test_a_held_run_that_nobody_wants_any_more_lets_its_slot_go(place: Place) -> None:
    spec = JobSpec(command="echo never", hold=0.3)
    assert start_job(place.link, spec).state == "held"
    job = done(place, spec.id)
    assert (job.state, job.reason, job.began) == ("refused", "unconfirmed", False)
    assert not client.confirm(place.link, spec.id)
    assert Kept().run(place, "true").job.status == 0


def test_a_supervisor_that_is_told_to_end_sees_its_run_through(place: Place) -> None:
    job_id = start(place, "sleep 0.5; exit 3")
    begun(place, job_id)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        os.kill(supervisor(place, job_id), number)
    assert done(place, job_id).status == 3


# -- trees ----------------------------------------------------------------------------------------


def test_an_isolated_run_does_not_see_later_changes_of_its_tree(place: Place) -> None:
    tree = place.home / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "code").write_text("old")
    job_id = start(
        place, "sleep 0.6; cat sub/code", directory=str(tree), tree=str(tree), isolate=True
    )
    assert client.directory_users(place.link, str(tree.resolve())) == ()
    new = tree / "sub" / "new"  # as rsync does it
    new.write_text("new")
    new.rename(tree / "sub" / "code")
    kept = Kept()
    job = kept.follow(place, job_id).job
    assert (kept.out, job.status, job.isolated) == (b"old", 0, True)
    client.prune(place.link, 0)
    assert not (place.job(job_id) / "tree").exists()
    assert (tree / "sub" / "code").read_text() == "new"


def test_runs_that_use_a_directory_are_known_while_they_live(place: Place) -> None:
    directory = place.home / "gridops" / "a b"
    directory.mkdir(parents=True)
    (place.home / "alias").symlink_to(directory)
    ids = [start(place, "sleep 300", directory=d, slots=3) for d in ("~/gridops/a b", "~/alias")]
    held = JobSpec(command="true", directory=str(directory), slots=3, hold=30.0)
    assert set(start_job(place.link, held).users) == set(ids)
    assert set(client.tree_users(place.link, held.id)) == set(ids)
    real = str(directory.resolve())
    assert set(client.directory_users(place.link, real)) == {*ids, held.id}
    assert client.directory_users(place.link, f"{real}/x") == ()
    client.kill(place.link, ids[0], grace=0)
    client.kill(place.link, held.id, grace=0)
    assert client.directory_users(place.link, real) == (ids[1],)
    os.kill(supervisor(place, ids[1]), signal.SIGKILL)
    wait_until(lambda: client.directory_users(place.link, real) == ())


# -- forgetting -----------------------------------------------------------------------------------


def test_prune_spares_what_runs_and_what_is_young(place: Place) -> None:
    running = start(place, "sleep 300", slots=2)
    ended = start(place, "echo x", slots=2)
    done(place, ended)
    assert client.prune(place.link, 3600) == ()
    assert client.prune(place.link, 0) == (ended,)
    assert [job.id for job in client.list_jobs(place.link)] == [running]
    assert not (place.job(ended) / "out").exists()
    assert (place.job(ended) / "exit").is_symlink()


def settled(place: Place, job_id: str) -> None:
    """Wait until the run has ended, and its supervisor has nothing more to do."""
    done(place, job_id)
    pid = supervisor(place, job_id)
    wait_until(lambda: pid not in pids_with("supervise"))


def aged(place: Place, job_id: str, days: float) -> None:
    """Have the run ended so long ago."""
    at = time.time() - days * 86400 - 60
    for record in place.job(job_id).iterdir():
        if record.is_symlink():
            os.utime(record, (at, at), follow_symlinks=False)


def tidied(place: Place) -> Path:
    """The file that says when that happened; it is written soon after the end of a run."""
    found: list[Path] = []
    locks = place.home / ".gridops" / "locks"
    wait_until(lambda: found.extend(locks.glob("*/tidied")) or (found and found[0].read_text()))
    return found[0]


def test_a_run_that_ends_takes_those_along_whose_time_has_come(place: Place) -> None:
    ids = {}
    for name, kept_for, ended in (
        ("young", 2, 1), ("old", 2, 3), ("ancient", 2, 31), ("for ever", None, 400), ("90", 90, 89),
    ):  # fmt: skip
        forget = None if kept_for is None else kept_for * 86400.0
        ids[name] = start(place, f"echo {name}", forget=forget, slots=9)
        settled(place, ids[name])
        aged(place, ids[name], ended)
    running = start(place, "sleep 300", forget=3600.0, slots=9)
    begun(place, running)
    aged(place, running, 500)
    tidied(place).unlink()
    trigger = Kept().run(place, "true", slots=9).job.id
    wait_until(lambda: not place.job(ids["ancient"]).exists())
    wait_until(lambda: not (place.job(ids["old"]) / "spec").exists())
    left = [job.id for job in client.list_jobs(place.link)]
    assert left == [ids["young"], ids["for ever"], ids["90"], running, trigger]
    old = client.status(place.link, [ids["old"]])[ids["old"]]
    assert (old.state, old.status, old.command) == ("finished", 0, "")
    assert not (place.job(ids["old"]) / "out").exists()


def test_that_happens_at_most_once_a_day_and_boot(place: Place) -> None:
    old = start(place, "true", forget=3600.0)
    settled(place, old)
    aged(place, old, 2)
    at, boot = tidied(place).read_text().split()

    def after_a_run() -> bool:
        """Whether the old run is still there once another has ended, and its supervisor."""
        settled(place, start(place, "true"))
        return (place.job(old) / "spec").exists()

    assert after_a_run()
    assert tidied(place).read_text() == f"{at} {boot}\n"
    tidied(place).write_text(f"{int(at) - 8_600_000} {boot}\n")
    assert after_a_run()
    tidied(place).write_text(f"{int(at) - 8_640_000} {boot}\n")
    assert not after_a_run()
    assert int(tidied(place).read_text().split()[0]) >= int(at)
    tidied(place).write_text(f"{at} 0badb007\n")
    after_a_run()
    assert tidied(place).read_text().split()[1] == boot
