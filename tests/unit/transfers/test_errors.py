"""Every way in which rsync fails has its own clear line. The texts are rsync's own, 3.0 to 3.5."""

from __future__ import annotations

import pickle

import pytest

from gridops.errors import (
    AuthenticationFailed,
    ConnectRefused,
    DiskFull,
    GridError,
    HostKeyUnknown,
    NoRsync,
    NotWritable,
    PartialTransfer,
    ReachError,
    SyncError,
    TransferLost,
)
from gridops.transfers.errors import RsyncErrors, TransferTarget, error_of

PLACE = TransferTarget("gpu1", "gpu1.example.org", "/home/me/p", "/srv/p")
LOST = "rsync error: error in rsync protocol data stream (code 12) at io.c(285) [sender=3.5.0]"
UNHEARD = f"rsync: connection unexpectedly closed (0 bytes received so far) [sender]\n{LOST}"


def error(status: int, said: str) -> GridError:
    complaints = RsyncErrors()
    for at in range(0, len(said), 7):  # chunks end anywhere
        complaints(said.encode()[at : at + 7])
    complaints(b"\n")
    return error_of(status, complaints, PLACE)


@pytest.mark.parametrize(
    ("status", "said", "cause", "text"),
    [
        (
            11,
            'rsync: [receiver] write failed on "/srv/p/big": No space left on device (28)\n'
            "rsync error: error in file IO (code 11) at receiver.c(657) [receiver=3.5.0]\n"
            "rsync: [sender] write error: Broken pipe (32)\n",
            DiskFull,
            "gpu1: no space left on the disk: /srv/p (free some space there)",
        ),
        (
            23,
            'rsync: mkstemp "/srv/p/.a.QmX1y2" failed: Disk quota exceeded (122)\n',
            DiskFull,
            "gpu1: the quota is used up: /srv/p (free some space there)",
        ),
        (
            11,
            'rsync: write failed on "/srv/p/big": Auf dem Gerät ist kein Platz mehr (28)\n',
            DiskFull,
            "gpu1: no space left on the disk: /srv/p (free some space there)",
        ),
        (
            23,
            'rsync: [generator] recv_generator: mkdir "/srv/p/d" failed: Read-only file system (30)'
            "\n*** Skipping any contents from this failed directory ***\n",
            NotWritable,
            "gpu1: the file system is read-only: /srv/p",
        ),
        (
            11,
            'rsync: [Receiver] mkdir "/srv/p" failed: Permission denied (13)\n'
            "rsync error: error in file IO (code 11) at main.c(808) [Receiver=3.5.0]\n",
            NotWritable,
            "gpu1: permission denied: /srv/p",
        ),
        (
            2,
            "protocol version mismatch -- is your shell clean?\n"
            "(see the rsync manpage for an explanation)\n"
            "rsync error: protocol incompatibility (code 2) at compat.c(625) [sender=3.5.0]\n",
            SyncError,
            "gpu1: its login shell prints text, which breaks rsync (`ssh gpu1.example.org true`"
            " must print nothing: see ~/.bashrc, ~/.cshrc and the like there)",
        ),
        (
            127,
            "bash: line 1: rsync: command not found\n"
            "rsync: connection unexpectedly closed (0 bytes received so far) [sender]\n"
            "rsync error: remote command not found (code 127) at io.c(285) [sender=3.5.0]\n",
            NoRsync,
            "gpu1: there is no rsync on it (install rsync there)",
        ),
        (
            12,
            f"fish: Unknown command. '/opt/rsync' exists but is not an executable file.\n{LOST}\n",
            TransferLost,
            "gpu1: the transfer broke off: fish: Unknown command. '/opt/rsync' exists but is not an"
            " executable file.",
        ),
        (
            12,
            f"sh: 1: rsync: not found\n{UNHEARD}\n",
            NoRsync,
            "gpu1: there is no rsync on it (install rsync there)",
        ),
        (
            12,
            f"ssh: connect to host 10.0.0.1 port 22: Connection refused\n{UNHEARD}\n",
            ConnectRefused,
            "gpu1: connect to host 10.0.0.1 port 22: Connection refused"
            " (is it up, and sshd running on that port?)",
        ),
        (
            255,
            "No ED25519 host key is known for gpu1 and you have requested strict checking.\n"
            f"Host key verification failed.\n{UNHEARD}\n",
            HostKeyUnknown,
            "gpu1: its host key is not known yet (`inv trust --nodes gpu1` shows and adds it)",
        ),
        (
            255,
            f"me@gpu1: Permission denied (publickey).\n{UNHEARD}\n",
            AuthenticationFailed,
            "gpu1: the login was refused: me@gpu1: Permission denied (publickey)"
            " (`ssh gpu1.example.org` must work without a password: check the user, ssh-add,"
            " ssh-copy-id)",
        ),
        (
            14,
            "rsync: [sender] Failed to exec ssh: No such file or directory (2)\n"
            "rsync error: error in IPC code (code 14) at pipe.c(85) [sender=3.5.0]\n",
            ReachError,
            "gpu1: there is no `ssh` on this machine (install openssh-client)",
        ),
        (12, UNHEARD, TransferLost, "gpu1: the transfer broke off: rsync's status 12"),
        (
            12,
            "rsync: connection unexpectedly closed (4096 bytes received so far) [sender]\n"
            f"client_loop: send disconnect: Broken pipe\n{LOST}\n",
            TransferLost,
            "gpu1: the transfer broke off: client_loop: send disconnect: Broken pipe",
        ),
        (
            30,
            "[sender] io timeout after 300 seconds -- exiting\n"
            "rsync error: timeout in data send/receive (code 30) at io.c(204) [sender=3.5.0]\n",
            TransferLost,
            "gpu1: the transfer broke off: [sender] io timeout after 300 seconds -- exiting",
        ),
        (
            12,
            'rsync: change_dir#3 "/srv" failed: No such file or directory (2)\n'
            "rsync error: errors selecting input/output files, dirs (code 3) at main.c(625)"
            f" [Receiver=3.0.9]\nrsync: connection unexpectedly closed (9 bytes received so far)"
            f" [sender]\n{LOST}\n",
            SyncError,
            'gpu1: rsync failed with status 3: change_dir#3 "/srv" failed: No such file or'
            " directory (2)",
        ),
        (137, "", SyncError, "gpu1: rsync here was ended by signal 9"),
        (99, "", SyncError, "gpu1: rsync failed with status 99: rsync's status 99"),
    ],
)
def test_a_failure_is_one_line_that_names_node_and_cause(status, said, cause, text):
    found = error(status, said)
    assert type(found) is cause
    assert str(found) == text


