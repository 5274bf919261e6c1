"""The other tools, each with what it needs to run one command on many nodes."""

from __future__ import annotations

import shutil
from pathlib import Path

from bench.common import HERE, PEERS
from bench.many import Many
from bench.measure import Contender

AT_ONCE = 100  # where all are to ask as many at once
ANSIBLES_OWN = "-C -o ControlMaster=auto -o ControlPersist=60s"  # its default for ssh_args


def peers(work: Path, nodes: Many, command: str, at_once: int | None = AT_ONCE) -> list[Contender]:
    """Every tool that is installed; without `at_once` each asks as many as it does by itself.

    With it, those that keep connections open (Ansible) are told not to: it is reaching nodes that
    is compared.
    """
    made = [
        *_in_python(nodes, command, at_once),
        _ansible(work, nodes, command, at_once),
        _clush(nodes, command, at_once),
    ]
    if shutil.which("pdsh"):
        made.append(_pdsh(nodes, command, at_once))
    hosts = work / "hosts"
    hosts.write_text("\n".join([*nodes.hosts, ""]))
    ssh = ["ssh", "-F", str(nodes.config), "-p", str(nodes.port)]
    if shutil.which("parallel"):
        how = ["--will-cite", *(["-j", str(at_once)] if at_once else [])]
        made.append(
            Contender(
                "GNU parallel", ["parallel", *how, "-a", str(hosts), *ssh, "{}", f"'{command}'"]
            )
        )
    if at_once:
        words = ["xargs", "-a", str(hosts), "-P", str(at_once), "-I{}", *ssh, "{}", command]
        made.append(Contender("xargs ssh", words))
    return made


def _in_python(nodes: Many, command: str, at_once: int | None) -> list[Contender]:
    hosts, port, key = ",".join(nodes.hosts), str(nodes.port), str(nodes.key)
    known = {
        "BENCH_HOSTS": hosts, "BENCH_PORT": port, "BENCH_KEY": key,
        "BENCH_KNOWN_HOSTS": str(nodes.known_hosts),
    }  # fmt: skip
    how = ["--parallel", str(at_once)] if at_once else []
    where = str(HERE / "peers/pyinfra_inventory.py")
    made = [
        Contender(
            "pyinfra", [str(PEERS / "pyinfra"), "-y", *how, where, "exec", "--", command], env=known
        )
    ]
    scripts = {
        "parallel-ssh": "pssh_probe.py",
        **({"Fabric": "fabric_probe.py"} if at_once else {}),
    }
    for name, script in scripts.items():
        words = [str(PEERS / "python"), str(HERE / "peers" / script), hosts, port, key, command]
        made.append(Contender(name, words))
    return made


def _ansible(work: Path, nodes: Many, command: str, at_once: int | None) -> Contender:
    inventory = work / "hosts.ini"
    inventory.write_text("\n".join([*nodes.hosts, ""]))
    how = ["-f", str(at_once)] if at_once else []
    return Contender(
        "Ansible",
        [str(PEERS / "ansible"), "all", "-i", str(inventory), *how, "-m", "raw", "-a", command],
        env={
            "ANSIBLE_SSH_ARGS": f"{'' if at_once else ANSIBLES_OWN} -F {nodes.config}",
            "ANSIBLE_REMOTE_PORT": str(nodes.port),
            "ANSIBLE_HOME": str(work / "ansible"),
            "ANSIBLE_LOCAL_TEMP": str(work / "ansible"),
            "PATH": f"{PEERS}:/usr/local/bin:/usr/bin:/bin",
        },
    )


def _clush(nodes: Many, command: str, at_once: int | None) -> Contender:
    how = ["-f", str(at_once)] if at_once else []
    options = f"-F {nodes.config} -p {nodes.port}"
    where = ["-w", ",".join(nodes.hosts), "-o", options]
    return Contender("clush", [str(PEERS / "clush"), "-S", *how, *where, command])


def _pdsh(nodes: Many, command: str, at_once: int | None) -> Contender:
    how = ["-f", str(at_once)] if at_once else []
    words = ["pdsh", "-S", "-R", "ssh", *how, "-w", ",".join(nodes.hosts), command]
    return Contender(
        "pdsh", words, env={"PDSH_SSH_ARGS_APPEND": f"-F {nodes.config} -p {nodes.port}"}
    )
