#!/usr/bin/env python
"""Pretrain the built-in tiny model on procedural shapes and write its weights into the package.

Resumable: run the same command again and it goes on where it stopped. On two CPU cores the defaults take about two
hours (15 min for the shape bank and the VAE, the rest for the flow).

    python scripts/pretrain_tiny.py --work runs/pretrain            # all of it
    python scripts/pretrain_tiny.py --work runs/pretrain --minutes 30   # half an hour of it, then save the best so far
"""

import argparse
from pathlib import Path

import torch

from sam3d_objects.model.weights import TINY_FOLDER
from sam3d_objects.pretraining.tiny import PretrainOptions, pretrain, save_tiny


def main() -> None:
    """Read the options, train, write the weights."""
    defaults = PretrainOptions(Path("runs/pretrain"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=defaults.work, help="folder for the shape bank and checkpoints")
    parser.add_argument("--out", type=Path, default=TINY_FOLDER, help="folder to write the three weight files to")
    for name in ("shapes", "vae_steps", "flow_steps", "flow_batch", "draws", "workers"):
        parser.add_argument(f"--{name}", type=int, default=getattr(defaults, name))
    parser.add_argument("--minutes", type=float, help="stop after so many minutes of each step, saved and resumable")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads for the network")
    given = vars(parser.parse_args())
    torch.set_num_threads(given.pop("threads"))
    out = given.pop("out")
    given["work"].mkdir(parents=True, exist_ok=True)
    model, done = pretrain(PretrainOptions(**given))
    save_tiny(model, out)
    print(f"wrote {out}" + ("" if done else "; not at its end yet: run the same command again to go on"))


if __name__ == "__main__":
    main()
