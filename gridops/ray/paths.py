"""Paths of a Ray cluster, on its nodes and at home. Nothing else in Python spells these.

On a node, below ~/.gridops/ray (node.sh says what is in them):

    CLUSTER/token     the cluster's token
    CLUSTER/NODE/     one node's part; a home may be shared by nodes

and below its remote_root

    .ray/VERSION-HASH/      a virtual environment; its file `ready` says that it is whole
    .ray/wheels/            what --wheelhouse brought
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gridops.jobs.paths import BASE

if TYPE_CHECKING:
    from gridops.inventory.settings import RaySettings

RAY_BASE = f"{BASE}/ray"
WHEELS = "wheels"  # what --wheelhouse brought, beside the environments


def cluster_key(head: str, port: int) -> str:
    """The cluster's name, HEAD-PORT: the same on every machine."""
    return f"{head}-{port}"


def requirements(settings: RaySettings) -> Sequence[str]:
    """Requirements for pip; Ray's dashboard, and with it its Jobs API, is in `default`."""
    extras = ",".join(dict.fromkeys(("default", *settings.extras)))
    return (f"ray[{extras}]=={settings.version}", *settings.requirements)


def venv_name(settings: RaySettings) -> str:
    """Directory name of the virtual environment; other requirements give another name."""
    wish = json.dumps([*requirements(settings), settings.python])
    return f"{settings.version}-{hashlib.sha256(wish.encode()).hexdigest()[:8]}"


def node_token_file(key: str) -> str:
    """Path of the cluster's token on a node; put it in double quotes."""
    return f"{RAY_BASE}/{key}/token".replace("~", "$HOME", 1)


def token_file(key: str) -> Path:
    """Path of the cluster's token on this machine."""
    import platformdirs

    return platformdirs.user_state_path("gridops") / "ray" / f"{key}.token"
