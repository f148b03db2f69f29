#!/usr/bin/env python
"""Score an adapter on patients that it has not seen: `eval_medical.py --help`."""

import sys

from sam3d_objects.cli.evaluate import evaluate
from sam3d_objects.cli.main import run

if __name__ == "__main__":
    sys.exit(run("eval_medical.py", evaluate, sys.argv[1:]))
