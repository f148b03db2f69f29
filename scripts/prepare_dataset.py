#!/usr/bin/env python
"""Prepare a mesh data set from labelled scans: `prepare_dataset.py --help`."""

import sys

from sam3d_objects.cli.main import run
from sam3d_objects.cli.prepare import prepare

if __name__ == "__main__":
    sys.exit(run("prepare_dataset.py", prepare, sys.argv[1:]))
