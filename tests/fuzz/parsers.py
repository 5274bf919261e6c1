"""Every reader of what a node sends, as a function of bytes, with real answers as seeds.

Each goes as far as a user would see it: rows, JSON, messages.
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gridops.errors import ConnectionLost, UnreadableAnswer
from gridops.inventory.settings import HealthSettings
from gridops.jobs import client, follow, protocol
from gridops.jobs.frames import Chunk, FrameParser, Message
from gridops.jobs.lookup import merge_jobs
from gridops.jobs.outcome import describe_outcome, exit_status
from gridops.jobs.records import Records
from gridops.jobs.spec import Acknowledgement, JobSpec
from gridops.jobs.start import Start
from gridops.model import Job, Node, NodeHealth, Outcome, Reply
from gridops.probe.figures import figures
from gridops.probe.parse import parse
from gridops.probe.thresholds import judge
from gridops.ray import dashboard, preflight, state
from gridops.ray import remote as talk
from gridops.ray.jobsapi import JobsApi
from gridops.ray.outcome import describe_outcome as ray_verdict
from gridops.ray.pip_output import Pip
from gridops.ray.rest import Api, Channel
from gridops.reach import control, ports
from gridops.reach.answers import Fields, Limit, document
from gridops.reach.diagnosis import diagnose
from gridops.reach.pump import Collected, Prelude, Sink
from gridops.render import cluster, documents, jobs, tables
from gridops.transfers.errors import RsyncErrors, TransferTarget, error_of
from gridops.transfers.fetch import narrow, remote
from gridops.transfers.fetch.patterns import Group
from gridops.transfers.fetch.patterns import parse as pattern
from gridops.transfers.fetch.times import Times
from gridops.transfers.fetch.written import Chooser
from gridops.transfers.names import is_below
from gridops.transfers.output import Output
from gridops.transfers.sync.remote import RemoteTree
from gridops.transfers.sync.tree import RemoteState

DATA = Path(__file__).parents[1] / "data" / "answers"
NODE = Node("n1", "n1")
MARK = "gridops-mark"
STAMP = "2026-11-30 17:09:00.457896180 +0000"
ID = re.compile(rb"file \d+ \d+ '?([0-9a-f-]{24})/exit")

Read = Callable[[bytes], object]


@dataclass(frozen=True)
class Parser:
    read: Read
    seeds: tuple[bytes, ...]
    endless: tuple[bytes, ...] = ()  # what a node may repeat for ever
    chunks: Callable[[], Callable[[bytes], object]] | None = None  # a sink of the same, for streams


class FakeLink:
    """A link to a node that answers with these bytes."""

    node = NODE

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def script(self, text: str, *args: str, timeout: float, stdin: bytes = b"") -> Reply:
        kept = Collected()
        kept(self._answer)
        return Reply(0, bytes(kept.data), self._answer[:1000])


def seeds(*names: str) -> tuple[bytes, ...]:
    return tuple(
        (DATA / shell / name).read_bytes() for shell in ("dash", "busybox") for name in names
    )


FOLLOWED = ID.findall((DATA / "dash" / "follow").read_bytes())[0].decode()  # the run of that answer


# -- jobs ------------------------------------------------------------------------------------------


def show(found: dict[str, Job]) -> None:
    for job in merge_jobs([Outcome(NODE, tuple(found.values()))]):
        tables.align(jobs.JOBS_HEADER, [jobs.row(job, 1e9)])
        documents.to_json(jobs.job_document(job, 1e9)).encode("utf-8", "backslashreplace")
        describe_outcome(job), exit_status(job)
        os.fsencode(job.cwd)
        if job.state != "unreadable":
            jobs.lines(job, 1e9)


def framed(take: Callable[[Message], object], limit: Limit) -> Sink:
    """A sink whose bytes are parsed, and taken message by message."""
    parser = FrameParser(limit)

    def sink(data: bytes) -> None:
        for message in parser.feed(data):
            take(message)

    return sink


def lines_to(hear: Callable[[str], object]) -> Callable[[Message], None]:
    def take(message: Message) -> None:
        if isinstance(message, Chunk):
            raise UnreadableAnswer("the node sent output that was not asked for")
        hear(message)

    return take


def list_sink() -> tuple[Sink, Records]:
    records = Records("n1")
    return framed(lines_to(records.hear), client.LISTING_LIMIT), records


def read_list(data: bytes) -> None:
    sink, records = list_sink()
    sink(data)
    client.complete([records.last], FakeLink(b""))
    show(records.jobs())


def follower() -> follow.Follower:
    sink: Callable[[bytes], None] = lambda data: None  # noqa: E731
    return follow.Follower(FakeLink(b""), FOLLOWED, sink, sink)


def follow_sink() -> Sink:
    return framed(follower().take, protocol.FOLLOW_LIMIT)


def read_follow(data: bytes) -> None:
    one = follower()
    framed(one.take, protocol.FOLLOW_LIMIT)(data)
    show({"": one.result(live=False).job})


def read_start(data: bytes) -> None:
    starting = Start(FakeLink(b""), JobSpec("true", id="20261130-164003-7128cbdd"))
    lines: list[str] = []

    def hear(line: str) -> None:
        lines.append(line)
        starting.hear(line)

    framed(lines_to(hear), protocol.FOLLOW_LIMIT)(data)
    if not isinstance(starting.reply, Acknowledgement):
        raise starting._refusal(starting._ack)


def ask_with(data: bytes) -> Callable[..., list[str]]:
    def ask(link: object, verb: str, *args: str, **options: object) -> list[str]:
        lines: list[str] = []
        framed(lines_to(lines.append), protocol.ANSWER_LIMIT)(data)
        return lines

    return ask


def read_tail(data: bytes) -> None:
    real, follow.call = follow.call, ask_with(data)
    try:
        follow.tail_offset(FakeLink(b""), "20261130-164003-7128cbdd", "out", 1)
    finally:
        follow.call = real


# -- files -----------------------------------------------------------------------------------------


def read_find(data: bytes) -> None:
    real = remote.ask_script
    remote.ask_script = lambda link, text, args, limit: _reply(data, limit)
    try:
        patterns = [pattern("deep"), pattern("**"), pattern("none")]
        found = remote.find(FakeLink(b""), "/home/ada/tree", patterns)
        assert all(name and ".." not in name.split("/") for g in found.groups for name in g.names)
    finally:
        remote.ask_script = real


def read_times(data: bytes) -> None:
    def answer(link: object, text: str, args: object, limit: int, on_stdout: Sink) -> Reply:
        on_stdout(data)
        return Reply(0, b"")

    real, narrow.ask_script = narrow.ask_script, answer  # type: ignore[assignment]
    urandom, os.urandom = os.urandom, lambda count: Mark()
    try:
        found = narrow.narrow(FakeLink(b""), "run", [Group("/home/ada", ["results"])])
        assert all(is_below(name) for group in found.groups for name in group.names)
    finally:
        narrow.ask_script, os.urandom = real, urandom


def times_sink() -> Times:
    times = Times("mark", "run", Chooser(["a"]).add, narrow.TIMES_LIMIT)
    times(f"mark run {STAMP} run/child\nmark run {STAMP} run/exit".encode())
    return times


class Mark(bytes):
    """Random bytes whose text the captured answers have."""

    def hex(self) -> str:  # type: ignore[override]
        return "mark"


def _reply(data: bytes, limit: int) -> Reply:
    kept = Collected(limit)
    kept(data)
    return Reply(0, bytes(kept.data))


def read_prepare(data: bytes) -> None:
    found = RemoteTree(FakeLink(data), "project", "origin").prepare(
        dry_run=True, token="t", timeout=1
    )
    assert found.target.startswith("/")


def read_stage(data: bytes) -> None:
    class Tree:
        manifest, digest = b"", "d"

    ready = RemoteState("marked", "/home/ada/tree", "d", True, "", False, False, "")
    tree = RemoteTree(FakeLink(data), "project", "origin")
    tree.stage(ready, Tree(), delete=True, timeout=1)  # type: ignore[arg-type]


def read_output(data: bytes) -> None:
    output = Output(lambda percent, count: None, 1000)
    output(data)
    output.result()


def read_complaints(data: bytes) -> None:
    said = RsyncErrors()
    said(data)
    for status in (1, 2, 11, 12, 23, 24, 127, 255):
        str(error_of(status, said, TransferTarget("n1", "n1", "/here", "/there")))


RSYNC_SAID = (
    b'rsync: [sender] link_stat "/x/a b" failed: No such file or directory (2)\n'
    b'rsync: [receiver] mkstemp "/y/.a.XXXXXX" failed: No space left on device (28)\n'
    b'rsync: [generator] symlink "/y/l" -> "to" failed: Permission denied (13)\n'
    b'file has vanished: "/x/gone"\nERROR: x failed verification -- update discarded.\n'
    b"cannot delete non-empty directory: d\ncould not make way for new regular file: d\n"
    b"rsync error: some files/attrs were not transferred (code 23) at main.c(1338) [sender=3.2.7]\n"
    b"sh: 1: rsync: not found\nPermission denied (publickey).\n",
)

# -- probe, ports, ssh -----------------------------------------------------------------------------


def probes() -> tuple[bytes, ...]:
    """Answers of real nodes, with what real GPU tools said among them."""
    gpu = DATA.parent / "gpu"
    files = (
        ("nvidia-gpus", "nvidia-v100x8.csv"),
        ("nvidia-apps", "nvidia-v100x8.apps.csv"),
        ("nvidia-gpus", "nvidia-a100-mig-pod.csv"),
        ("nvidia-gpus", "nvidia-lost.txt"),
        ("amd-rocm", "rocm-r9700-and-apu.json"),
        ("amd-list", "amdsmi-r9700.list.json"),
        ("amd-asic", "amdsmi-r9700.asic.json"),
        ("amd-metric", "amdsmi-r9700.metric.json"),
    )
    told = {
        file: b"".join(
            b"%b %b\n" % (tag.encode(), line) for line in (gpu / file).read_bytes().splitlines()
        )
        for tag, file in files
    }
    nvidia = told["nvidia-v100x8.csv"] + told["nvidia-v100x8.apps.csv"] + b"nvidia-status gpus 0\n"
    amdsmi = b"".join(text for file, text in told.items() if file.startswith("amdsmi"))
    more = b"lease 20261130-164003-7128cbdd GPU-1\nowner 7 1000\nself 7\nnvidia-stuck 7 100\n"
    extra = (
        nvidia,
        nvidia + more,
        told["nvidia-a100-mig-pod.csv"],
        told["nvidia-lost.txt"] + b"nvidia-status gpus 15\n",
        told["rocm-r9700-and-apu.json"] + b"amd-status rocm 0\n",
        amdsmi + b"amd-status list 0\n",
    )
    plain = seeds("probe")
    return (*plain, *(plain[0].replace(b"end\n", text + b"end\n") for text in extra))


def read_probe(data: bytes) -> None:
    health: NodeHealth = judge(NODE, parse(data, "~/gridops"), HealthSettings(), latency_ms=1.0)
    documents.to_json(documents.health_record(health)).encode("utf-8", "backslashreplace")
    tables.health_row(health)
    tables.health_csv_row(health)
    figures(health)


def read_ports(data: bytes) -> None:
    ports.query_ports(FakeLink(data), [1, 2])  # type: ignore[arg-type]


def read_diagnosis(data: bytes) -> None:
    str(diagnose(data.decode(errors="surrogateescape"), "n1", "n1"))


SSH_SAID = (
    b"ssh: connect to host n1 port 22: Connection refused\r\n",
    b"@@@@\n@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nOffending key in /f:3\n",
    b"Permission denied (publickey,password).\nNo ED25519 host key is known for n1\n",
)


def read_control(data: bytes) -> None:
    """The reader of messages, from a socket that ends."""
    one = control.Control.__new__(control.Control)
    one._buffer, one._greeting = bytearray(), b""
    ours, theirs = socket.socketpair()
    one.socket = ours
    with ours, theirs:
        theirs.setblocking(False)
        try:
            theirs.send(data[:100_000])
        except BlockingIOError:
            return
        theirs.shutdown(socket.SHUT_WR)
        for _ in range(50):
            kind, body = one.reply(1.0)
            control._reason(body)
            control._number(body, 1)
            if kind == control.EXIT_MESSAGE:
                return
    raise ConnectionLost("it goes on")


HELLO = b"\0\0\0\x08\0\0\0\x01\0\0\0\x04"
CONTROL = (
    HELLO
    + b"\0\0\0\x0c\x80\0\0\x06\0\0\0\x01\0\0\0\x02"
    + b"\0\0\0\x0c\x80\0\0\x04\0\0\0\x02\0\0\0\x07",
    HELLO + b"\0\0\0\x15\x80\0\0\x03\0\0\0\x01\0\0\0\x09forbidden",
)

# -- Ray -------------------------------------------------------------------------------------------


def words_sink() -> talk._Words:
    pip = Pip(lambda what: None)
    return talk._Words(pip)


def read_look(data: bytes) -> None:
    sink = words_sink()
    sink(data)
    told = talk.Told(sink.values)
    state._parse_look(told)
    told.number("room")


RAY_NODE = (
    b"role head\nlaunch 0a\nid 0b\naddress 10.0.0.1\nhead 10.0.0.1\nport 6379\ndashboard 8265\n"
    b"ray 2.60.0\npython 3.11.2\nvenv /home/ada/v\nready 2.60.0 3.11.2\ndisk 1048576 40\n"
    b"memory 16000000 8000000\nnow 1796056768\naddresses 10.0.0.1 10.0.0.2\nroom 5000000\n"
    b"pip Collecting ray\nstep installing\npip ERROR: No matching distribution found for ray\n",
)
RAY_SAID = (
    json.dumps(
        {
            "nodes": [
                {"id": "0a", "name": "n1", "address": "10.0.0.1", "head": True, "alive": True,
                 "why": "", "total": {"CPU": 2.0, "memory": 1e9}},
                {"id": "0b", "name": "n2", "address": "10.0.0.2", "head": False, "alive": False,
                 "why": "it died", "total": {}},
            ],
            "ports": {"0a": [1, 2]},
            "used": {"0a": {"CPU": 1.0}},
            "demand": ["3 x CPU 1"],
            "jobs": [{"id": "ray-1", "status": "RUNNING", "entrypoint": "true"}],
        }
    ).encode(),
)  # fmt: skip
RAY_MESH = (
    b'{"busy": {"6379": "process 7 (redis)"}, "heard": {"n2": {"address": "10.0.0.2"}}}',
    b'{"ways": {"10.0.0.1": {"source": "10.0.0.2", "back": ""}, "10.0.0.9": {"there": "no"}}}',
)
RAY_JOBS = json.dumps(
    [
        {"type": "SUBMISSION", "submission_id": "ray-1", "job_id": None, "status": "SUCCEEDED",
         "entrypoint": "python t.py", "message": "Job finished.", "start_time": 1795537460696,
         "end_time": 1795537461696, "metadata": {"gridops_user": "ada@x"}, "driver_exit_code": 0,
         "driver_agent_http_address": "http://10.0.0.1:5000"},
        {"type": "DRIVER", "job_id": "02000000", "status": "FAILED", "metadata": None,
         "entrypoint": "", "driver_exit_code": -9, "message": "Traceback\n x\nValueError"},
    ]
).encode()  # fmt: skip
HTTP = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
    % (len(RAY_JOBS), RAY_JOBS),
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    % (len(RAY_JOBS), RAY_JOBS),
    b"HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\nTraceback",
)


@dataclass
class Canned:
    """A stream that gives these bytes, or repeats them for ever."""

    data: bytes
    endless: bytes = b""
    sent: list[int] = field(default_factory=list)

    def recv(self, size: int) -> bytes:
        if not self.data and self.endless:
            self.data = self.endless
        piece, self.data = self.data[:size], self.data[size:]
        return piece

    def sendall(self, data: bytes) -> None:
        self.sent.append(len(data))

    def close(self) -> None:
        """Nothing to close."""

    def shutdown(self, how: int) -> None:
        """Nothing to shut."""

    def settimeout(self, seconds: float | None) -> None:
        """It never waits."""


def ray_api(data: bytes, endless: bytes = b"") -> JobsApi:
    return JobsApi(Api(lambda: Channel(Canned(data, endless)), "token"))


def read_http(data: bytes) -> None:
    for job in ray_api(data).jobs():
        cluster.job_row(job, 1e9)
        documents.to_json(cluster.job_record(job, 1e9)).encode("utf-8", "backslashreplace")
        ray_verdict(job)


def read_ray_jobs(data: bytes) -> None:
    read_http(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data))


def read_reach(data: bytes) -> None:
    Fields(document(data)).text_values()


def prelude_sink() -> Prelude:
    return Prelude(MARK.encode(), Collected())


def read_prelude(data: bytes) -> None:
    prelude_sink()(data)


PARSERS: dict[str, Parser] = {
    "list": Parser(
        read_list, seeds("list", "status", "prune"),
        (b"state a running\n", b"x", b"# ==> a/spec/run <==\n# # {}\n", b"\n", b"out 0 1\nx",
         b"file 1 1 'a/exit' -> 'x'\n"),
        lambda: list_sink()[0],
    ),
    "follow": Parser(
        read_follow, seeds("follow", "run", "kill", "show"),
        (b"alive\n", b"x", b"state a\nstate b\n", b"\n", b"out 0 0\n"), follow_sink,
    ),
    "start": Parser(read_start, seeds("start", "run"), (b"boot x\n",), follow_sink),
    "tail": Parser(read_tail, seeds("tail")),
    "find": Parser(read_find, seeds("find")),
    "times": Parser(
        read_times, seeds("times"),
        (f"\nmark {STAMP}|{STAMP}|1|81a4|./a/b".encode(), b"x", b"\nmark ", b"\nmark shared"),
        times_sink,
    ),
    "sync prepare": Parser(read_prepare, seeds("sync-0", "sync-again-0")),
    "sync stage": Parser(read_stage, seeds("sync-1", "sync-again-1")),
    "rsync output": Parser(
        read_output, seeds("rsync-output"),
        (b"=>f+++++++++ name\n", b"x", b'skipping non-regular file "a"\n', b"\r", b"\n",
         b'ignoring unsafe symlink "a" -> "b"\n'),
        lambda: Output(None, 1000),
    ),
    "rsync complaints": Parser(
        read_complaints, RSYNC_SAID, (b"x", b"\n", RSYNC_SAID[0], b'" -> "'), RsyncErrors
    ),
    "probe": Parser(read_probe, probes()),
    "ports": Parser(read_ports, seeds("ports")),
    "ssh's words": Parser(read_diagnosis, SSH_SAID),
    "control": Parser(read_control, CONTROL),
    "before the script": Parser(
        read_prelude, (b"motd\n" + MARK.encode() + b"\nanswer",), (b"motd\n", b"x"), prelude_sink
    ),
    "Ray on a node": Parser(
        read_look, (*seeds("ray-look"), *RAY_NODE), (b"pip x\n", b"x", b"word value\n"), words_sink
    ),
    "Ray's dashboard, on the head": Parser(dashboard.read, RAY_SAID),
    "Ray's mesh": Parser(preflight.Tries.of, RAY_MESH),
    "Ray's reach": Parser(read_reach, (b'{"10.0.0.1:1": "Connection refused"}',)),
    "Ray's jobs": Parser(read_ray_jobs, (RAY_JOBS,)),
    "Ray's HTTP": Parser(read_http, HTTP),
}  # fmt: skip
