"""Typed settings, one class a section of the inventory file; every default is here.

All are frozen and refuse unknown keys. Durations are seconds once validated. Constructing one with
a bad value raises pydantic's ValidationError; `gridops.inventory` turns that into InventoryErrors.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gridops.inventory.nodeset import expand
from gridops.inventory.types import (
    BRACKETED,
    Count,
    Delay,
    Duration,
    Host,
    Line,
    Lines,
    LocalPath,
    Name,
    Names,
    Percent,
    Port,
    PortRange,
    RemotePath,
    Shell,
    User,
    Weight,
    check_host,
)

# ssh options with a key of their own in the inventory, in lower case as ssh compares them
_ELSEWHERE = {
    "connecttimeout": "use ssh.connect_timeout",
    "controlpersist": "use ssh.persist",
    "hostname": "use the node's host",
    "port": "use the node's port",
    "stricthostkeychecking": "use ssh.host_keys",
    "user": "use the node's user",
}
_OURS = {
    *("batchmode", "clearallforwardings", "controlmaster", "controlpath", "loglevel"),
    *("permitlocalcommand", "remotecommand", "requesttty", "serveralivecountmax"),
    "serveraliveinterval",
}


def _check_option_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", name):
        raise ValueError("should be the name of an ssh_config(5) option")
    if name.lower() in _ELSEWHERE:
        raise ValueError(f"cannot be set here: {_ELSEWHERE[name.lower()]}")
    if name.lower() in _OURS:
        raise ValueError("cannot be set here: gridops sets it itself")
    return name


def _option_text(value: object) -> object:
    """YAML's booleans and numbers in ssh's spelling."""
    if isinstance(value, bool) or value in ("true", "True", "false", "False"):
        return "yes" if value in (True, "true", "True") else "no"
    return str(value) if isinstance(value, int | float) else value


OptionText = Annotated[Line, BeforeValidator(_option_text)]
OptionName = Annotated[str, AfterValidator(_check_option_name)]


class Section(BaseModel):
    """Base of all sections."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


class SshSettings(Section):
    """Connections to the nodes."""

    pool_size: Count = Field(default=64, description="Limit of connections open at once.")
    connect_timeout: Duration = Field(default=5.0, description="Time limit to connect.")
    persist: Annotated[Duration, Field(ge=1)] = Field(
        default=600.0, description="Time that an unused connection stays open."
    )
    host_keys: Literal["strict", "accept-new"] = Field(
        default="strict",
        description="strict: a node's host key must be known (`inv trust` adds it); "
        "accept-new: a key seen for the first time is added, a changed one refused.",
    )
    options: dict[OptionName, OptionText] = Field(
        default_factory=dict, description="Further options of ssh_config(5), name: value."
    )
    config_file: LocalPath | None = Field(
        default=None,
        description="Read this instead of ~/.ssh/config (ssh -F); a relative path starts at the "
        "inventory's directory.",
    )


class HealthSettings(Section):
    """Probing, scoring and judging of nodes."""

    timeout: Duration = Field(default=10.0, description="Time limit for the answer of one node.")
    deadline: Duration | None = Field(
        default=60.0, description="Time limit for all nodes together."
    )
    max_workers: Count = Field(default=64, description="Number of nodes probed at once.")
    cpu_weight: Weight = Field(default=0.5, description="Weight of the CPU load in the score.")
    gpu_weight: Weight = Field(
        default=0.5, description="Weight of the used GPU memory in the score."
    )
    max_cpu_percent: Percent = Field(
        default=100.0, description="A higher CPU load makes a node degraded; 100: never."
    )
    max_load_per_core: Weight = Field(
        default=10.0, description="A higher one-minute load per core makes a node degraded."
    )
    max_memory_percent: Percent = Field(
        default=95.0, description="Fuller memory makes a node degraded."
    )
    max_disk_percent: Percent = Field(
        default=95.0, description="A fuller disk under remote_root makes a node degraded."
    )
    max_gpu_temperature_c: Weight = Field(
        default=90.0, description="Hotter GPUs make a node degraded."
    )

    @model_validator(mode="after")
    def _weighs_something(self) -> HealthSettings:
        if self.cpu_weight == 0 and self.gpu_weight == 0:
            raise ValueError("cpu_weight and gpu_weight cannot both be 0")
        return self


class SyncSettings(Section):
    """Sync of project files to a node."""

    exclude_patterns: Lines = Field(
        default=(), description="rsync patterns of files that are not synced."
    )
    gitignore: bool = Field(
        default=True,
        description="In a git work tree, sync exactly git's files, not ignored ones.",
    )
    delete: bool = Field(
        default=True, description="Delete on the node what an earlier sync brought."
    )
    timeout: Duration = Field(
        default=3600.0, description="Time limit for the transfer to one node."
    )


class JobSettings(Section):
    """Retention of runs on their node."""

    keep: Annotated[Duration, Field(ge=3600)] | None = Field(
        default=30 * 86400.0,
        description="Time that a run and its output are kept after its end; null: for ever.",
    )


