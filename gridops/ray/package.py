"""Package of a project tree for a Ray job's working_dir: a zip file, named by its bytes.

Ray unpacks it on every node that works for the job (`unzip_package` in Ray's
_private/runtime_env/packaging.py): modes are kept, times are not, symlinks it does not know, and it
skips names that would lead out of the directory on some system.
"""

from __future__ import annotations

import errno
import hashlib
import ntpath
import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from gridops.errors import DiskFull, SourceUnreadable, UsageError
from gridops.observe import events
from gridops.transfers.names import printable
from gridops.transfers.sync.tree import Tree

MAX_PACKAGE = 100 * 1024 * 1024  # bytes that Ray's dashboard takes (its DASHBOARD_CLIENT_MAX_SIZE)
BIGGEST = 5  # files that are named when it is too much
QUICK = 1  # zlib's level: what others save in bytes they cost in time
EPOCH = (1980, 1, 1, 0, 0, 0)  # zip's first moment: the same tree makes the same bytes
READ_SIZE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Package:
    """A packed tree.

    `file` is open at its beginning, and gone once the block of `make_package` ends.
    """

    name: str  # _ray_pkg_DIGEST.zip
    file: IO[bytes]
    bytes: int
    files: int

    @property
    def uri(self) -> str:
        return f"gcs://{self.name}"


@contextmanager
def make_package(tree: Tree) -> Iterator[Package]:
    """Pack the tree into one file; the same tree makes the same bytes each time.

    Symlinks are replaced by their targets. Raises UsageError when it is more than Ray takes, naming
    the biggest files; SourceUnreadable, DiskFull. What cannot travel is said by warning events.
    """
    if tree.unreadable:
        raise _unreadable(printable(tree.unreadable[0]))
    with tempfile.TemporaryFile(prefix="gridops-") as file:
        packing = _Packing(tree, file)
        packing.run()
        size = file.seek(0, os.SEEK_END)
        digest = _digest(file)
        file.seek(0)
        yield Package(f"_ray_pkg_{digest}.zip", file, size, len(packing.sizes))


def _digest(file: IO[bytes]) -> str:
    found = hashlib.sha256()
    file.seek(0)
    while data := file.read(READ_SIZE):
        found.update(data)
    return found.hexdigest()[:40]


@dataclass
class _Packing:
    tree: Tree
    file: IO[bytes]
    sizes: dict[bytes, int] = field(default_factory=dict)  # name → bytes
    left_out: list[bytes] = field(default_factory=list)

    def run(self) -> None:
        with zipfile.ZipFile(self.file, "w", zipfile.ZIP_DEFLATED, compresslevel=QUICK) as archive:
            for name in self.tree.empty:
                if self._fits(name):
                    archive.writestr(_entry(name + b"/", stat.S_IFDIR | 0o755), b"")
            for name in self.tree.names:
                if not self._fits(name):
                    continue
                if name in self.tree.symlinks:
                    self._add_symlink(archive, name)
                else:
                    self._add(archive, name, self._path(name))
        if self.file.tell() > MAX_PACKAGE:
            raise self._too_big()
        if self.left_out:
            shown = ", ".join(printable(name) for name in self.left_out[:3])
            more = len(self.left_out) - 3
            rest = f" and {more} more" if more > 0 else ""
            message = f"left out, since a Ray package cannot hold them: {shown}{rest}"
            events.emit(events.WARNING, message=message)

    def _path(self, name: bytes) -> bytes:
        return os.fsencode(self.tree.root) + b"/" + name

    def _fits(self, name: bytes) -> bool:
        """True if Ray would unpack a file of this name; notes it if not."""
        try:
            text = name.decode()
        except UnicodeDecodeError:
            text = "\\"
        fits = "\\" not in text and not ntpath.splitdrive(text)[0]
        if not fits:
            self.left_out.append(name)
        return fits

    def _add_symlink(self, archive: zipfile.ZipFile, name: bytes) -> None:
        """Add a symlink's target: a file, or the part of the tree in a directory of the tree."""
        path, root = self._path(name), os.fsencode(self.tree.root)
        target = os.path.realpath(path)
        if os.path.isfile(target):  # noqa: PTH113 - a Path holds no bytes
            self._add(archive, name, target)
            return
        inside = target[len(root) + 1 :] + b"/" if target.startswith(root + b"/") else b""
        behind = [one for one in self.tree.names if inside and one.startswith(inside)]
        if not behind or name.startswith(inside):
            self.left_out.append(name)
        for one in behind if not name.startswith(inside) else ():
            if one not in self.tree.symlinks:
                self._add(archive, name + b"/" + one[len(inside) :], self._path(one))

    def _add(self, archive: zipfile.ZipFile, name: bytes, path: bytes) -> None:
        try:
            with open(path, "rb") as source:  # noqa: PTH123 - a Path holds no bytes
                found = os.fstat(source.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise _unreadable(printable(name))
                entry = _entry(name, stat.S_IFREG | stat.S_IMODE(found.st_mode) & 0o777 | 0o600)
                with archive.open(entry, "w", force_zip64=found.st_size > MAX_PACKAGE) as target:
                    shutil.copyfileobj(source, target, READ_SIZE)
        except FileNotFoundError:  # deleted meanwhile
            return
        except OSError as exc:
            if exc.errno == errno.ENOSPC:
                raise DiskFull(f"no room to pack the tree in {tempfile.gettempdir()}") from exc
            raise _unreadable(printable(name)) from exc
        self.sizes[name] = found.st_size
        if self.file.tell() > MAX_PACKAGE:
            raise self._too_big()

    def _too_big(self) -> UsageError:
        """Make the error that names the biggest files.

        Their sizes are taken from the tree, since the rest has not been packed.
        """
        for name in self.tree.names:
            with suppress(OSError):
                size = Path(os.fsdecode(self._path(name))).stat().st_size
                self.sizes.setdefault(name, size)
        biggest = sorted(self.sizes, key=lambda name: -self.sizes[name])[:BIGGEST]
        named = ", ".join(f"{printable(n)} {self.sizes[n] / 1e6:.1f} MB" for n in biggest)
        return UsageError(
            f"the tree is over {MAX_PACKAGE >> 20} MiB when packed, which is all that Ray's"
            f" dashboard takes; biggest: {named}",
            hint="exclude files by .gitignore or sync.exclude_patterns,"
            " or run `inv sync` and submit with --shared",
        )


def _entry(name: bytes, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name.decode(), EPOCH)
    entry.create_system = 3  # unix: what `external_attr` means
    entry.external_attr = mode << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    return entry


def _unreadable(name: str) -> SourceUnreadable:
    hint = "chmod it, or exclude it by sync.exclude_patterns"
    return SourceUnreadable(f"{name} cannot be read here", files=[name], hint=hint)
