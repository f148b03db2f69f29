"""What a run leaves for people: its configuration, its environment and TensorBoard's events."""

import datetime
import os
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning_fabric
import numpy as np
import torch

import sam3d_objects
from sam3d_objects.files import write_json
from sam3d_objects.training.validated import Picture

CONFIG_FILE = "config.json"
ENVIRONMENT_FILE = "environment.json"
HISTORY_FILE = "history.json"


def write_run_record(run_dir: Path, record: Mapping[str, Any], device: torch.device, step: int) -> None:
    """Write `config.json` (what makes the run this run) and `environment.json` (where it ran last)."""
    write_json(run_dir / CONFIG_FILE, dict(record))
    write_json(run_dir / ENVIRONMENT_FILE, {"started_at_step": step, **environment(device)})


def environment(device: torch.device) -> dict[str, Any]:
    """Return versions, machine, device and the state of the source tree."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "sam3d_medical": sam3d_objects.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "lightning_fabric": lightning_fabric.__version__,
        "platform": platform.platform(),
        "device": f"{device.type} {name}".strip(),
        "cpus": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "git": git_state(Path(sam3d_objects.__file__).parent),
    }


def git_state(folder: Path) -> dict[str, Any] | None:
    """Return the commit around `folder` and whether the tree has changes; None without git or a commit."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (FileNotFoundError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "changed": bool(changed)}


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


class Scalars:
    """TensorBoard scalars and pictures of a run; events at or after `step`, left by a killed run, are hidden."""

    def __init__(self, run_dir: Path, step: int) -> None:
        # Imported here: tensorboard takes a second to load, and only training needs it.
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(run_dir / "tensorboard", purge_step=step)

    def add(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Add scalars as `group/name`."""
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)

    def add_pictures(self, group: str, pictures: Mapping[str, Picture], step: int) -> None:
        """Add pictures (Y, X, 3) as `group/name`."""
        for name, picture in pictures.items():
            self._writer.add_image(f"{group}/{name}", picture, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is pending."""
        self._writer.close()
