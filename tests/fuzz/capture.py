"""Answers of real nodes, as seeds of the mutated ones: `python tests/fuzz/capture.py`.

Runs each question against this machine as a node, once with dash as its `sh` and once with nothing
but BusyBox, and writes what came to tests/data/answers/SHELL/QUESTION.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.jobs import Kept, Place, begun, shell_path, start

from gridops.inventory.settings import Settings
from gridops.jobs import client, follow
from gridops.jobs.frames import FrameParser
from gridops.model import Node, Reply
from gridops.probe.checker import probe_script
from gridops.ray import remote as talk
from gridops.reach import ports
from gridops.reach.link import Link
from gridops.reach.local import LocalLink
from gridops.reach.pump import Sink
from gridops.transfers.errors import RsyncErrors
from gridops.transfers.fetch import narrow, remote
from gridops.transfers.fetch.patterns import Group, parse
from gridops.transfers.output import Output
from gridops.transfers.sync import list_tree, sync_tree

DATA = Path(__file__).parents[1] / "data" / "answers"


class Tape:
    """Keeps the bytes that a class of sinks is given, and the replies to scripts."""

    def __init__(self) -> None:
        self.data = bytearray()

    @contextmanager
    def over(self, sink: type, method: str = "__call__") -> Iterator[None]:
        real = getattr(sink, method)

        def heard(one: object, data: bytes) -> object:
            self.data += data
            return real(one, data)

        with patch.object(sink, method, heard):
            yield

    @contextmanager
    def over_scripts(self) -> Iterator[list[Reply]]:
        real, replies = LocalLink.script, []

        def asked(link: LocalLink, *words: str, **options: object) -> Reply:
            replies.append(real(link, *words, **options))  # type: ignore[arg-type]
            return replies[-1]

        with patch.object(LocalLink, "script", asked):
            yield replies


def frames(question: Callable[[], object]) -> bytes:
    tape = Tape()
    with tape.over(FrameParser, "feed"):
        question()
    return bytes(tape.data)


def scripts(question: Callable[[], object]) -> list[bytes]:
    with Tape().over_scripts() as replies:
        question()
    return [reply.stdout for reply in replies]


def capture(shell: str) -> Iterator[tuple[str, bytes]]:
    with tempfile.TemporaryDirectory(prefix="gridops-capture-") as base:
        home = Path(base)
        node = Node("here", "localhost", connection="local", remote_root=str(home / "root"))
        place = Place(LocalLink(node), home)
        environment = {"HOME": base, "PATH": shell_path(shell, home)}
        if shell == "busybox":
            (home / "shell" / "rsync").symlink_to(shutil.which("rsync") or "rsync")
        with patch.dict(os.environ, environment):
            for name, answer in _all(place, home):
                yield name, _nobodys(answer, home)


def _nobodys(answer: bytes, home: Path) -> bytes:
    """Without what says on which machine it was."""
    host = socket.gethostname().encode()
    return answer.replace(bytes(home), b"/home/ada").replace(host, b"gpu01")


def _all(place: Place, home: Path) -> Iterator[tuple[str, bytes]]:
    yield from _runs(place)
    yield from _files(place, home)
    link = place.link
    reply = link.script(probe_script(), link.node.remote_root, "0.1", "2", "", timeout=20)
    yield "probe", reply.stdout
    yield "ports", scripts(lambda: ports.query_ports(link, [1, 2]))[0]
    told = Tape()
    with told.over(talk._Words):
        talk.ask(link, "node", "key", "here", "look", "~/r", "v", "/tmp", timeout=20)
    yield "ray-look", bytes(told.data)


def _runs(place: Place) -> Iterator[tuple[str, bytes]]:
    first = Kept().run(place, "echo out; echo err >&2; exit 3").job.id
    waiting = start(place, "sleep 300", env={"LR": "0.1"})
    queued = start(place, "true", wait=300)
    begun(place, waiting)
    yield "list", frames(lambda: client.list_jobs(place.link))
    yield "status", frames(lambda: client.status(place.link, [first, waiting, queued, "none"]))
    yield "follow", frames(lambda: Kept().follow(place, first))
    yield "times", _times(place, first)
    yield "tail", frames(lambda: follow.tail_offset(place.link, first, "out", 1))
    yield "show", frames(lambda: client.show(place.link, first))
    yield "kill", frames(lambda: client.kill(place.link, waiting, grace=0))
    client.kill(place.link, queued, grace=0)
    yield "run", frames(lambda: Kept().run(place, "echo hi; sleep 0.1; echo ho"))
    yield "start", frames(lambda: start(place, "true"))
    time.sleep(1.2)
    yield "prune", frames(lambda: client.prune(place.link, 0))


def _times(place: Place, run: str) -> bytes:
    """When the run's files were changed, behind the mark `mark`, as if it were the run `run`."""
    (place.home / "results").mkdir()
    (place.home / "results" / "a b").write_text("x")
    real, marks, said = narrow.ask_script, [], bytearray()

    def asked(link: Link, text: str, args: tuple[str, ...], limit: int, on_stdout: Sink) -> Reply:
        def both(data: bytes) -> None:
            said.extend(data)
            on_stdout(data)

        marks.append(args[2])
        return real(link, text, args, limit, both)

    with patch.object(narrow, "ask_script", asked):
        narrow.narrow(place.link, run, [Group(str(place.home), ["results"])])
    return bytes(said).replace(marks[0].encode(), b"mark").replace(run.encode(), b"run")


def _files(place: Place, home: Path) -> Iterator[tuple[str, bytes]]:
    tree = home / "tree"
    (tree / "deep").mkdir(parents=True)
    for name in ("a", "deep/b c", "deep/ü", "gone"):
        (tree / name).write_text(name)
    link, settings = place.link, Settings()

    def sync() -> None:
        sync_tree(link, list_tree(tree, settings.sync), settings)

    output, said = Tape(), Tape()
    with output.over(Output), said.over(RsyncErrors):
        for number, answer in enumerate(scripts(sync)):
            yield f"sync-{number}", answer
        (tree / "gone").unlink()
        (tree / "a").write_text("longer")
        for number, answer in enumerate(scripts(sync)):
            yield f"sync-again-{number}", answer
    yield "rsync-output", bytes(output.data)
    real, replies = remote.ask_script, []

    def asked(*words: object, **options: object) -> Reply:
        replies.append(real(*words, **options))  # type: ignore[arg-type]
        return replies[-1]

    with patch.object(remote, "ask_script", asked):
        remote.find(link, str(tree), [parse("deep"), parse("**"), parse("none")])
    yield "find", replies[0].stdout


def main() -> None:
    for shell in ("dash", "busybox"):
        (DATA / shell).mkdir(parents=True, exist_ok=True)
        for name, answer in capture(shell):
            (DATA / shell / name).write_bytes(answer)


if __name__ == "__main__":
    main()