@pytest.mark.parametrize("status", [10, 12, 30, 35, 255])
def test_a_broken_transport_may_be_tried_again(status):
    assert error(status, "").transient


@pytest.mark.parametrize("status", [1, 2, 3, 11, 22, 23, 24, 127, 137])
def test_nothing_else_is_tried_again(status):
    assert not error(status, "").transient


def test_what_could_not_be_transferred_is_named_with_the_reason():
    found = error(
        23,
        'rsync: [sender] link_stat "/home/me/p/sub/x" failed: Permission denied (13)\n'
        'rsync: [sender] send_files failed to open "/home/me/p/un "read able": Permission denied'
        " (13)\n"
        'rsync: [receiver] rename "/srv/p/.gridops/t/a.kHAtgd" -> "ro/a": Permission denied (13)\n'
        'rsync: mkstemp "/srv/p/.small.cPaox9" failed: Permission denied (13)\n'
        "could not make way for new regular file: out\ncannot delete non-empty directory: out\n"
        "rsync error: some files/attrs were not transferred (see previous errors) (code 23) at"
        " main.c(1394) [sender=3.5.0]\n",
    )
    assert isinstance(found, PartialTransfer)
    assert found.files == ("sub/x", 'un "read able', "ro/a", "small", "out")
    assert str(found) == (
        "gpu1: 5 files were not transferred: sub/x (Permission denied), "
        'un "read able (Permission denied), ro/a (Permission denied), and 2 more'
    )
    assert not found.vanished
    assert pickle.loads(pickle.dumps(found)).files == found.files


def test_vanished_files_are_told_apart():
    found = error(
        24,
        'file has vanished: "/home/me/p/tmp\\#012x"\n'
        "rsync warning: some files vanished before they could be transferred (code 24) at main.c\n",
    )
    assert isinstance(found, PartialTransfer)
    assert found.vanished
    assert found.files == ("tmp\\nx",)


def test_a_flood_of_complaints_stays_small_and_is_counted():
    complaints = RsyncErrors()
    for number in range(5000):
        complaints(f'rsync: send_files failed to open "/home/me/p/{number}": No (13)\n'.encode())
    found = error_of(23, complaints, PLACE)
    assert isinstance(found, PartialTransfer)
    assert len(found.files) == 1000
    assert "5000 files" in str(found)
    assert "and 4997 more" in str(found)
    assert len(complaints.lines) <= 100


def test_a_node_cannot_steer_the_terminal():
    assert "\x1b" not in str(error(23, "\x1b[31mred\x1b]0;title\x07\n"))
