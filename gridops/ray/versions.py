"""Comparison of versions between the nodes: the ones that differ from most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from gridops.errors import ClusterError
from gridops.inventory.nodeset import fold


def differences(what: str, versions: Mapping[str, str], hint: str) -> dict[str, ClusterError]:
    """One error for each node whose version is not that of most; none when all are the same."""
    counts = Counter(versions.values())
    if len(counts) < 2:
        return {}
    usual = max(counts, key=lambda version: (counts[version], version))
    same = fold(name for name, version in versions.items() if version == usual)
    return {
        name: ClusterError(
            f"{what} {version or 'none'} here, but {usual} on {same}; Ray needs the very same",
            node=name,
            hint=hint,
        )
        for name, version in versions.items()
        if version != usual
    }
