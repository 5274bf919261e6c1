"""rsync for Fabric users: the interface of `patchwork.transfers.rsync`, without its faults."""

from __future__ import annotations

import codecs
import glob
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from gridops.transfers import program
from gridops.transfers.errors import RsyncErrors, TransferTarget, error_of
from gridops.transfers.program import STALL_TIMEOUT, RsyncCall
from gridops.transfers.shell import host_of, remote_shell

if TYPE_CHECKING:
    from invoke.runners import Result

STREAM_LIMIT = 16 * 1024 * 1024  # bytes of each stream that the Result holds

Words = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]


def rsync(
    c: Any,
    source: Words,
    target: str | os.PathLike[str],
    exclude: str | Iterable[str] = (),
    delete: bool = False,
    strict_host_keys: bool = True,
    rsync_opts: str | Sequence[str] = "",
    ssh_opts: str | Sequence[str] = "",
) -> Result | None:
    """Copy `source` here to `target` on the host of Fabric Connection `c`.

    Runs `rsync [--delete] [--exclude …] -lpthrvz [rsync_opts] -e ssh… source host:target` with the
    Connection's host, port, user, key files, gateway and ssh_config_path; a gridops Connection
    lends its open connection. A `source` that ends with a slash puts its contents into `target`,
    one without puts the directory itself there. A relative `target` begins at the home directory.

    A `source` text that names an existing file is that file; any other is split into words, and ~
    and wildcards are expanded, as a shell would. Items of a list are taken as they are, and so are
    the `exclude` patterns. `rsync_opts` and `ssh_opts` are shell text, or lists of words.

    Output is shown as it comes. `run.hide`, `run.warn`, `run.echo`, `run.dry`, `run.env` and
    `timeouts.command` of the Connection's configuration hold as they do for `c.local`.
    Returns Invoke's Result. Raises a GridError that says why (PartialTransfer names the files),
    whose `__cause__` is Invoke's UnexpectedExit with the Result.
    """
    job = _job(c, source, target, exclude, delete, strict_host_keys, rsync_opts, ssh_opts)
    return _Run(c, job).result()


def _job(
    c: Any,
    source: Words,
    target: str | os.PathLike[str],
    exclude: str | Iterable[str],
    delete: bool,
    strict_host_keys: bool,
    rsync_opts: str | Sequence[str],
    ssh_opts: str | Sequence[str],
) -> RsyncCall:
    path, literal = _remote(os.fspath(target))
    patterns = [exclude] if isinstance(exclude, str) else exclude
    options = ["--delete"] if delete else []
    options += [f"--exclude={pattern}" for pattern in patterns]
    options += [
        "-lpthrvz",
        f"--timeout={STALL_TIMEOUT}",
        *(program.rsync_program().literal if literal else []),
    ]
    host = host_of(c)
    return RsyncCall(
        options=[*options, *_words(rsync_opts)],
        sources=_sources(source),
        target=f"{host}:{path}",
        place=TransferTarget(node=str(getattr(c, "name", None) or host), host=host.strip("[]")),
        shell=remote_shell(c, strict_host_keys=strict_host_keys, ssh_opts=_words(ssh_opts)),
    )


def _words(text: str | Sequence[str]) -> list[str]:
    return shlex.split(text) if isinstance(text, str) else list(text)


def _remote(path: str) -> tuple[str, bool]:
    """The target as rsync takes it; True if the remote shell need not see it.

    The shell would expand ~ and rsync would not: that is where a relative path begins anyway; only
    for ~user the shell is needed.
    """
    if path == "~" or path.startswith("~/"):
        return path[2:].lstrip("/") or ".", True
    return path, not path.startswith("~")


def _sources(source: Words) -> list[str]:
    if isinstance(source, str):
        return [_plain(path) for path in ([source] if Path(source).exists() else _expand(source))]
    if isinstance(source, os.PathLike):
        return [_plain(os.fspath(source))]
    return [_plain(os.fspath(item)) for item in source]


def _expand(text: str) -> list[str]:
    """The words of `text` as a shell would understand them."""
    found: list[str] = []
    for word in shlex.split(text):
        path = os.path.expanduser(word)  # noqa: PTH111 - a Path would drop a trailing slash
        found += sorted(glob.glob(path)) or [path]
    return found


def _plain(path: str) -> str:
    """Guard a colon in the first name, which would mean a host."""
    return f"./{path}" if ":" in path.split("/")[0] else path


class _Run:
    """One run of rsync under the rules of a Connection's configuration."""

    def __init__(self, c: Any, job: RsyncCall) -> None:
        from invoke.runners import normalize_hide

        self._config = c.config
        self._job = job
        self._line = " ".join(shlex.quote(os.fsdecode(word)) for word in program.command(job))
        self._hide = normalize_hide(self._config.run.hide)

    def result(self) -> Result | None:
        if self._config.run.echo or self._config.run.dry:
            print(self._line, flush=True)
        if self._config.run.dry:
            return self._result(0, b"", b"")
        out, err = _Shown("stdout", self._hide), _Shown("stderr", self._hide)
        said = RsyncErrors()
        status = program.run(
            self._job,
            timeout=self._config.timeouts.command,
            on_stdout=out,
            on_stderr=_both(err, said),
            env={**os.environ, **self._config.run.env},
        )
        result = self._result(status, out.data, err.data)
        if status and not self._config.run.warn:
            from invoke.exceptions import UnexpectedExit

            raise error_of(status, said, self._job.place) from UnexpectedExit(result)
        return result

    def _result(self, status: int, out: bytes | bytearray, err: bytes | bytearray) -> Result:
        from invoke.runners import Result

        return Result(
            stdout=out.decode(errors="replace"),
            stderr=err.decode(errors="replace"),
            command=self._line,
            exited=status,
            hide=self._hide,
        )


class _Shown:
    """A sink that keeps up to STREAM_LIMIT bytes; all that comes is shown, unless hidden."""

    def __init__(self, name: str, hide: Sequence[str]) -> None:
        self.data = bytearray()
        self._stream: TextIO | None = None if name in hide else getattr(sys, name)
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode

    def __call__(self, data: bytes) -> None:
        self.data += data[: STREAM_LIMIT - len(self.data)]
        if self._stream:
            self._stream.write(self._decode(data))
            self._stream.flush()


def _both(*sinks: Callable[[bytes], None]) -> Callable[[bytes], None]:
    def sink(data: bytes) -> None:
        for each in sinks:
            each(data)

    return sink
