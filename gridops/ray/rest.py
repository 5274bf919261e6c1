"""Small HTTP client for the servers of a Ray cluster.

Its connections are opened by the caller's `dial`. The token travels in the Authorization header and
nowhere else: no URL, argument or message has it.
"""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import IO, Any

from gridops.errors import ConnectionLost, RayJobError, UnreadableAnswer
from gridops.reach.answers import document
from gridops.reach.link import Stream
from gridops.system.ownership import PACKAGE_VERSION

SERVER_TIMEOUT = 30.0  # seconds that a server may keep silent while it answers
ANSWER_TIMEOUT = 60.0  # seconds that it may take to answer with what is kept in memory
PART_SIZE = 256 * 1024
MAX_BODY = 16 * 1024 * 1024  # bytes of an answer that is kept in memory
MAX_HEAD = 1024 * 1024  # bytes that may come with it
READ = 64 * 1024  # bytes of a channel that are read at once
REASON_LIMIT = 64 * 1024  # bytes of an answer that are looked at for a reason

HOST = "127.0.0.1"  # what requests say; where they go is the dial's business
# As a browser, one that begins with Mozilla, it would be refused (Ray's CSRF guard).
AGENT = f"gridops/{PACKAGE_VERSION}"


class Channel:
    """The part of a socket's interface that http.client uses, over any Stream.

    As with a socket, what `makefile` gave can still be read after `close`.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._readers = 0
        self._closed = False
        self._left = math.inf
        self._deadline = math.inf

    def allow(self, count: float, seconds: float) -> None:
        """Limit further reads to `count` bytes in `seconds`; beyond that reading raises OSError."""
        self._left = count
        self._deadline = time.monotonic() + seconds

    def recv(self, size: int) -> bytes:
        if time.monotonic() > self._deadline:
            raise TimeoutError("its answer takes too long")
        data = self._stream.recv(size)
        self._left -= len(data)
        if self._left < 0:
            raise ConnectionAbortedError("its answer is too long")
        return data

    def sendall(self, data: bytes) -> None:
        self._stream.sendall(data)

    def makefile(self, mode: str, buffering: int = -1) -> io.BufferedReader:
        del mode, buffering  # http.client reads, buffered
        self._readers += 1
        return io.BufferedReader(_BodyReader(self, self._drop), READ)

    def close(self) -> None:
        self._closed = True
        self._end()

    def _drop(self) -> None:
        self._readers -= 1
        self._end()

    def _end(self) -> None:
        if self._closed and not self._readers:
            self._stream.close()


class _BodyReader(io.RawIOBase):
    def __init__(self, channel: Channel, drop: Callable[[], None]) -> None:
        self._channel = channel
        self._drop = drop

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        data = self._channel.recv(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._drop()


Dial = Callable[[], Channel]
Body = bytes | IO[bytes]
Headers = Mapping[str, str] | None
Sink = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        return self.status == 200

    @property
    def document(self) -> Any:
        """The body as JSON. Raises RayJobError when it is none."""
        try:
            return document(self.body, "Ray's answer")
        except UnreadableAnswer as exc:
            raise RayJobError(f"{exc.message}: {self.reason!r}") from exc

    @property
    def reason(self) -> str:
        """The body's last line with a word in it.

        Of a traceback that is the one that matters.
        """
        lines = self.body[-REASON_LIMIT:].decode(errors="replace").splitlines()
        told = [line.strip() for line in lines if any(map(str.isalnum, line))]
        return told[-1][:500] if told else ""


class Api:
    """One server, over a kept connection that is reopened once it ends."""

    def __init__(self, dial: Dial, token: str, what: str = "Ray's dashboard") -> None:
        self._dial = dial
        self._token = token
        self._what = what
        self._connection: HTTPConnection | None = None
        self._channel: Channel | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def get(self, path: str, headers: Headers = None, sink: Sink | None = None) -> Answer:
        return self.request("GET", path, headers=headers, sink=sink)

    def post(self, path: str, document: Mapping[str, Any] | None = None) -> Answer:
        body = json.dumps(document or {}).encode()
        return self.request("POST", path, body, {"Content-Type": "application/json"})

    def request(
        self,
        method: str,
        path: str,
        body: Body | None = None,
        headers: Headers = None,
        sink: Sink | None = None,
    ) -> Answer:
        """Make a request; the answer of any status but 401 and 403.

        The part of a file that was asked for (206) goes to `sink` as it comes.

        Only a GET is ever sent again. Raises RayJobError when the token is refused, ConnectionLost
        when the connection breaks, what dialling raises, and what `sink` raises.
        """
        response = self._begin(method, path, body, headers)
        kept = bytearray()
        take = sink if sink and response.status == 206 else kept.extend
        whole = False
        try:
            if take is sink:
                self._stream(response)
            while data := self._read(response):
                take(data)
                if len(kept) > MAX_BODY:
                    raise RayJobError(f"{self._what} answered with over {MAX_BODY >> 20} MiB")
            whole = True
        finally:
            if not whole:
                self.close()
        answer = Answer(response.status, bytes(kept))
        if answer.status in (401, 403):
            raise RayJobError(
                f"{self._what} refuses the cluster's token: {answer.reason}",
                hint="check by `inv cluster.status` that it is still the same cluster",
            )
        return answer

    def _begin(self, method: str, path: str, body: Body | None, headers: Headers) -> HTTPResponse:
        if method != "GET":  # the server may just be closing one that was long unused
            self.close()
        kept = self._connection is not None
        try:
            return self._send(method, path, body, headers)
        except ConnectionLost:
            if not kept:
                raise
        return self._send(method, path, body, headers)

    def _send(self, method: str, path: str, body: Body | None, headers: Headers) -> HTTPResponse:
        connection = self._connection or self._open()
        own = {"Authorization": f"Bearer {self._token}", "User-Agent": AGENT, **(headers or {})}
        try:
            connection.request(method, path, body, own)
            if self._channel:
                self._channel.allow(MAX_BODY + MAX_HEAD, ANSWER_TIMEOUT)
            return connection.getresponse()
        except (OSError, HTTPException, ValueError) as exc:
            self.close()
            raise self._lost_error(exc) from exc
        except BaseException:
            self.close()
            raise

    def _open(self) -> HTTPConnection:
        self._connection = HTTPConnection(HOST)
        self._connection.sock = self._channel = self._dial()
        return self._connection

    def _stream(self, response: HTTPResponse) -> None:
        """Let the answer be of any length and duration, but refuse chunks.

        (http.client reads a chunk of -1 bytes whole.)
        """
        if response.chunked:
            raise RayJobError(f"{self._what} sent the whole in chunks instead of a range")
        if self._channel:
            self._channel.allow(math.inf, math.inf)

    def _read(self, response: HTTPResponse) -> bytes:
        try:
            data = response.read(PART_SIZE)
        except (OSError, HTTPException, ValueError) as exc:
            raise self._lost_error(exc) from exc
        if not data and response.length:  # http.client takes that for the end
            raise self._lost_error(ConnectionResetError("in the middle of its answer"))
        return data

    def _lost_error(self, exc: Exception) -> ConnectionLost:
        return ConnectionLost(f"{self._what} hung up: {str(exc)[:200] or type(exc).__name__}")
