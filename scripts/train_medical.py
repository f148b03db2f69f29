#!/usr/bin/env python
"""Train an adapter on a prepared data set: `train_medical.py --help`."""

import sys
from typing import Any

from sam3d_objects.cli.main import run
from sam3d_objects.cli.train import train


def __getattr__(name: str) -> Any:
    """Give `MedicalTrainer` to those who import it from here, without loading torch for `--help`."""
    if name == "MedicalTrainer":
        from sam3d_objects.training import MedicalTrainer

        return MedicalTrainer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


if __name__ == "__main__":
    sys.exit(run("train_medical.py", train, sys.argv[1:]))
