"""The files of a sandbox, as text. Paths are absolute and quoted: they may hold spaces."""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from gridops.errors import SandboxError, UsageError
from gridops.sandbox.processes import MARK_VARIABLE

SFTP_SERVERS = (
    "/usr/lib/openssh/sftp-server",
    "/usr/libexec/openssh/sftp-server",
    "/usr/libexec/sftp-server",
    "/usr/lib/ssh/sftp-server",
    "/usr/lib/misc/sftp-server",
)
SBIN = "/usr/sbin:/usr/local/sbin:/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/sbin"
MAX_STARTUPS = 1000


def tool(name: str, package: str) -> str:
    """The absolute path of an OpenSSH program (sshd insists on one). Raises SandboxError."""
    found = shutil.which(name) or shutil.which(name, path=SBIN)
    if not found:
        raise SandboxError(f"there is no {name} on this machine", hint=f"install {package}")
    return str(Path(found).absolute())


def user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        raise SandboxError(
            f"user id {os.getuid()} has no name on this machine",
            hint="sshd lets in only users that /etc/passwd knows",
        ) from None


def usable(root: Path) -> Path:
    """The absolute path of `root`; refused when OpenSSH's files could not spell it."""
    path = root.expanduser().absolute()
    if re.search(r"[\"'\\$\x00-\x1f{}*?]", str(path)):
        raise UsageError(
            f"a sandbox cannot live in {str(path)!r}",
            hint="choose a path without quotes, backslashes, `$`, braces and wildcards",
        )
    return path


def sshd_config(
    directory: Path,
    *,
    listen: str,
    port: int,
    keys: Path,
    options: Mapping[str, str],
    bare: bool = False,
) -> str:
    """The sshd_config in `directory`.

    sshd takes the first value of a keyword, so `options` lead.
    """
    lines = [f"{name} {value}" for name, value in options.items()]
    lines += [
        f"Port {port}",
        f"ListenAddress {listen}",
        f"HostKey {_quote(directory / 'host_key')}",
        f"PidFile {_quote(directory / 'pid')}",
        f"AuthorizedKeysFile {_quote(keys).replace('%', '%%')}",
        f"UsePAM {'yes' if _locked() else 'no'}",
        "StrictModes no",
        "PubkeyAuthentication yes",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "PermitRootLogin yes",
        "PermitUserRC no",
        "PrintMotd no",
        "PrintLastLog no",
        "UseDNS no",
        *_sessions(directory, bare),
    ]
    lines += [f"Subsystem sftp {path}" for path in SFTP_SERVERS if Path(path).exists()][:1]
    if "maxstartups" not in {name.lower() for name in options}:  # here the last value counts
        lines.append(f"MaxStartups {MAX_STARTUPS}")
    if _version() >= (9, 8):
        lines.append("PerSourcePenalties no")
    return "\n".join(lines) + "\n"


def log_option(log: Path) -> list[str]:
    """Arguments for sshd to write its log there; OpenSSH 10 expands % in them, 9.2 does not."""
    return ["-E", str(log).replace("%", "%%") if _version() >= (10, 0) else str(log)]


def _sessions(directory: Path, bare: bool) -> list[str]:
    """Keywords of sshd_config for the start of sessions.

    The login shell gets a home without start-up files; enter.sh then gives them the node's own.
    """
    home = directory / "homes" if bare else directory.parent / "empty"
    lines = [f"SetEnv {_quote(f'{MARK_VARIABLE}={directory}')} {_quote(f'HOME={home}')}"]
    enter = ["exec", "/bin/sh", str(directory.parent / "enter.sh"), str(directory)]
    return lines if bare else [*lines, f"ForceCommand {shlex.join(enter)}"]


def own_path() -> str:
    """Our own PATH, with the `python` that runs us: the nodes find what their maker finds."""
    return f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"


def session_env(shell: str | None, path: str, env: Mapping[str, str]) -> str:
    """The file that enter.sh reads: the node's shell and the environment of its sessions."""
    shells = [shell] if shell else ["/bin/bash", "/usr/bin/bash", "/bin/sh"]
    chosen = next((one for one in shells if Path(shlex.split(one)[0]).exists()), None)
    if chosen is None:
        raise UsageError(f"there is no shell {shell} on this machine")
    exported = {**env, "PATH": path}
    lines = [f"NODE_SHELL={shlex.quote(chosen)}"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in exported.items()]
    return "\n".join(lines) + "\n"


def ssh_config(root: Path, nodes: Iterable[tuple[str, str, int]]) -> str:
    """The ssh_config for `ssh -F`: `nodes` are name, address and port."""
    blocks = [f"Host {name}\n    HostName {host}\n    Port {port}\n" for name, host, port in nodes]
    common = {
        "User": user(),
        "IdentityFile": _quote(root / "client_key").replace("%", "%%"),
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "UserKnownHostsFile": _quote(root / "known_hosts").replace("%", "%%"),
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "StrictHostKeyChecking": "yes",
    }
    rest = "".join(f"    {name} {value}\n" for name, value in common.items())
    return "\n".join([*blocks, f"Host *\n{rest}"])


def inventory(root: Path, names: Iterable[str]) -> str:
    """The inventory as YAML (a JSON text is a YAML scalar)."""
    nodes = "".join(f"  {json.dumps(name)}: {{tags: [sandbox]}}\n" for name in names)
    return (
        "# Real sshd nodes on this machine. `inv sandbox.down` takes them down.\n"
        f"nodes:\n{nodes}"
        f"ssh: {{config_file: {json.dumps(str(root / 'ssh_config'), ensure_ascii=False)}}}\n"
        "health_check: {timeout: 10}\n"
    )


def _quote(value: Path | str) -> str:
    return f'"{value}"'


def _version() -> tuple[int, ...]:
    """sshd's version; an old one that knows no -V names it while it complains."""
    command = [tool("sshd", "openssh-server"), "-V"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    found = re.search(r"OpenSSH_(\d+)\.(\d+)", done.stdout + done.stderr)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _locked() -> bool:
    """True if our account is locked: `!` in the shadow file, as root's often is.

    Without PAM, sshd lets no such account in, not even with a key. Only root can read that file,
    and only then can sshd, so for an ordinary user the question does not arise.
    """
    with suppress(OSError):
        for line in Path("/etc/shadow").read_text(errors="replace").splitlines():
            if line.startswith(f"{user()}:!"):
                return True
    return False
