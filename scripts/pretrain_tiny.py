#!/usr/bin/env python
"""Pretrain the built-in tiny model on procedural shapes and write its weights into the package.

Resumable: run the same command again and it goes on where it stopped. On two CPU cores the defaults take about four
hours: 15 min for the shape bank and the structure VAE, 2.5 h for the structure flow, 30 min for the latent encoder and
the mesh decoder, 30 min for the latent flow.

    python scripts/pretrain_tiny.py --work runs/pretrain            # all of it
    python scripts/pretrain_tiny.py --work runs/pretrain --half latent  # the latent half alone; the other is kept
    python scripts/pretrain_tiny.py --work runs/pretrain --minutes 30   # at most half an hour a step, then save
    python scripts/pretrain_tiny.py --score 200                     # only score the shipped weights, rewrite the card
"""

import argparse
from pathlib import Path

import torch

from sam3d_objects.files import atomic_path
from sam3d_objects.model.weights import TINY_FOLDER, load_model
from sam3d_objects.pretraining.bank import load_bank
from sam3d_objects.pretraining.card import tiny_card
from sam3d_objects.pretraining.held_out import score_held_out
from sam3d_objects.pretraining.options import PretrainOptions
from sam3d_objects.pretraining.tiny import HALVES, pretrain, save_tiny

HELD_OUT_SEED = 1_000_003  # no pretraining draws from it


def main() -> None:
    """Read the options, train, write the weights and their card."""
    defaults = PretrainOptions(Path("runs/pretrain"))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=defaults.work, help="folder for the shape bank and checkpoints")
    parser.add_argument("--out", type=Path, default=TINY_FOLDER, help="folder to write the weight files to")
    parser.add_argument("--half", choices=HALVES, help="train this half alone and keep the shipped other one")
    for name in ("shapes", "vae_steps", "flow_steps", "draws", "latent_vae_steps", "latent_flow_steps", "workers"):
        parser.add_argument(f"--{name}", type=int, default=getattr(defaults, name))
    parser.add_argument("--minutes", type=float, help="stop after so many minutes of each step, saved and resumable")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads for the network")
    parser.add_argument("--score", type=int, metavar="N", help="do not train; score the weights on N held-out shapes")
    parser.add_argument("--history", default="the command's defaults.", help="how the weights were made, for the card")
    given = vars(parser.parse_args())
    torch.set_num_threads(given.pop("threads"))
    out, score, history = given.pop("out"), given.pop("score"), given.pop("history")
    half = given.pop("half")
    given["work"].mkdir(parents=True, exist_ok=True)
    if score is None:
        model, done = pretrain(PretrainOptions(**given), (half,) if half else HALVES)
        save_tiny(model, out)
        print(f"wrote {out}" + ("" if done else "; not at its end yet: run the same command again to go on"))
    write_card(out, given["work"], score or 200, history)


def write_card(folder: Path, work: Path, shapes: int, history: str) -> None:
    """Score the weights that were written, as they will be loaded, and write their card."""
    model = load_model(folder)
    bank = load_bank(work / "held_out", shapes, HELD_OUT_SEED, model.settings.resolution, 1).first(shapes)
    scores = score_held_out(model, bank, HELD_OUT_SEED)
    with atomic_path(folder / "README.md") as temporary:
        temporary.write_text(tiny_card(model, scores, history), encoding="utf-8")
    print(scores)


if __name__ == "__main__":
    main()
