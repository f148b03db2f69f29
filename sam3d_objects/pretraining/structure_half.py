"""Pretrain the structure half: first its VAE, then its flow. Letters: N shapes, T tokens."""

from functools import partial

import torch
from torch import Tensor

from sam3d_objects.files import atomic_path
from sam3d_objects.model.sam3d import SAM3DObjects
from sam3d_objects.model.weights import fingerprint
from sam3d_objects.pretraining.bank import ShapeBank
from sam3d_objects.pretraining.flow import FlowBatches, StructureGenerator, flow_loss
from sam3d_objects.pretraining.initial import draw_readable
from sam3d_objects.pretraining.loop import LoopOptions, run_averaged, steps_done
from sam3d_objects.pretraining.options import PretrainOptions
from sam3d_objects.pretraining.vae import StructureVae, scale_latents, vae_loss


def pretrain_structure(model: SAM3DObjects, bank: ShapeBank, options: PretrainOptions) -> bool:
    """Run or resume both steps; return whether the end was reached."""
    if not pretrain_vae(model, bank, options):
        return False
    # Named after what made them: a longer VAE training or another bank gives other latents.
    cache = options.work / f"latents_{len(bank)}_{fingerprint(model.structure_encoder)[:16]}.pt"
    if not cache.exists():
        with atomic_path(cache) as temporary:
            torch.save(encode_bank(model, bank), temporary)
    return pretrain_flow(model, bank, torch.load(cache, weights_only=True), options)


def pretrain_vae(model: SAM3DObjects, bank: ShapeBank, options: PretrainOptions) -> bool:
    """Train the structure VAE, put the averaged weights in the model, scale the latents; False if time ran out."""
    vae = StructureVae(model.structure_encoder, model.structure_decoder)
    loop = LoopOptions(
        steps=options.vae_steps,
        learning_rate=3e-3,
        warmup_steps=20,
        ema_decay=0.98,
        weight_decay=0.0,
        report_every=20,
        stop_after_s=options.stop_after_s,
    )
    checkpoint = options.work / "vae.pt"
    done = run_averaged(vae, partial(vae_loss, vae, bank, options.vae_batch, 1), loop, checkpoint, "vae")
    scale_latents(vae, bank)
    return done


@torch.no_grad()
def encode_bank(model: SAM3DObjects, bank: ShapeBank) -> Tensor:
    """Return every shape's latent tokens (N, T, c) as float16."""
    parts = torch.from_numpy(bank.solids).split(64)
    return torch.cat([model.encode_structure(part.float()[:, None] / 255).half() for part in parts])


def pretrain_flow(model: SAM3DObjects, bank: ShapeBank, latents: Tensor, options: PretrainOptions) -> bool:
    """Draw the condition embedder, train the flow, put the averaged weights in the model; False if time ran out.

    The embedder stays as drawn. Trained along, it keeps what tells procedural shapes apart and forgets the rest of the
    slice, which is what tells where in a patient an organ lies.
    """
    trained = StructureGenerator(model)
    loop = LoopOptions(
        steps=options.flow_steps,
        learning_rate=1.5e-3,
        warmup_steps=100,
        ema_decay=0.995,
        report_every=25,
        stop_after_s=options.stop_after_s,
    )
    checkpoint = options.work / "flow.pt"
    batches = FlowBatches(model, bank, options.flow_batch, options.seed, options.flow_steps)
    draw_readable(model.condition_embedder, batches[0].inputs)
    model.condition_embedder.requires_grad_(False)
    loader = batches.loader(steps_done(checkpoint), options.workers)

    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        return flow_loss(model, latents, next(loader), options.draws, generator)

    return run_averaged(trained, loss_of, loop, checkpoint, "flow")
