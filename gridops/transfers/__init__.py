"""Files to and from nodes; and `rsync`, patchwork's interface, for Fabric users."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gridops.system.ownership  # noqa: F401 # first of ours: see there

if TYPE_CHECKING:
    from gridops.transfers.fabric import rsync

__all__ = ["rsync"]


def __getattr__(name: str) -> Any:
    """Load `rsync` when it is asked for: the rooms below need none of it."""
    if name != "rsync":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gridops.transfers.fabric import rsync

    return rsync
