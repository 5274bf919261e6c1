"""What tests of whole command lines share."""

from support.cli import inventory, project, tell

__all__ = ["inventory", "project", "tell"]
