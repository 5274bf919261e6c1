"""The check that the package `gridops` on the path is this one.

A project of the package index is called gridops, too, and its import package as well. pip installs
both into one directory without a word: the one that comes last overwrites `__init__.py` and more of
the other, and takes them along when it is removed. Importing this module raises ImportError where
that has happened to us; the doors into the package (`tasks._first`, `grid`, `transfers`) see to it
first. It costs one look at an attribute; `neighbour` reads what is installed, for those who ask.

The package itself is the door above all rooms: it is read here as what Python has loaded.
"""

from __future__ import annotations

import sys

DISTRIBUTION = "gridops-ssh"
_DOOR = sys.modules[__name__.partition(".")[0]]
PACKAGE_VERSION: str = getattr(_DOOR, "__version__", "")
REMEDY = (
    f"pip uninstall gridops, then install {DISTRIBUTION} again with --force-reinstall "
    "(to have both, use a virtual environment for each)"
)


def neighbour() -> str:
    """Name another project installed over the same files; "" for none."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        other = distribution("gridops")
    except PackageNotFoundError:
        return ""
    # An egg-info directory that lies in a checkout owns no files, and has no RECORD.
    record = other.read_text("RECORD") or ""
    if not any(line.startswith("gridops/__init__.py,") for line in record.splitlines()):
        return ""
    return (
        f"gridops {other.version}, another project, is installed in the same place; removing "
        f"or upgrading it breaks {DISTRIBUTION}: {REMEDY}"
    )


def _find_problem() -> str:
    """The problem with the package, in words; "" for none."""
    if getattr(_DOOR, "DISTRIBUTION", "") == DISTRIBUTION:
        return ""
    place = __file__.rpartition("/")[0]
    return (
        f"{place} is no longer {DISTRIBUTION} alone: another project called gridops was installed "
        f"over it, or removed: {REMEDY}"
    )


if _problem := _find_problem():
    raise ImportError(_problem, name="gridops")
