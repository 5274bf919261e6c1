"""gridops: your SSH machines as one grid. `from gridops import Grid` is its Python API."""

__version__ = "0.1.0"
DISTRIBUTION = "gridops-ssh"  # what to install; `gridops` on the package index is another project

TYPE_CHECKING = False  # as type checkers know it; `typing` itself would be an import
if TYPE_CHECKING:
    from gridops.grid import Grid as Grid
else:

    def __getattr__(name: str) -> object:
        """Import `Grid` when it is asked for: `import gridops` stays light."""
        if name != "Grid":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from gridops.grid import Grid

        return Grid
