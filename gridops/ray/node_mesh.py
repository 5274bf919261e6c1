"""TCP connection tests between nodes. Runs on a node, with its Python alone.

    listen NONCE PORT SECONDS BUSY NAME...   on the head, while its port is still free
    call NONCE PORT SECONDS NAME BACK ADDRESS...   on a worker: tries the head's addresses
    greet SECONDS HOST PORT   on a worker: tries the port of a head that runs
    reach SECONDS HOST:PORT...   on any node: tries ports that somebody listens on

`listen` answers a worker only when it has reached that one in turn, at a port the worker named; so
both directions are proved with real TCP connections, before Ray is started. BUSY are further ports
(8265,10001) of which it says who has them. Each prints one JSON document.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

TRY_TIMEOUT = 3.0  # seconds that one connection may take
LINE = 4096


def why(exc: OSError) -> str:
    if isinstance(exc, TimeoutError):
        return "no answer (a firewall drops it?)"
    return exc.strerror or str(exc)


def read_line(link: socket.socket) -> dict[str, object]:
    data = b""
    while not data.endswith(b"\n") and len(data) < LINE:
        piece = link.recv(LINE)
        if not piece:
            break
        data += piece
    try:
        found = json.loads(data)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def write_line(link: socket.socket, document: dict[str, object]) -> None:
    link.sendall(json.dumps(document).encode() + b"\n")


# -- listen ---------------------------------------------------------------------------------------


def holder(port: int) -> str:
    """Describe the process that listens on a port.

    Another user's process has no name for us: it is "another program".
    """
    inodes = set()
    for table in Path("/proc/net/tcp"), Path("/proc/net/tcp6"):
        with suppress(OSError):
            rows = [line.split() for line in table.read_text().splitlines()[1:]]
            inodes |= {row[9] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")}
    sockets = {f"socket:[{inode}]" for inode in inodes}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(str(fd.readlink()) in sockets for fd in (process / "fd").iterdir()):
                return f"process {process.name} ({(process / 'comm').read_text().strip()})"
    return "another program"


def busy(ports: list[int]) -> dict[str, str]:
    found = {}
    for port in ports:
        try:
            socket.create_server(("", port)).close()
        except OSError:
            found[str(port)] = holder(port)
    return found


class Listener:
    """Server for one call from each worker of `names`.

    `wait` waits until all have called, `seconds` at most.
    """

    def __init__(self, nonce: str, names: list[str]) -> None:
        self.nonce = nonce
        self.missing = set(names)
        self.heard: dict[str, dict[str, object]] = {}
        self.changed = threading.Condition()

    def serve(self, server: socket.socket) -> None:
        while True:
            try:
                link, peer = server.accept()
            except OSError:
                return
            threading.Thread(target=self.answer, args=(link, peer[0]), daemon=True).start()

    def answer(self, link: socket.socket, peer: str) -> None:
        with link:
            link.settimeout(TRY_TIMEOUT)
            try:
                said = read_line(link)
                if said.get("nonce") != self.nonce:
                    return
                back = str(said.get("back") or peer)
                error = attempt(back, int(str(said.get("port"))))
                write_line(link, {"nonce": self.nonce, "error": error})
            except (OSError, ValueError):
                return
        with self.changed:
            self.heard[str(said.get("name"))] = {"address": back, "error": error}
            self.missing.discard(str(said.get("name")))
            self.changed.notify()

    def wait(self, seconds: float) -> None:
        with self.changed:
            self.changed.wait_for(lambda: not self.missing, seconds)


def attempt(host: str, port: int, seconds: float = TRY_TIMEOUT) -> str:
    """Try one TCP connection; the reason when it fails, else empty."""
    try:
        socket.create_connection((host, port), seconds).close()
    except OSError as exc:
        return why(exc)
    return ""


def listen(nonce: str, port: str, seconds: str, others: str, *names: str) -> dict[str, object]:
    taken = busy([int(port), *(int(other) for other in others.split(",") if other)])
    if taken or not names:
        return {"busy": taken}
    listener = Listener(nonce, list(names))
    with socket.create_server(("", int(port)), backlog=1024) as server:
        threading.Thread(target=listener.serve, args=(server,), daemon=True).start()
        listener.wait(float(seconds))
    return {"busy": {}, "heard": listener.heard}


# -- call -----------------------------------------------------------------------------------------


def dialogue(address: str, port: int, said: dict[str, object], end: float) -> dict[str, str]:
    """Ask the head at `address` to connect back to us.

    Tried again until it listens, `end` at the latest. Returns our own address on that way, or the
    reason when it does not lead there and back.
    """
    while True:
        try:
            with socket.create_connection((address, port), TRY_TIMEOUT) as link:
                link.settimeout(2 * TRY_TIMEOUT)
                source = link.getsockname()[0]
                write_line(link, said)
                answer = read_line(link)
            if answer.get("nonce") != said["nonce"]:
                return {"there": "another program answers"}
            return {"source": source, "back": str(answer.get("error") or "")}
        except OSError as exc:
            refused = isinstance(exc, ConnectionRefusedError)
            if not refused or time.monotonic() > end:
                return {"there": why(exc)}
            time.sleep(0.05)


def works(way: dict[str, str]) -> bool:
    return not way.get("there") and not way.get("back")


def call(
    nonce: str, port: str, seconds: str, name: str, back: str, *addresses: str
) -> dict[str, object]:
    end = time.monotonic() + float(seconds)
    ways: dict[str, dict[str, str]] = {}
    done = threading.Condition()
    with socket.create_server(("", 0), backlog=64) as server:
        own = server.getsockname()[1]
        said: dict[str, object] = {"nonce": nonce, "name": name, "port": own, "back": back}

        def one(address: str) -> None:
            way = dialogue(address, int(port), said, end)
            with done:
                ways[address] = way
                done.notify()

        for address in addresses:
            threading.Thread(target=one, args=(address,), daemon=True).start()
        with done:
            # The first address is what is hoped for; another that works need not wait for it long.
            limit = float(seconds) + 3 * TRY_TIMEOUT
            done.wait_for(
                lambda: any(map(works, ways.values())) or len(ways) == len(addresses), limit
            )
            done.wait_for(lambda: addresses[0] in ways, 0.3)
            return {"ways": dict(ways)}


def greet(seconds: str, host: str, port: str) -> dict[str, object]:
    try:
        with socket.create_connection((host, int(port)), float(seconds)) as link:
            return {"ways": {host: {"source": link.getsockname()[0]}}}
    except OSError as exc:
        return {"ways": {host: {"there": why(exc)}}}


# -- reach ----------------------------------------------------------------------------------------


def reach(seconds: str, *places: str) -> dict[str, object]:
    errors: dict[str, str] = {}

    def one(place: str) -> None:
        host, _, port = place.rpartition(":")
        errors[place] = attempt(host, int(port), float(seconds))

    threads = [threading.Thread(target=one, args=(place,), daemon=True) for place in places]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(float(seconds) + 1)
    return {place: errors.get(place, "no answer") for place in places if errors.get(place, "?")}


MESH_VERBS = {"listen": listen, "call": call, "greet": greet, "reach": reach}

if __name__ == "__main__":
    print(json.dumps(MESH_VERBS[sys.argv[1]](*sys.argv[2:])))  # type: ignore[operator]
