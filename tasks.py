"""The tasks of this checkout: `inv --list`."""

from gridops.tasks import ns

__all__ = ["ns"]
