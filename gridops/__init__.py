"""gridops: your SSH machines as one grid."""

__version__ = "0.1.0"
DISTRIBUTION = "gridops-ssh"  # what to install; `gridops` on the package index is another project
