"""Paths of metrics and history on this machine."""

from __future__ import annotations

import os
from pathlib import Path

DIRECTORY = "GRIDOPS_STATE_DIR"
SWITCH = "GRIDOPS_METRICS"


def state_dir() -> Path:
    """GRIDOPS_STATE_DIR, else the user's own state directory."""
    chosen = os.environ.get(DIRECTORY)
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return platformdirs.user_state_path("gridops")


def store_path() -> Path:
    return state_dir() / "gridops.db"


def recording_enabled() -> bool:
    """True if anything is to be recorded: GRIDOPS_METRICS=off says no."""
    return os.environ.get(SWITCH, "").lower() not in ("off", "0", "no", "false")
