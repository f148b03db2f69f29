"""The VAE's pretraining: symmetries, seeded losses, and latents of unit size that decode to the same."""

import numpy as np
import pytest
import torch

from sam3d_objects.model.structure.vae import StructureDecoder, StructureEncoder
from sam3d_objects.pretraining.bank import ShapeBank
from sam3d_objects.pretraining.vae import StructureVae, random_symmetry, scale_latents, solid_batch, vae_loss


@pytest.fixture
def vae() -> StructureVae:
    torch.manual_seed(0)
    return StructureVae(
        StructureEncoder(1, 3, 1, [4, 4, 8], num_res_blocks_middle=1),
        StructureDecoder(1, 3, 1, [8, 4, 4], num_res_blocks_middle=1),
    )


@torch.no_grad()
def test_scaled_latents_decode_to_the_same(vae: StructureVae, shapes: ShapeBank) -> None:
    solids = torch.from_numpy(shapes.solids).float()[:, None] / 255
    mean, logvar = vae.encoder(solids)
    noise = torch.randn(mean.shape)
    before = vae.decoder(mean), vae.decoder(vae.encoder.sample(mean, logvar, noise))
    rms = scale_latents(vae, shapes)
    assert rms == pytest.approx(float(mean.square().mean().sqrt()), rel=1e-5)
    assert abs(rms - 1) > 0.05
    scaled, scaled_logvar = vae.encoder(solids)
    assert float(scaled.square().mean()) == pytest.approx(1.0, rel=1e-5)
    torch.testing.assert_close(scaled, mean / rms)
    torch.testing.assert_close(vae.decoder(scaled), before[0], rtol=1e-3, atol=1e-4)
    # A draw from the posterior is the same draw, too.
    drawn = vae.encoder.sample(scaled, scaled_logvar, noise)
    torch.testing.assert_close(vae.decoder(drawn), before[1], rtol=1e-3, atol=1e-4)
    assert scale_latents(vae, shapes) == pytest.approx(1.0, rel=1e-5)


def test_the_cubes_symmetries() -> None:
    solid = np.arange(8).reshape(1, 2, 2, 2)
    generator = np.random.default_rng(0)
    seen = {random_symmetry(solid, generator).tobytes() for _ in range(600)}
    assert len(seen) == 48


def test_a_batch_of_solids(shapes: ShapeBank) -> None:
    batch = solid_batch(shapes, 5, np.random.default_rng(0))
    assert batch.shape == (5, 1, 16, 16, 16)
    assert float(batch.min()) >= 0 and float(batch.max()) == 1.0
    volumes = shapes.solids.reshape(len(shapes), -1).sum(axis=1) / 255
    assert all(np.isclose(float(one.sum()), volumes, rtol=1e-4).any() for one in batch)


def test_the_loss_depends_on_seed_and_step_alone(vae: StructureVae, shapes: ShapeBank) -> None:
    loss, figures = vae_loss(vae, shapes, 2, 1, 5)
    assert torch.equal(loss, vae_loss(vae, shapes, 2, 1, 5)[0])
    assert not torch.equal(loss, vae_loss(vae, shapes, 2, 1, 6)[0])
    assert figures["kl"] > 0 and 0 <= figures["dice"] <= 1
    loss.backward()
    assert all(p.grad is not None and p.grad.any() for p in vae.parameters())
