"""Pretrain the structure VAE on procedural solids. Letters: B batch, R occupancy side."""

from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from sam3d_objects.model.structure.vae import StructureDecoder, StructureEncoder
from sam3d_objects.pretraining.bank import ShapeBank

KL_WEIGHT = 4e-3
KL_WARMUP_STEPS = 200
THIN_SHARE = 0.05


class StructureVae(nn.Module):
    """Encoder and decoder as one module to train."""

    def __init__(self, encoder: StructureEncoder, decoder: StructureDecoder) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder


def random_symmetry(solids: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Turn and mirror solids (B, R, R, R) by one of the cube's 48 symmetries."""
    order = generator.permutation(3) + 1
    flips = tuple(axis for axis in (1, 2, 3) if generator.random() < 0.5)
    return np.flip(solids.transpose(0, *order), flips)


def solid_batch(bank: ShapeBank, batch: int, generator: np.random.Generator) -> Tensor:
    """Draw solids (B, 1, R, R, R) in [0, 1]."""
    chosen = generator.integers(len(bank), size=batch)
    solids = random_symmetry(bank.solids[chosen], generator)
    return torch.from_numpy(np.ascontiguousarray(solids)).float()[:, None] / 255


def vae_loss(vae: StructureVae, bank: ShapeBank, batch: int, seed: int, step: int) -> tuple[Tensor, dict[str, float]]:
    """Binary cross-entropy of the decoded solid plus a small KL term (Kingma and Welling 2013, arXiv 1312.6114)."""
    generator = np.random.default_rng([seed, step])
    solids = solid_batch(bank, batch, generator)
    mean, logvar = vae.encoder(solids)
    noise = torch.from_numpy(generator.standard_normal(tuple(mean.shape), dtype=np.float32))
    logits = vae.decoder(vae.encoder.sample(mean, logvar, noise))
    each = nn.functional.binary_cross_entropy_with_logits(logits, solids, reduction="none").mean(dim=(1, 2, 3, 4))
    # Thin shapes fill little of the cube and would hardly count.
    share = 1 / (THIN_SHARE + solids.mean(dim=(1, 2, 3, 4)))
    reconstruction = (each * share / share.mean()).mean()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    loss = reconstruction + KL_WEIGHT * min(1.0, (step + 1) / KL_WARMUP_STEPS) * kl
    with torch.no_grad():
        predicted, truth = logits > 0, solids > 0.5
        dice = 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())
    return loss, {"bce": reconstruction.item(), "kl": kl.item(), "dice": dice.item()}


@torch.no_grad()
def scale_latents(vae: StructureVae, bank: ShapeBank, samples: int = 256) -> float:
    """Scale the latents to unit root mean square, exactly, within the encoder's last and the decoder's first layer."""
    solids = torch.from_numpy(bank.solids[:samples]).float()[:, None] / 255
    means = torch.cat([vae.encoder(part)[0] for part in solids.split(32)])
    rms = float(means.square().mean().sqrt())
    last, channels = cast(nn.Conv3d, vae.encoder.out_layer[2]), means.shape[1]
    assert last.bias is not None
    last.weight[:channels] /= rms
    last.bias[:channels] /= rms
    # The log-variance shrinks with the mean: log(v / rms^2).
    last.bias[channels:] -= 2 * float(np.log(rms))
    vae.decoder.input_layer.weight *= rms
    return rms
