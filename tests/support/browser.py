"""A headless Chromium for tests, driven through its DevTools protocol over a pipe: no further
library, and it reads no page but those that a test opens."""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from support.nodes import find_program

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-extensions", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
# Chromium reads commands at descriptor 3 and writes to 4.
LAUNCH = """
import os, sys
theirs = [os.dup(int(fd)) for fd in sys.argv[1:3]]
theirs = [os.dup(fd) if fd in (3, 4) else fd for fd in theirs]
os.dup2(theirs[0], 3), os.dup2(theirs[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
PATIENCE = 30.0


def chromium() -> str:
    """The one that is here, by whatever name; a test fails where there is none."""
    found = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    return found or find_program("chromium")


class Page:
    """One tab. What it asked for and what it complained of is kept."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser = browser
        self._session = session
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        return self._browser.call(method, session=self._session, **params)

    def emulate(
        self, *, width: int = 1280, height: int = 900, dark: bool = False, scripts: bool = True
    ) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Emulation.setScriptExecutionDisabled", value=not scripts)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip

    def open(self, url: str) -> None:
        """Go there, and wait until it has loaded."""
        seen = len(self._events("Page.loadEventFired"))
        self.call("Page.navigate", url=url)
        self._browser.wait_for(lambda: len(self._events("Page.loadEventFired")) > seen)

    def evaluate(self, expression: str) -> Any:
        """What a JavaScript expression comes to, as plain data."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in found:
            raise AssertionError(found["exceptionDetails"])
        return found["result"].get("value")

    def wait_for(self, expression: str, seconds: float = PATIENCE) -> Any:
        """Wait until the expression is true."""
        limit = time.monotonic() + seconds
        while not (found := self.evaluate(expression)):
            if time.monotonic() > limit:
                raise AssertionError(f"not within {seconds} s: {expression}")
            time.sleep(0.1)
        return found

    def screenshot(self, file: Path) -> bytes:
        """The whole page as a PNG."""
        found = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(found["data"]))
        return file.read_bytes()

    @property
    def requests(self) -> list[str]:
        """Every URL that it asked for."""
        found = self._events("Network.requestWillBeSent")
        return [event["request"]["url"] for event in found]

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings of its console, exceptions, and what its policy refused."""
        calls = self._events("Runtime.consoleAPICalled")
        entries = [event["entry"] for event in self._events("Log.entryAdded")]
        return [
            *(str(event["args"]) for event in calls if event["type"] in ("error", "warning")),
            *(entry["text"] for entry in entries if entry["level"] in ("error", "warning")),
            *(str(event) for event in self._events("Runtime.exceptionThrown")),
        ]

    def _events(self, name: str) -> list[Any]:
        self._browser.drain()
        mine = [e for e in self._browser.events if e.get("sessionId") == self._session]
        return [event["params"] for event in mine if event["method"] == name]


class Browser:
    """Chromium with a profile of its own."""

    def __init__(self, profile: Path) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        words = [chromium(), *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(theirs_in), str(theirs_out), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs_in, theirs_out),
            env={**os.environ, "HOME": str(profile)},
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._in, self._out = ours_in, ours_out
        self._buffer = b""
        self._number = 0
        self._answers: dict[int, Any] = {}
        self.events: list[Any] = []

    def page(self) -> Page:
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        return Page(self, session)

    def call(self, method: str, session: str | None = None, **params: Any) -> Any:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        self.wait_for(lambda: number in self._answers)
        answer = self._answers.pop(number)
        if "error" in answer:
            raise AssertionError((method, answer["error"]))
        return answer["result"]

    def wait_for(self, what: Any) -> None:
        limit = time.monotonic() + PATIENCE
        while not what():
            if time.monotonic() > limit:
                raise AssertionError(f"Chromium did not answer within {PATIENCE} s")
            self.drain(0.2)

    def drain(self, patience: float = 0.0) -> None:
        """Take in what it has said."""
        while select.select([self._in], (), (), patience)[0]:
            data = os.read(self._in, 1 << 20)
            if not data:
                raise AssertionError("Chromium has gone")
            *whole, self._buffer = (self._buffer + data).split(b"\0")
            for text in whole:
                message = json.loads(text)
                if "id" in message:
                    self._answers[message["id"]] = message
                else:
                    self.events.append(message)
            patience = 0.0

    def close(self) -> None:
        with suppress(AssertionError, OSError):
            self.call("Browser.close")
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()
        os.close(self._in)
        os.close(self._out)


@contextmanager
def browsing() -> Iterator[Browser]:
    chromium()
    profile = Path(tempfile.mkdtemp(prefix="gridops-browser"))
    browser = Browser(profile)
    try:
        yield browser
    finally:
        browser.close()
        shutil.rmtree(profile, ignore_errors=True)
