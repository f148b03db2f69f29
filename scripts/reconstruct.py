#!/usr/bin/env python
"""One marked slice in, a mesh in patient millimetres out: `reconstruct.py --help`."""

import sys

from sam3d_objects.cli.main import run
from sam3d_objects.cli.reconstruct import reconstruct

if __name__ == "__main__":
    sys.exit(run("reconstruct.py", reconstruct, sys.argv[1:]))
