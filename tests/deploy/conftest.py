"""What tests of whole command lines share."""

from cli import inventory, project, tell

__all__ = ["inventory", "project", "tell"]
