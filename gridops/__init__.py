"""gridops: your SSH machines as one grid."""

__version__ = "0.1.0"
