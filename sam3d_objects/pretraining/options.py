"""What one pretraining of the tiny model is made of."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PretrainOptions:
    """Seeds and sizes; they fix the result.

    Attributes:
        work: folder of the shape bank and the checkpoints.
        shapes: procedural shapes in the bank.
        vae_steps, vae_batch: the structure VAE's training.
        flow_steps, flow_batch, draws: the structure flow's; `draws` times and noises for each of `flow_batch` slices.
        latent_vae_steps, latent_vae_batch: the latent encoder's and the mesh decoder's training.
        latent_flow_steps, latent_flow_batch: the latent flow's.
        workers: processes that draw shapes and slices.
        minutes: stop each step after so long, saved and resumable; None for the end.
    """

    work: Path
    shapes: int = 12000
    vae_steps: int = 950
    vae_batch: int = 8
    flow_steps: int = 5000
    flow_batch: int = 24
    draws: int = 5
    latent_vae_steps: int = 800
    latent_vae_batch: int = 1
    latent_flow_steps: int = 3000
    latent_flow_batch: int = 8
    seed: int = 7
    workers: int = 1
    minutes: float | None = None

    @property
    def stop_after_s(self) -> float | None:
        """`minutes` as the loop takes it."""
        return None if self.minutes is None else 60 * self.minutes
