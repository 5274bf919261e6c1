"""A node like a router: dropbear for its sshd, BusyBox for everything else, and no bash.

It is a chroot in a mount namespace of its own, since dropbear looks for keys only where /etc/passwd
says. Its home has the same path inside and outside.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.nodes import end, find_program, processes_of, wait_until

from gridops.inventory.settings import SshSettings
from gridops.model import Node
from gridops.reach import link_to
from gridops.reach.link import Link
from gridops.sandbox.server import free_port, keygen

NAME = "router"
SBIN = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
ENDS_WITH_US = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount")
ENTER = """
root=$1 base=$2
shift 2
mkdir -p "$root/proc" "$root/dev" "$root/$base"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
mount --bind "$base" "$root/$base"
exec chroot "$root" "$@"
"""


@dataclass(frozen=True)
class Dropbear:
    """A running one."""

    home: Path
    ssh: SshSettings

    def link(self) -> Link:
        return link_to(Node(NAME, host=NAME), self.ssh)


@contextmanager
def dropbear(base: Path, runtime: Path) -> Iterator[Dropbear]:
    """One in the directory `base`, below the `runtime` whose paths its runs may use."""
    if os.getuid():
        pytest.skip("only root can make a chroot")
    base.mkdir()
    root, home = base / "root", base / "home"
    _fill(root, home)
    port = free_port("127.0.0.1")
    config = _keys(base, root, home, port)
    command = ["/bin/dropbear", "-F", "-E", "-s", "-m", "-r", "/etc/host_key"]
    command += ["-p", f"127.0.0.1:{port}", "-P", "/pid"]
    with (base / "log").open("w") as log:
        child = subprocess.Popen(
            [*ENDS_WITH_US, "sh", "-euc", ENTER, "sh", str(root), str(runtime), *command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={"PATH": SBIN},
        )
    try:
        wait_until(lambda: (root / "pid").exists() or child.poll() is not None)
        assert child.poll() is None, (base / "log").read_text()
        yield Dropbear(home, SshSettings.model_validate({"config_file": config}))
    finally:
        child.kill()
        child.wait()
        end(processes_of(home, patience=0))
        shutil.rmtree(base)


def _fill(root: Path, home: Path) -> None:
    """The root file system, with the two programs and their libraries."""
    for path in (root / "bin", root / "etc", root / "tmp", root / "root", home / ".ssh"):
        path.mkdir(parents=True, mode=0o700)
    for name in ("busybox", "dropbear"):
        tool = Path(find_program(name))
        shutil.copy(tool, root / "bin" / name)
        told = subprocess.run(["ldd", str(tool)], capture_output=True, text=True, check=False)
        for library in re.findall(r"(/\S+) \(0x", told.stdout):
            place = root / library.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, place)
    subprocess.run(
        ["chroot", str(root), "/bin/busybox", "--install", "-s", "/bin"],
        check=True,
        env={"PATH": SBIN},
    )
    (root / "etc" / "passwd").write_text(f"root:x:0:0:root:{home}:/bin/sh\n")
    (root / "etc" / "group").write_text("root:x:0:\n")
    (root / "etc" / "shells").write_text("/bin/sh\n")


def _keys(base: Path, root: Path, home: Path, port: int) -> Path:
    """The keys of both sides, and the ssh_config that knows them."""
    keygen(base / "key", "router")
    (home / ".ssh" / "authorized_keys").write_text((base / "key.pub").read_text())
    made = subprocess.run(
        ["dropbearkey", "-t", "ed25519", "-f", str(root / "etc" / "host_key")],
        capture_output=True,
        text=True,
        check=True,
    )
    (public,) = re.findall(r"(?m)^(ssh-ed25519 \S+)", made.stdout)
    (base / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}\n")
    config = base / "ssh_config"
    config.write_text(
        f"Host {NAME}\n HostName 127.0.0.1\n Port {port}\n User root\n IdentityFile {base}/key\n"
        f" IdentitiesOnly yes\n IdentityAgent none\n UserKnownHostsFile {base}/known_hosts\n"
        " GlobalKnownHostsFile /dev/null\n"
    )
    return config
