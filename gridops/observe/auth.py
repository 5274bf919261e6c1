"""Authentication and TLS of the exporter. Secrets come from files, never from a command line."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gridops.errors import UsageError

if TYPE_CHECKING:
    from ssl import SSLContext

SECRET_LIMIT = 4096  # bytes of a secret's file


@dataclass(frozen=True, slots=True)
class Access:
    """Credentials that are let in; without any, everybody is."""

    basic: str | None = None  # user:password
    bearer: str | None = None

    @property
    def open(self) -> bool:
        return self.basic is None and self.bearer is None

    @property
    def challenge(self) -> str:
        return "Bearer" if self.basic is None else 'Basic realm="gridops", charset="UTF-8"'

    def allows(self, header: str) -> bool:
        """True if a request with this Authorization header may pass."""
        if self.open:
            return True
        scheme, _, given = header.partition(" ")
        if scheme.lower() == "basic" and self.basic is not None:
            return _same(_decode(given.strip()), self.basic)
        if scheme.lower() == "bearer" and self.bearer is not None:
            return _same(given.strip(), self.bearer)
        return False

    def header(self) -> str | None:
        """The Authorization header of one who has these credentials."""
        if self.bearer is not None:
            return f"Bearer {self.bearer}"
        if self.basic is not None:
            return f"Basic {base64.b64encode(self.basic.encode()).decode()}"
        return None


OPEN = Access()


def access(auth_file: str | None, token_file: str | None) -> Access:
    """The credentials in these files. Raises UsageError."""
    basic = None if auth_file is None else _secret(auth_file, "auth-file")
    if basic is not None and (":" not in basic or basic.startswith(":")):
        raise UsageError(f"--auth-file {auth_file}: should hold user:password in its only line")
    return Access(basic, None if token_file is None else _secret(token_file, "token-file"))


def _secret(path: str, flag: str) -> str:
    try:
        with Path(path).expanduser().open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(SECRET_LIMIT).decode().strip()
    except (OSError, UnicodeDecodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
        raise UsageError(f"--{flag} {path}: {reason}") from None
    if stat.S_ISREG(mode) and stat.S_IMODE(mode) & 0o007:
        raise UsageError(f"--{flag} {path}: others may read it", hint=f"chmod 600 {path}")
    if not text or "\n" in text:
        raise UsageError(f"--{flag} {path}: should have one line")
    return text


def server_tls(cert: str | None, key: str | None) -> SSLContext | None:
    """TLS context of a server with the certificate in these files. Raises UsageError."""
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise UsageError("--tls-cert and --tls-key go together")
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        # A key with a passphrase is refused here rather than asked for at a terminal.
        context.load_cert_chain(cert, key, password=lambda: "")
    except (OSError, ValueError) as exc:
        reason = getattr(exc, "strerror", None) or getattr(exc, "reason", None) or exc
        raise UsageError(f"--tls-cert {cert} --tls-key {key}: {reason}") from None
    return context


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _decode(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())
