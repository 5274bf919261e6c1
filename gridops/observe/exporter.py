"""An HTTP server for pages that are made on the spot: metrics, health, the status page.

cheroot listens, reads HTTP and has the threads, werkzeug reads headers and writes answers, and
`gridops.observe.connections` keeps slow clients from anybody's way. GET and HEAD only.
"""

from __future__ import annotations

import gzip
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any

from cheroot.wsgi import Server
from werkzeug.wrappers import Request as HttpRequest
from werkzeug.wrappers import Response

from gridops.errors import ServeError
from gridops.observe.auth import OPEN, Access, is_loopback
from gridops.observe.connections import HEAD_LIMIT, ClientConnection, Connections, Tls
from gridops.observe.negotiation import accepts_gzip

if TYPE_CHECKING:
    from ssl import SSLContext

WORKERS = 4  # threads that make pages; none of them waits for a client
STOP_TIMEOUT = 1.0  # seconds that pages which are being made hold up the end
ERROR_DELAY = 0.05  # seconds until connections are accepted again after that went wrong
GZIP_MIN_BYTES = 1024  # bytes of a body
GZIP_LEVEL = 1  # of gzip: five times smaller in a tenth of the time that the best takes
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")


@dataclass(frozen=True, slots=True)
class Page:
    body: str
    type: str = "text/plain; charset=utf-8"
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    path: str
    accept: str  # the header of that name


Route = Callable[[Request], Page]


class Exporter:
    """Server of `routes` (by path) for clients that `access` lets in; of `public` ones for anybody.

    It listens from the beginning, and answers within its `with` block. Bound to a loopback address,
    it answers only to names of this machine: a page of somebody else must not read it by way of a
    name that leads here (DNS rebinding).
    """

    def __init__(
        self,
        address: tuple[str, int],
        routes: Mapping[str, Route],
        *,
        access: Access = OPEN,
        public: frozenset[str] = frozenset(),
        tls: SSLContext | None = None,
    ) -> None:
        """Listen on `address`, host and port; port 0 takes a free one. Raises ServeError."""
        self.routes, self.access, self.public = routes, access, public
        self.loopback = is_loopback(address[0])
        self._scheme = "https" if tls else "http"
        self._server = _Server(address, self.application, tls)
        self._server.listen()
        self.host, self.port = self._server.bind_addr
        self._thread = threading.Thread(target=self._server.serve, daemon=True, name="http")

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self._scheme}://{host}:{self.port}/"

    def __enter__(self) -> Exporter:
        self._server.clients.start()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.end()

    def application(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """The WSGI application."""
        request = HttpRequest(environ)
        page = self._answer(request)
        body, headers = page.body.encode("utf-8", "replace"), dict(page.headers)
        if len(body) >= GZIP_MIN_BYTES and accepts_gzip(request.headers.get("Accept-Encoding", "")):
            body, headers["Content-Encoding"] = gzip.compress(body, GZIP_LEVEL), "gzip"
        headers |= {
            "Cache-Control": "no-store",
            "Vary": "Accept, Accept-Encoding",
            "X-Content-Type-Options": "nosniff",
        }
        response = Response(body, page.status, headers, content_type=page.type)
        return response(environ, start_response)

    def _answer(self, request: HttpRequest) -> Page:
        path = request.path
        if self.loopback and not self._is_our_name(request.headers.get("Host", "localhost")):
            return Page("not the name of this server\n", status=HTTPStatus.MISDIRECTED_REQUEST)
        if request.method not in ("GET", "HEAD"):
            return Page("there is only GET and HEAD\n", status=HTTPStatus.NOT_IMPLEMENTED)
        allowed = self.access.allows(request.headers.get("Authorization", ""))
        if not allowed and path not in self.public:
            headers = {"WWW-Authenticate": self.access.challenge}
            return Page("who are you?\n", status=HTTPStatus.UNAUTHORIZED, headers=headers)
        route = self.routes.get(path)
        if route is None:
            return Page(f"there are: {' '.join(self.routes)}\n", status=HTTPStatus.NOT_FOUND)
        try:
            return route(Request(path, request.headers.get("Accept", "")))
        except Exception as exc:  # noqa: BLE001 - the next request is none the worse for it
            said = f"{type(exc).__name__}: {exc}\n"
            return Page(said, status=HTTPStatus.INTERNAL_SERVER_ERROR)

    def _is_our_name(self, name: str) -> bool:
        bare = name[: name.rindex(":")] if name.rpartition(":")[2].isdecimal() else name
        return bare.lower() in (*LOCAL_NAMES, self.host)


class _Server(Server):
    """cheroot's server, with threads that never wait for a client."""

    ConnectionClass = ClientConnection
    protocol = "HTTP/1.0"  # one request a connection
    max_request_header_size = HEAD_LIMIT
    expiration_interval = 0.2  # seconds between two looks at whether it is to end

    def __init__(self, address: tuple[str, int], application: Any, tls: SSLContext | None) -> None:
        super().__init__(
            address, application, WORKERS, server_name="gridops", request_queue_size=64
        )
        self.ssl_adapter = None if tls is None else Tls(tls)
        self.clients = Connections(self.requests.put)
        self._asked_for = address
        self._refusal: OSError | None = None

    def listen(self) -> None:
        """Listen on the address. Raises ServeError."""
        os.environ.pop("LISTEN_PID", None)  # else cheroot takes a socket of systemd's unasked
        # In a daemon's thread, so that the workers are daemons: a page that takes long to make is
        # no reason for this process to stay.
        thread = threading.Thread(target=self._prepare, daemon=True)
        thread.start()
        thread.join()
        if self._refusal is not None:
            host, port = self._asked_for
            raise ServeError(
                f"cannot listen on {host} port {port}: {self._refusal.strerror or self._refusal}",
                hint="give another --port or --bind",
            )

    def _prepare(self) -> None:
        try:
            self.prepare()
        except OSError as exc:
            self._refusal = self._refusal or exc

    def bind(self, family: int, type: int, proto: int = 0) -> Any:
        """Bind, and keep the error, which cheroot only quotes."""
        try:
            return super().bind(family, type, proto)
        except OSError as exc:
            self._refusal = exc
            raise

    def process_conn(self, conn: ClientConnection) -> None:
        """Take a new connection: its request is to be heard first."""
        self.clients.take(conn)

    put_conn = process_conn  # with its answer, which is to be sent

    def end(self) -> None:
        """Hang up on everybody; work under way has STOP_TIMEOUT."""
        self.clients.stop()
        thread = threading.Thread(target=self.stop, daemon=True)
        thread.start()
        thread.join(STOP_TIMEOUT)

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        """Ignore a client that has hung up or speaks no HTTP; nobody needs to know.

        Errors are those of accepting: without a pause, one that lasts (no file descriptor is left)
        would take a whole core.
        """
        if level >= logging.ERROR:
            time.sleep(ERROR_DELAY)
