"""Trees of files that Debian machines start from: built once by mmdebstrap, and kept.

They lie in GRIDOPS_MACHINES, else in the cache directory of whoever runs the tests: 200 MB each.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path

SUITES = ("bookworm", "trixie", "sid")  # Debian 12, Debian 13, unstable
MAX_AGE = 30 * 86400.0  # seconds
BUILD_TIMEOUT = 900.0  # seconds
PACKAGES = (
    "systemd-sysv", "libpam-systemd", "dbus", "dbus-user-session",
    "openssh-server", "rsync", "git", "procps",
)  # fmt: skip
OPTIONS = (
    "--mode=root",
    "--variant=minbase",
    f"--include={','.join(PACKAGES)}",
    '--aptopt=Acquire::Languages "none"',
    '--aptopt=Acquire::Check-Valid-Until "false"',  # a mirror may lag; signatures are still checked
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    '--customize-hook=for user in alice bob; do chroot "$1" useradd -m -s /bin/bash $user; done',
    '--customize-hook=: >"$1/etc/machine-id"',
    # Units for hardware, clocks and networks, which such a machine gets from its host.
    '--customize-hook=chroot "$1" systemctl mask systemd-networkd systemd-timesyncd',
)
CACHE = Path(
    os.environ.get("GRIDOPS_MACHINES")
    or Path(
        os.environ.get("XDG_CACHE_HOME") or Path(pwd.getpwuid(os.getuid()).pw_dir) / ".cache",
        "gridops-tests/machines",
    )
)


def find_root(suite: str) -> Path:
    """The tree of that release, built where there is none yet.

    One that is old, or of another recipe, is built anew. Raises RuntimeError.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    recipe = hashlib.sha256("\0".join(OPTIONS).encode()).hexdigest()[:8]
    root = CACHE / f"{suite}-{recipe}"
    with (CACHE / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists() or time.time() - root.stat().st_mtime > MAX_AGE:
            _build(suite, root)
    return root


def _build(suite: str, root: Path) -> None:
    """Aside, and renamed when whole: a build that was cut short is none."""
    unfinished = CACHE / f"{suite}.new"
    log = CACHE / f"{suite}.log"
    for old in CACHE.glob(f"{suite}[-.]*"):
        if old.is_dir():
            shutil.rmtree(old)
    print(f"building a root of Debian {suite} in {root}", flush=True)
    with log.open("w") as output:
        done = subprocess.run(
            ["mmdebstrap", *OPTIONS, suite, str(unfinished), f"deb {find_archive()} {suite} main"],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            timeout=BUILD_TIMEOUT, check=False,
        )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"no root of Debian {suite}: {log.read_text()[-500:]}")
    unfinished.rename(root)
    os.utime(root)


def find_archive() -> str:
    """The address of the Debian archive that this machine's apt is set up for.

    Raises RuntimeError.
    """
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)"]
    if not shutil.which("apt-get"):
        raise RuntimeError("there is no apt-get, which says where a Debian archive is")
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    for address in told.stdout.split():
        if address.endswith("/debian/"):
            return address
    raise RuntimeError("apt is not set up for a Debian archive here (addresses in /debian/)")
