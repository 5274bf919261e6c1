"""`metrics` and `metrics.*`: the metrics over all calls, for Prometheus."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from gridops.errors import ServeError, UsageError
from gridops.observe import events
from gridops.tasks import _parse
from gridops.tasks._task import SELECTION, Call, grid_task
from gridops.tasks._terminal import say, show, write_file

if TYPE_CHECKING:
    from gridops.observe.exporter import Exporter
    from gridops.tasks._monitor import Monitor
    from gridops.tasks._service import Service

AUTH_HELP = "a file with one line user:password, readable by you alone"
TOKEN_HELP = "a file with one line, a bearer token, readable by you alone"
TEXTFILE_HELP = (
    "write the metrics to this file, whole or not at all (node_exporter's textfile collector)"
)


@grid_task(
    name="show",
    default=True,
    help={"openmetrics": "in the OpenMetrics format", "textfile": TEXTFILE_HELP},
)
def show_(call: Call, openmetrics: bool = False, textfile: str | None = None) -> None:
    """Print the metrics of all calls for Prometheus; connect to no node."""
    del call
    from gridops.observe import exposition
    from gridops.observe.store import Store

    text = exposition.generate(exposition.of_store(Store()), openmetrics=openmetrics)
    if textfile is None:
        show(text.rstrip("\n"))
    else:
        write_file(textfile, text)


@grid_task(
    flags=SELECTION,
    help={
        "port": "the port to listen on; 0: a free one",
        "every": "seconds between two rounds of probing: 15, 1m",
        "bind": "the address to listen on; protect any but this machine's own with --auth-file",
        "auth_file": AUTH_HELP,
        "token_file": TOKEN_HELP,
        "tls_cert": "speak HTTPS with the certificate in this file (PEM, with its chain)",
        "tls_key": "the file of the certificate's key",
        "commands": "show commands on the status page; a command may hold secrets",
        "textfile": f"do not serve: probe once and {TEXTFILE_HELP}",
    },
)
def serve(
    call: Call,
    port: str = "9464",
    every: str = "15",
    bind: str = "127.0.0.1",
    auth_file: str | None = None,
    token_file: str | None = None,
    tls_cert: str | None = None,
    tls_key: str | None = None,
    commands: bool = False,
    textfile: str | None = None,
) -> None:
    """Probe the grid on a schedule; serve /metrics, /healthz, /api/nodes and a status page."""
    from gridops.observe.auth import access, server_tls
    from gridops.observe.exporter import Exporter
    from gridops.tasks._monitor import Monitor, Selection
    from gridops.tasks._service import PUBLIC, Service

    selection = Selection(call.inventory, *call.selected_by)
    monitor = Monitor(selection, _parse.seconds(every, "every") or 15.0)
    service = Service(lambda: monitor.last, monitor.every, commands=commands)
    if textfile is not None:
        service.publish(monitor.round())
        write_file(textfile, service.text())
        return
    who, tls = access(auth_file, token_file), server_tls(tls_cert, tls_key)
    address = (bind, _port(port))
    with Exporter(address, service.routes, access=who, public=PUBLIC, tls=tls) as exporter:
        if not exporter.loopback:
            _warn_of_strangers(bind, open_to_all=who.open, plain=tls is None)
        with call.narrate(only=(events.WARNING, events.NODE_CHANGED, events.INVENTORY_CHANGED)):
            _serve_until_signal(exporter, monitor, service)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) < 65536):
        raise UsageError(f"--port {text!r} is not a port: 1 to 65535, or 0 for a free one")
    return int(text)


def _warn_of_strangers(bind: str, *, open_to_all: bool, plain: bool) -> None:
    if open_to_all:
        say(
            f"warning: anyone who can reach {bind} can read the metrics"
            " (ask for a login by --auth-file or --token-file)"
        )
    elif plain:
        say("warning: credentials travel unencrypted (--tls-cert, --tls-key)")


def _serve_until_signal(exporter: Exporter, monitor: Monitor, service: Service) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; then leave at once, even amid a round."""
    from gridops.system.signals import wake_on_signals

    stop = threading.Event()
    rounds = threading.Thread(
        target=monitor.run, args=(stop, service.publish), daemon=True, name="rounds"
    )
    with wake_on_signals() as wait:
        rounds.start()
        nodes = len(monitor.selection.chosen)
        say(f"{exporter.url}: {nodes} nodes every {monitor.every:g} s; Ctrl-C ends")
        wait()
    stop.set()


@grid_task(
    help={
        "gateway": "the Pushgateway's URL: http://host:9091",
        "job": "the label `job` there",
        "instance": "the label `instance` there (default: this machine's name)",
        "timeout": "time limit of the push",
        "auth_file": AUTH_HELP,
        "token_file": TOKEN_HELP,
        "strict": "exit 125 when the push fails, rather than warn",
    },
)
def push(
    call: Call,
    gateway: str,
    job: str = "gridops",
    instance: str | None = None,
    timeout: str = "10",
    auth_file: str | None = None,
    token_file: str | None = None,
    strict: bool = False,
) -> int:
    """Push the metrics of all calls to a Pushgateway, replacing those there."""
    del call
    from gridops.observe.auth import access
    from gridops.observe.push import Gateway
    from gridops.observe.store import Store

    target = Gateway.of(gateway, job, instance, access(auth_file, token_file))
    try:
        target.push(Store(), timeout=_parse.seconds(timeout, "timeout") or 10.0)
    except ServeError as exc:
        if strict:
            raise
        say(f"warning: {exc}")
    return 0
