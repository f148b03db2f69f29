#!/usr/bin/env python
"""One marked slice in, a mesh in patient millimetres out: `reconstruct.py --help`."""

import sys

from sam3d_objects.cli.reconstruct import reconstruct
from sam3d_objects.cli.main import run

if __name__ == "__main__":
    sys.exit(run("reconstruct.py", reconstruct, sys.argv[1:]))
