"""Transport to a node: OpenSSH connections, control masters, tunnels and scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gridops.inventory.settings import SshSettings
    from gridops.model import Node
    from gridops.reach.link import Link


def link_to(node: Node, ssh: SshSettings) -> Link:
    """The Link that reaches `node`, as its inventory entry says. Does not connect yet."""
    if node.connection == "local":
        from gridops.reach.local import LocalLink

        return LocalLink(node)
    from gridops.reach.ssh import SshLink

    return SshLink(node, ssh)
