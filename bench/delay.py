"""A TCP proxy that makes the way long: `python -m bench.delay PORT TO SECONDS`.

It listens on PORT at every address of this machine and leads to port TO of the address that was
called. Every byte arrives SECONDS later, each way; the first ones after one more round trip, which
is what connecting takes. It prints a line once it listens, and ends when its standard input does.
It is for latency, not for volume: what is under way is held in memory.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial


class End(asyncio.Protocol):
    """One end of a connection; what it receives is written at the other end, later."""

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self.transport: asyncio.Transport | None = None
        self.other: End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._later(lambda to: to.write(data))

    def eof_received(self) -> bool:
        self._later(lambda to: to.write_eof())
        return True  # the other direction goes on

    def connection_lost(self, exc: Exception | None) -> None:
        self._later(lambda to: to.close())

    def _later(self, what: Callable[[asyncio.Transport], None]) -> None:
        def at_last() -> None:
            if self.other and self.other.transport and not self.other.transport.is_closing():
                what(self.other.transport)

        # One delay for all keeps them in order.
        self._loop.call_later(self._seconds, at_last)


class Near(End):
    """The end that the caller sees."""

    def __init__(self, seconds: float, to: int) -> None:
        super().__init__(seconds)
        self._to = to

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.transport:
            self.transport.pause_reading()
            self._task = self._loop.create_task(self._connect(self.transport))

    async def _connect(self, near: asyncio.Transport) -> None:
        await asyncio.sleep(2 * self._seconds)
        host = near.get_extra_info("sockname")[0]
        try:
            _, far = await self._loop.create_connection(partial(End, self._seconds), host, self._to)
        except OSError:
            near.close()
            return
        self.other, far.other = far, self
        near.resume_reading()


async def serve(port: int, to: int, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(Near, seconds, to), "0.0.0.0", port, backlog=4096)
    async with server:
        print("up", flush=True)
        await loop.run_in_executor(None, sys.stdin.read)


@contextmanager
def delayed(port: int, to: int, seconds: float) -> Iterator[None]:
    """The proxy, while the block runs."""
    words = [sys.executable, "-m", "bench.delay", str(port), str(to), str(seconds)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        if not child.stdout or child.stdout.readline() != b"up\n":
            raise RuntimeError(f"no proxy on port {port}")
        yield
        child.communicate()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
