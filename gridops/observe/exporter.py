"""A small HTTP server for pages that are made on the spot: metrics, health, the status page.

It answers GET and HEAD, one thread a request, at most BUSY at once; who does not speak or listen
within PATIENCE seconds is hung up on.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from gridops.errors import ServeError
from gridops.observe.access import OPEN, Access, is_loopback

if TYPE_CHECKING:
    from ssl import SSLContext

PATIENCE = 10.0  # seconds for a request, and for each piece of the answer
BUSY = 32
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


class Exporter(ThreadingHTTPServer):
    """Serves `routes` (by path) to those whom `access` lets in; those of `public` to anybody.

    Bound to a loopback address, it answers only to names of this machine: a page of somebody else
    must not read it by way of a name that leads here (DNS rebinding).
    """

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(
        self,
        address: tuple[str, int],
        routes: Mapping[str, Route],
        *,
        access: Access = OPEN,
        public: frozenset[str] = frozenset(),
        tls: SSLContext | None = None,
    ) -> None:
        """`address` is host and port; port 0 takes a free one. Raises ServeError."""
        self.routes = routes
        self.access = access
        self.public = public
        self.loopback = is_loopback(address[0])
        self._tls = tls
        self._room = threading.BoundedSemaphore(BUSY)
        try:
            self.address_family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
            super().__init__(address, Handler)
        except (OSError, OverflowError) as exc:
            raise ServeError(
                f"cannot listen on {address[0]} port {address[1]}: {exc}",
                hint="name another --port or --bind",
            ) from exc

    @property
    def url(self) -> str:
        host = f"[{self.server_address[0]!s}]" if ":" in str(self.server_address[0]) else None
        scheme = "https" if self._tls else "http"
        return f"{scheme}://{host or self.server_address[0]!s}:{self.server_address[1]}/"

    def server_bind(self) -> None:
        """As the base does, without asking the DNS for our own name, which may take long."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def get_request(self) -> tuple[Any, Any]:
        request, client = super().get_request()
        request.settimeout(PATIENCE)
        if self._tls:  # the handshake is for the request's own thread
            request = self._tls.wrap_socket(
                request, server_side=True, do_handshake_on_connect=False
            )
        return request, client

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread left
            self._room.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Who asked has hung up, or speaks no HTTP; nobody needs to know."""


class Handler(BaseHTTPRequestHandler):
    server: Exporter
    server_version = "gridops"
    sys_version = ""
    timeout = PATIENCE

    def do_GET(self) -> None:
        self._send(self._answer())

    do_HEAD = do_GET

    def _answer(self) -> Page:
        path = self.path.partition("?")[0]
        if self.server.loopback and not self._for_us():
            return Page("not the name of this server\n", status=HTTPStatus.MISDIRECTED_REQUEST)
        allowed = self.server.access.allows(self.headers.get("Authorization", ""))
        if not allowed and path not in self.server.public:
            headers = {"WWW-Authenticate": self.server.access.challenge}
            return Page("who are you?\n", status=HTTPStatus.UNAUTHORIZED, headers=headers)
        route = self.server.routes.get(path)
        if route is None:
            known = " ".join(self.server.routes)
            return Page(f"there are: {known}\n", status=HTTPStatus.NOT_FOUND)
        try:
            return route(Request(path, self.headers.get("Accept", "")))
        except Exception as exc:  # noqa: BLE001 - the next request is none the worse for it
            said = f"{type(exc).__name__}: {exc}\n"
            return Page(said, status=HTTPStatus.INTERNAL_SERVER_ERROR)

    def _for_us(self) -> bool:
        name = self.headers.get("Host", "localhost")
        bare = name[: name.rindex(":")] if name.rpartition(":")[2].isdecimal() else name
        return bare.lower() in (*LOCAL_NAMES, str(self.server.server_address[0]))

    def _send(self, page: Page) -> None:
        body = page.body.encode("utf-8", "replace")
        self.send_response(page.status)
        for name, value in {
            "Content-Type": page.type,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **page.headers,
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a scrape every few seconds is no news."""
