"""The latent half's pretraining: distances by hand, what the losses move, standardised latents change nothing."""

import numpy as np
import pytest
import torch

from sam3d_objects.model.latent.features import FEATURES, distance_features, voxel_points
from sam3d_objects.pretraining.bank import FIELD_SIDE, FIELD_STEP, ShapeBank
from sam3d_objects.pretraining.flow import FlowBatches
from sam3d_objects.pretraining.latent_flow import LatentGenerator, latent_flow_loss
from sam3d_objects.pretraining.latent_vae import (
    LatentVae,
    distances_at,
    latent_vae_loss,
    shell_batch,
    standardise_latents,
)
from tests.training.small_model import SIDE, small_latent_stage, small_model

RADIUS_VOX = 18.0


@pytest.fixture(scope="module")
def ball() -> ShapeBank:
    """One ball, twice, in the middle of the field."""
    axis = np.arange(FIELD_SIDE) - (FIELD_SIDE - 1) / 2
    radius = np.sqrt(sum(part**2 for part in np.meshgrid(axis, axis, axis, indexing="ij")))
    field = np.clip(np.round((RADIUS_VOX - radius) / FIELD_STEP), -127, 127).astype(np.int8)
    cells = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    inside = np.sqrt(sum(part**2 for part in np.meshgrid(cells, cells, cells, indexing="ij"))) < 0.5
    center = np.full(3, (FIELD_SIDE - 1) / 2, np.float32)
    return ShapeBank(
        np.stack([field, field]),
        np.stack([inside, inside]).astype(np.uint8) * 255,
        np.stack([center, center]),
        np.full(2, 2 * RADIUS_VOX, np.float32),
    )


def test_distances_of_a_ball_by_hand(ball: ShapeBank) -> None:
    points = torch.tensor([[0.45, 0.0, 0.0], [0.0, -0.5, 0.0], [0.0, 0.0, 0.55]])
    found = distances_at(ball, 0, points)
    assert found.tolist() == pytest.approx([-0.05, 0.0, 0.05], abs=0.002)


def test_the_27_points_of_a_voxel() -> None:
    points = voxel_points(torch.tensor([[0, 1, 3]]), 4)
    assert points.shape == (1, FEATURES, 3)
    assert points[0, 0].tolist() == [-0.5, -0.25, 0.25] and points[0, -1].tolist() == [-0.25, 0.0, 0.5]
    assert points[0, 13].tolist() == [-0.375, -0.125, 0.375]  # the centre
    assert distance_features(torch.tensor([-1.0, 0.125, 9.0]), 4).tolist() == [-1.0, 0.5, 1.0]


def test_the_losses_move_every_weight_but_the_dead_ones(ball: ShapeBank) -> None:
    stage = small_latent_stage().train()
    vae = LatentVae(stage.encoder, stage.mesh_decoder)
    loss, figures = latent_vae_loss(vae, ball, 2, 0, 0)
    loss.backward()
    still = [n for n, p in vae.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
    assert set(figures) == {"distance", "sign", "rest", "kl"}

    model = small_model()
    batch = FlowBatches(model, ball, 2, 0, 1)[0]
    generator = torch.Generator().manual_seed(1)
    trained = LatentGenerator(stage)
    stage.requires_grad_(True)
    loss, _ = latent_flow_loss(stage, ball, batch, generator)
    trained.zero_grad()
    loss.backward()
    unused = {
        "condition_embedder.module_list.0.backbone.mask_token",
        "condition_embedder.module_list.1.backbone.mask_token",
    }
    unmoved = {n for n, p in trained.named_parameters() if p.grad is None or not p.grad.any()}
    assert {name for name in unmoved if "backbone.norm" not in name} <= unused


def test_standardised_latents_decode_to_the_same(ball: ShapeBank) -> None:
    stage = small_latent_stage()
    vae = LatentVae(stage.encoder, stage.mesh_decoder)
    shells = shell_batch(ball, [0]).voxels
    with torch.no_grad():
        mean, logvar = vae.encoder(shells)
        before = vae.decoder(shells.replace(mean)).features
        standardise_latents(vae, ball)
        after_mean, after_logvar = vae.encoder(shells)
        after = vae.decoder(shells.replace(after_mean)).features
    assert after_mean.mean(0).abs().max() < 1e-4 and torch.allclose(after_mean.std(0), torch.ones(8), atol=1e-3)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)
    ratio = (after_logvar - logvar).exp().mean(0)
    torch.testing.assert_close(ratio, 1 / mean.var(0), atol=1e-3, rtol=2e-2)
