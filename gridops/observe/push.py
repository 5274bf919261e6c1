"""Pushing to a Pushgateway (https://github.com/prometheus/pushgateway, "API")."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from gridops.errors import ServeError, UsageError
from gridops.observe import exposition
from gridops.observe.auth import OPEN, Access

if TYPE_CHECKING:
    from gridops.observe.store import Store


@dataclass(frozen=True, slots=True)
class Gateway:
    url: str  # of our group of metrics there
    shown: str  # the gateway, for messages
    access: Access = OPEN

    @classmethod
    def of(cls, gateway: str, job: str, instance: str | None, access: Access = OPEN) -> Gateway:
        """The gateway at a URL. Raises UsageError for what is none, or has a password in it."""
        base = gateway if "://" in gateway else f"http://{gateway}"
        try:
            parts = urlsplit(base)
            valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            valid = False
        if not valid:
            raise UsageError(
                f"--gateway {gateway!r} is not a URL", hint="give one such as http://host:9091"
            )
        if "@" in parts.netloc:
            raise UsageError(
                "--gateway has a login in it, which any user of this machine can see",
                hint="put user:password into a file, and name that by --auth-file",
            )
        if not job:
            raise UsageError("--job is empty")
        of = instance or socket.gethostname()
        group = f"job/{quote(job, safe='')}/instance/{quote(of, safe='')}"
        if "/" in job + of:  # which the plain form has no way to spell
            group = f"job@base64/{_encode(job)}/instance@base64/{_encode(of)}"
        return cls(f"{base.rstrip('/')}/metrics/{group}", gateway, access)

    def push(self, store: Store, *, timeout: float) -> None:
        """Put the store's metrics in place of our group's; `timeout` seconds for all of it.

        Raises StoreError, ServeError.
        """
        text = exposition.generate(exposition.of_store(store))
        failed: list[str] = []
        # A thread, because no timeout of urllib bounds the whole: not the DNS, not a slow answer.
        thread = threading.Thread(target=self._put, args=(text, timeout, failed), daemon=True)
        thread.start()
        thread.join(timeout)
        if thread.is_alive():
            failed.append(f"no answer within {timeout:g} s")
        if failed:
            raise ServeError(f"metrics could not be pushed to {self.shown}: {failed[0]}")

    def _put(self, text: str, timeout: float, failed: list[str]) -> None:
        from http.client import HTTPException
        from urllib.error import HTTPError
        from urllib.request import Request, urlopen

        headers = {"Content-Type": exposition.content_type()}
        if (credentials := self.access.header()) is not None:
            headers["Authorization"] = credentials
        request = Request(self.url, text.encode("utf-8", "replace"), headers, method="PUT")
        try:
            with urlopen(request, timeout=timeout) as answer:  # which redirects no PUT
                answer.read(1)
        except HTTPError as exc:
            said = exc.read(200).decode("utf-8", "replace").strip()
            failed.append(f"HTTP status {exc.code}{f': {said}' if said else ''}")
        except (OSError, HTTPException, ValueError) as exc:
            failed.append(str(getattr(exc, "reason", None) or exc))


def _encode(text: str) -> str:
    from base64 import urlsafe_b64encode

    return urlsafe_b64encode(text.encode()).decode()
