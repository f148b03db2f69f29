"""Pretrain the latent stage's condition embedder and flow together, on shells of procedural shapes seen as slices.

Letters: B shapes a step, N voxels of their shells.
"""

import torch
from torch import Tensor, nn

from sam3d_objects.model.flow_matching import logit_normal_times
from sam3d_objects.model.latent.stage import LatentStage
from sam3d_objects.model.sparse import SparseTensor
from sam3d_objects.pretraining.bank import ShapeBank
from sam3d_objects.pretraining.flow import CONDITION_DROPOUT, TIME_MEAN, TIME_STD, FlowBatch
from sam3d_objects.pretraining.latent_vae import shell_batch


class LatentGenerator(nn.Module):
    """What this pretraining updates."""

    def __init__(self, stage: LatentStage) -> None:
        super().__init__()
        self.condition_embedder, self.flow = stage.condition_embedder, stage.flow


def latent_flow_loss(
    stage: LatentStage, bank: ShapeBank, batch: FlowBatch, generator: torch.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Flow matching on the encoder's posterior means, one time and noise for each shape."""
    size = len(batch.shapes)
    keep_condition = torch.rand(size, generator=generator) >= CONDITION_DROPOUT
    t = logit_normal_times(size, TIME_MEAN, TIME_STD, generator)
    shells = shell_batch(bank, batch.shapes.tolist()).voxels
    grid = shells.grid
    noise = torch.randn(len(grid), stage.flow.in_channels, generator=generator)
    with torch.no_grad():
        data = stage.normalise(stage.encoder(shells)[0])
    tokens = stage.embed(batch.inputs) * keep_condition[:, None, None]
    at = t[grid.coordinates[:, 0].long(), None]
    velocity = stage.flow(SparseTensor((1 - at) * noise + at * data, grid), 1000 * t, tokens)
    loss = nn.functional.mse_loss(velocity, data - noise)
    return loss, {"loss": loss.item()}
