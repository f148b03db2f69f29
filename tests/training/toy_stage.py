"""A stage small enough to be worked by hand: a linear network learns to double its input."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sam3d_objects.files import atomic_path, write_json


class ToySamples:
    """Samples (index, value); the value depends on the epoch, as an augmented one does."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def __len__(self) -> int:
        return self.count

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __getitem__(self, index: int) -> tuple[int, Any]:
        return index, np.random.default_rng((self.seed, self.epoch, index)).normal(size=3).astype(np.float32)


class ToyStage:
    """Noise in the loss, dropout from the global generator, one frozen layer, one trained."""

    name = "toy"

    def __init__(self, train: int = 7, validation: int = 3, noise: float = 0.1, dropout: float = 0.2) -> None:
        self.module: nn.Module = nn.Sequential(nn.Linear(3, 3), nn.Dropout(dropout), nn.Linear(3, 3))
        self.train_samples = ToySamples(train)
        self.validation_samples: Sequence[Any] = [ToySamples(validation, seed=1)[i] for i in range(validation)]
        self.noise = noise
        self.bad_index: int | None = None
        self.validation_draws: list[Tensor] = []
        self.saved: list[dict[str, Tensor]] = []

    def set_trainable(self) -> str:
        for parameter in self.module.parameters():
            nn.init.normal_(parameter, std=0.5)
        self.module[0].requires_grad_(False)  # type: ignore[index]  # a Sequential
        return "toy: the last layer is trained"

    def prepare(self, device: torch.device, say: Any) -> None:
        torch.rand(5)  # what a stage draws here must not reach the loop

    def make_batch(self, samples: Sequence[Any]) -> dict[str, Tensor]:
        values = torch.stack([torch.from_numpy(value) for _, value in samples])
        if any(index == self.bad_index for index, _ in samples):
            values = values * torch.nan
        return {"x": values}

    def sample_names(self, samples: Sequence[Any]) -> list[str]:
        return [f"toy_{index}" for index, _ in samples]

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        return {"noise": torch.randn(count, 3, generator=generator) * self.noise}

    def validation_draw(self, count: int, generator: torch.Generator) -> dict[str, Tensor]:
        self.validation_draws.append(torch.randn(count, generator=generator))
        return {}

    def loss(
        self, network: nn.Module, batch: dict[str, Tensor], draws: dict[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss = (network(batch["x"]) - 2 * batch["x"] - draws["noise"]).square().mean()
        return loss, {"noise": draws["noise"].square().mean()}

    def validate(self, network: nn.Module, batch: dict[str, Tensor], draws: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": (network(batch["x"]) - 2 * batch["x"]).square().mean()}

    def score(self, metrics: Mapping[str, float]) -> float | None:
        return metrics.get("dice", -metrics.get("loss", 0.0)) if metrics else None

    def save(self, folder: Path, metrics: Mapping[str, float]) -> None:
        state = {k: p.detach().clone() for k, p in self.module.named_parameters() if p.requires_grad}
        self.saved.append(state)
        with atomic_path(folder / "adapter_model.safetensors") as temporary:
            save_file(state, temporary)
        write_json(folder / "metrics.json", dict(metrics))

    def record(self) -> dict[str, Any]:
        return {"noise": self.noise, "data": "toy"}

    def counts(self) -> dict[str, str]:
        return {"samples": str(len(self.train_samples))}
