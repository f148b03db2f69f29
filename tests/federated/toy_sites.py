"""Sites that train in a blink: the toy stage with an adapter."""

from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from sam3d_objects.adapter import InferenceContract
from sam3d_objects.adapter.exchange import SVD
from sam3d_objects.federated import Site
from sam3d_objects.model.lora import freeze_base_params, inject_lora
from sam3d_objects.training import LoopOptions
from tests.training.toy_stage import ToySamples, ToyStage

BASE = "toy-base"
CONTRACT = InferenceContract(field_of_view="mask_margin", modality="mr")


class AdaptedToyStage(ToyStage):
    """A linear layer learns to double its input through an adapter, which begins alike everywhere."""

    def __init__(self, train: int = 7, rank: int = 2, seed: int = 0) -> None:
        super().__init__(train, dropout=0.0, noise=0.05)
        self.rank = rank
        self.train_samples = ToySamples(train, seed)
        torch.manual_seed(11)
        self.module = nn.Sequential(nn.Linear(3, 3))

    def set_trainable(self) -> str:
        inject_lora(self.module, ["0"], self.rank, 2.0 * self.rank)
        freeze_base_params(self.module)
        return "toy: an adapter"

    def record(self) -> dict[str, Any]:
        return {"rank": self.rank, "data": self.train_samples.seed}


def toy_site(folder: Path, number: int = 0, rule: str = SVD, **changes: Any) -> Site:
    """A site over samples of its own; `changes` are other arguments of `Site` and of the stage."""
    stage = changes.pop("stage", None) or AdaptedToyStage(24 + 8 * number, changes.pop("rank", 2), seed=number)
    arguments: dict[str, Any] = {"base_fingerprint": BASE, "contract": CONTRACT, "organs": ("liver",)} | changes
    return Site(
        stage,
        LoopOptions(epochs=1, batch_size=4, lr=0.05, device="cpu", checkpoint_steps=0),
        folder / f"site_{number}",
        rule=rule,
        console=Console(quiet=True),
        **arguments,
    )
