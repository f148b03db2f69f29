"""Pretrain the latent half: first its encoder and mesh decoder, then its condition embedder and flow."""

from functools import partial

import torch
from torch import Tensor

from sam3d_objects.model.sam3d import SAM3DObjects
from sam3d_objects.pretraining.bank import ShapeBank
from sam3d_objects.pretraining.flow import FlowBatches
from sam3d_objects.pretraining.latent_flow import LatentGenerator, latent_flow_loss
from sam3d_objects.pretraining.latent_vae import LatentVae, latent_vae_loss, standardise_latents
from sam3d_objects.pretraining.loop import LoopOptions, run_averaged, steps_done
from sam3d_objects.pretraining.options import PretrainOptions


def pretrain_latent(model: SAM3DObjects, bank: ShapeBank, options: PretrainOptions) -> bool:
    """Run or resume both steps; return whether the end was reached."""
    return pretrain_latent_vae(model, bank, options) and pretrain_latent_flow(model, bank, options)


def pretrain_latent_vae(model: SAM3DObjects, bank: ShapeBank, options: PretrainOptions) -> bool:
    """Train encoder and decoder, put the averaged weights in the model, standardise the latents."""
    stage = model.latent_stage
    vae = LatentVae(stage.encoder, stage.mesh_decoder)
    loop = LoopOptions(
        steps=options.latent_vae_steps,
        learning_rate=2e-3,
        warmup_steps=20,
        ema_decay=0.98,
        weight_decay=0.0,
        report_every=20,
        stop_after_s=options.stop_after_s,
    )
    checkpoint = options.work / "latent_vae.pt"
    loss_of = partial(latent_vae_loss, vae, bank, options.latent_vae_batch, options.seed)
    done = run_averaged(vae, loss_of, loop, checkpoint, "latent vae")
    standardise_latents(vae, bank)
    return done


def pretrain_latent_flow(model: SAM3DObjects, bank: ShapeBank, options: PretrainOptions) -> bool:
    """Train the condition embedder and the flow, put the averaged weights in the model; False if time ran out."""
    stage = model.latent_stage
    trained = LatentGenerator(stage)
    loop = LoopOptions(
        steps=options.latent_flow_steps,
        learning_rate=1.5e-3,
        warmup_steps=50,
        ema_decay=0.99,
        report_every=25,
        stop_after_s=options.stop_after_s,
    )
    checkpoint = options.work / "latent_flow.pt"
    batches = FlowBatches(model, bank, options.latent_flow_batch, options.seed + 1, options.latent_flow_steps)
    loader = batches.loader(steps_done(checkpoint), options.workers)

    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        generator = torch.Generator().manual_seed(options.seed * 1_000_033 + step)
        return latent_flow_loss(stage, bank, next(loader), generator)

    return run_averaged(trained, loss_of, loop, checkpoint, "latent flow")
