"""The client side of the control socket, against a master that says what the test wants."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gridops.errors import ConnectionLost, NodeTimeout, ReachError, SessionRefused
from gridops.reach import control as mux
from gridops.reach.control import Control

HELLO = struct.pack(">II", mux.HELLO, mux.MUX_VERSION)
Answer = Callable[[bytes], list[bytes]]


def text(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def message(kind: int, *words: int, rest: bytes = b"") -> bytes:
    return struct.pack(f">I{len(words)}I", kind, *words) + rest


class Master:
    """It takes one client: says hello, then for each request what `answer` gives."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.requests: list[bytes] = []
        self.fds: list[int] = []
        self.answer: Answer = lambda request: []
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(self.path)
        self.server.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        client, _ = self.server.accept()
        with client:
            client.sendall(text(HELLO))
            while header := client.recv(4, socket.MSG_WAITALL):
                request = client.recv(struct.unpack(">I", header)[0], socket.MSG_WAITALL)
                if request == HELLO:
                    continue
                self.requests.append(request)
                if request.startswith(struct.pack(">I", mux.NEW_SESSION)):
                    for _ in range(3):
                        _, fds, _, _ = socket.recv_fds(client, 1, 1)
                        self.fds += fds
                for piece in self.answer(request):
                    client.sendall(piece)
                    time.sleep(0.01)
                if not self.answer(request):
                    return


@pytest.fixture
def master(session_dir: Path, tmp_path: Path) -> Iterator[Master]:
    path = session_dir / f"m{abs(hash(tmp_path)) % 10**8}"
    made = Master(path)
    yield made
    made.server.close()
    for fd in made.fds:
        os.close(fd)
    path.unlink()


def test_alive_gives_the_masters_pid(master: Master) -> None:
    master.answer = lambda _: [text(message(mux.ALIVE, 1, 4711))]
    control = Control(master.path)
    assert control.alive() == 4711
    assert control.alive() == 4711  # one greeting serves many requests
    control.close()


def test_answers_may_come_in_pieces(master: Master) -> None:
    whole = text(message(mux.ALIVE, 1, 4711))
    master.answer = lambda _: [whole[:3], whole[3:9], whole[9:]]
    control = Control(master.path)
    assert control.alive() == 4711
    control.close()


def test_a_session_gets_its_command_and_three_descriptors(master: Master) -> None:
    exited = message(mux.EXIT_MESSAGE, 7, 3)
    opened = message(mux.SESSION_OPENED, 1, 7)
    master.answer = lambda _: [text(opened) + text(exited)]
    control = Control(master.path)
    command = "printf 'ü\udcff'"
    ours, theirs = os.pipe()
    control.new_session(command, (0, theirs, theirs), 5)
    assert control.exit_status(5) == 3
    control.close()
    assert master.requests[0].endswith(text(os.fsencode(command)))
    assert len(master.fds) == 3
    os.write(master.fds[1], b"through")
    assert os.read(ours, 10) == b"through"
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (message(mux.FAILURE, 1, rest=text(b"refused by peer")), SessionRefused, "refused by peer"),
        (message(mux.PERMISSION_DENIED, 1, rest=text(b"no")), ConnectionLost, "no"),
        (message(mux.FAILURE), SessionRefused, "no reason given"),
    ],
)
def test_a_session_that_is_refused_says_why(
    master: Master, answer: bytes, error: type[ReachError], words: str
) -> None:
    master.answer = lambda _: [text(answer)]
    control = Control(master.path)
    with pytest.raises(error, match=words):
        control.new_session("true", (0, 1, 2), 5)
    control.close()


def test_no_answer_is_a_timeout_and_a_hang_up_a_lost_connection(master: Master) -> None:
    control = Control(master.path)
    with pytest.raises(NodeTimeout, match=r"0\.1 s"):
        control.reply(0.1)  # we have not asked for anything
    with pytest.raises(ConnectionLost):
        control.alive(5)  # it hangs up without an answer
    control.close()


def test_another_version_is_refused(session_dir: Path) -> None:
    path = session_dir / "old"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        control = Control(str(path))
        client, _ = server.accept()
        client.sendall(text(struct.pack(">II", mux.HELLO, 3)))
        with pytest.raises(ConnectionLost, match="version 3"):
            control.alive(5)
        client.close()
        control.close()
    path.unlink()


def test_proxy_mode_hands_the_bare_socket_over(master: Master) -> None:
    master.answer = lambda _: [text(message(mux.PROXY_OPENED, 1))]
    control = Control(master.path)
    assert control.proxy() is control.socket
    control.close()


def test_a_master_without_proxy_mode_is_named_as_too_old(master: Master) -> None:
    master.answer = lambda _: [text(message(mux.FAILURE, 1, rest=text(b"unsupported")))]
    control = Control(master.path)
    with pytest.raises(ReachError, match=r"7\.4 or later"):
        control.proxy()
    control.close()


def test_a_node_chooses_the_port_when_it_is_asked_to(master: Master) -> None:
    master.answer = lambda _: [text(message(mux.REMOTE_PORT, 1, 40001))]
    control = Control(master.path)
    assert control.forward_remote(("127.0.0.1", 0), ("localhost", 80), 5) == 40001
    control.close()


def test_where_nobody_listens_there_is_an_os_error(session_dir: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Control(str(session_dir / "nothing"))


def test_a_master_whose_queue_is_full_is_given_time_and_then_given_up(
    session_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mux, "LOCAL_TIMEOUT", 0.3)
    path = session_dir / "full"
    waiting: list[Control] = []
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(0)
        with pytest.raises(TimeoutError):
            waiting.extend(Control(str(path)) for _ in range(1000))
        for one in waiting:
            one.close()
    path.unlink()


def test_it_knows_when_another_master_has_taken_the_path(session_dir: Path) -> None:
    path = session_dir / "moving"
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        first.bind(str(path))
        first.listen()
        control = Control(str(path))
        renamed = path.rename(session_dir / "moved")
        control.path = str(renamed)
        assert control.is_current()
        control.path = str(path)
        assert not control.is_current()
        time.sleep(0.02)
        second.bind(str(path))
        assert not control.is_current()
        control.close()
    path.unlink()
    renamed.unlink()
