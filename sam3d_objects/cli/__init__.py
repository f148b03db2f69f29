"""The command line: `sam3d-med COMMAND`, and the same functions for the programs in `scripts/`."""

from .main import main

__all__ = ["main"]