class RetrySettings(Section):
    """Retries of reaching a node: their number and pauses."""

    max_retries: int = Field(
        default=3, ge=0, le=1000, description="Number of attempts after the first one."
    )
    initial_delay: Delay = Field(default=1.0, description="Delay before the second attempt.")
    max_delay: Delay = Field(default=60.0, description="Limit of the delay.")
    exponential_base: float = Field(
        default=2.0,
        ge=1,
        le=1000,
        allow_inf_nan=False,
        description="Factor from each delay to the next.",
    )
    jitter: bool = Field(default=True, description="Vary each delay at random by up to 25 %.")
    max_elapsed: Duration | None = Field(
        default=None, description="No attempt begins later than this."
    )


class RaySettings(Section):
    """The Ray cluster on the nodes."""

    version: Line | None = Field(default=None, description="The exact version of Ray to install.")
    head: Name | None = Field(
        default=None, description="The node that is the head; unset: the first one."
    )
    port: Port = Field(default=6379, description="The head's port.")
    dashboard_port: Port = Field(
        default=8265, description="The dashboard's port, on the head's loopback."
    )
    client_port: Port = Field(default=10001, description="The head's port for ray:// clients.")
    ports: PortRange | None = Field(
        default=None,
        description="FIRST-LAST, at least 100 ports: all that Ray listens on beside those of the "
        "head, for firewalls; unset: as Ray chooses.",
    )
    python: Line | None = Field(default=None, description="The nodes' Python: a version or a path.")
    extras: Names = Field(default=("default",), description="Ray's extras to install.")
    requirements: Lines = Field(default=(), description="Further pip requirements of every node.")
    pip_args: Lines = Field(
        default=(), description="Further arguments of pip, or of uv pip where a node has uv."
    )
    temp_dir: RemotePath = Field(
        default="/tmp",
        description="Where Ray keeps its sessions, logs and spilled objects; a short path.",
    )
    settle: Delay = Field(
        default=0.5, description="Time after the start when the nodes are checked once more."
    )

    @model_validator(mode="after")
    def _has_room(self) -> RaySettings:
        if self.ports is not None:
            first, last = (int(port) for port in self.ports.split("-"))
            for name in ("port", "dashboard_port", "client_port"):
                if first <= getattr(self, name) <= last:
                    raise ValueError(f"ports {self.ports} must not hold {name}")
        return self


class NodeRay(Section):
    """One node's part in the Ray cluster; unset: what Ray finds."""

    num_cpus: int | None = Field(default=None, ge=0, description="CPUs that Ray may use.")
    num_gpus: int | None = Field(default=None, ge=0, description="GPUs that Ray may use.")
    labels: dict[Name, Line] = Field(default_factory=dict, description="Ray labels of the node.")
    node_ip: Host | None = Field(default=None, description="The address other nodes reach it at.")


class NodeDefaults(Section):
    """Defaults for every node that does not say otherwise."""

    user: User | None = Field(default=None, description="The login; unset: as OpenSSH resolves it.")
    port: Port | None = Field(
        default=None, description="sshd's port; unset: as OpenSSH resolves it."
    )
    connection: Literal["ssh", "local"] = Field(
        default="ssh", description="ssh, or local: this machine, without SSH."
    )
    tags: Names = Field(default=(), description="Groups the node is in: --tags gpu, --nodes @gpu.")
    slots: Count = Field(default=1, description="Number of runs that the node takes at once.")
    env_setup: Shell = Field(default="", description="Shell text sourced before every command.")
    remote_root: RemotePath | None = Field(
        default=None, description="Where project trees go on this node; unset: the top remote_root."
    )
    ray: NodeRay = Field(default=NodeRay(), description="What the node offers to a Ray cluster.")


def _check_hosts(text: str) -> str:
    """Check a host, or a node set of hosts: one for each name."""
    if not re.search(r"[\[,]", text) or BRACKETED.fullmatch(text):
        return check_host(text)
    for host in expand(text):
        check_host(host)
    return text


class NodeSettings(NodeDefaults):
    """One entry of `nodes`: a node, or a node set of equal nodes."""

    host: Annotated[str, AfterValidator(_check_hosts)] | None = Field(
        default=None,
        description="Host name, alias of ~/.ssh/config or address; unset: the node's name. "
        "For a node set either a node set of as many hosts, or one for all.",
    )


class Settings(Section):
    """Everything in an inventory file but the nodes."""

    remote_root: RemotePath = Field(
        default="~/gridops", description="Project trees go to <remote_root>/<project> on the nodes."
    )
    defaults: NodeDefaults = Field(default=NodeDefaults(), description="Defaults of every node.")
    health_check: HealthSettings = Field(
        default=HealthSettings(), description="Probing and scoring."
    )
    ssh: SshSettings = Field(default=SshSettings(), description="Connections to the nodes.")
    sync: SyncSettings = Field(default=SyncSettings(), description="What a sync copies.")
    jobs: JobSettings = Field(default=JobSettings(), description="Keeping of runs on their node.")
    retry: RetrySettings = Field(default=RetrySettings(), description="Retries of reaching a node.")
    ray: RaySettings = Field(default=RaySettings(), description="The Ray cluster.")
