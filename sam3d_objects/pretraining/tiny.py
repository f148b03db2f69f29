"""The built-in tiny model: make it from its configs, pretrain it in two steps, write it as a base model's folder."""

import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from sam3d_objects.files import atomic_path
from sam3d_objects.model.instantiate import instantiate
from sam3d_objects.model.sam3d import SAM3DObjects
from sam3d_objects.model.weights import (
    EMBEDDER_PREFIX,
    GENERATOR_PREFIX,
    TINY_FOLDER,
    fingerprint,
    read_settings,
    read_yaml,
)
from sam3d_objects.pretraining.bank import ShapeBank, load_bank
from sam3d_objects.pretraining.flow import FlowBatches, StructureGenerator, flow_loss
from sam3d_objects.pretraining.loop import LoopOptions, averaged_state, run
from sam3d_objects.pretraining.vae import StructureVae, scale_latents, vae_loss

FLOW_PREFIX = f"{GENERATOR_PREFIX}reverse_fn.backbone."


@dataclass(frozen=True)
class PretrainOptions:
    """What one pretraining is made of; seeds and sizes fix its result.

    Attributes:
        work: folder of the shape bank and the checkpoints.
        shapes: procedural shapes in the bank.
        vae_steps, vae_batch: the structure VAE's training.
        flow_steps, flow_batch, draws: the flow's; `draws` times and noises for each of `flow_batch` slices.
        workers: processes that draw shapes and slices.
        minutes: stop after so long, saved and resumable; None for the end.
    """

    work: Path
    shapes: int = 12000
    vae_steps: int = 950
    vae_batch: int = 8
    flow_steps: int = 2000
    flow_batch: int = 24
    draws: int = 5
    seed: int = 7
    workers: int = 1
    minutes: float | None = None

    @property
    def stop_after_s(self) -> float | None:
        """`minutes` as the loop takes it."""
        return None if self.minutes is None else 60 * self.minutes


def new_tiny_model() -> SAM3DObjects:
    """Build the tiny model from its configs, with random weights from torch's generator."""
    pipeline = read_yaml(TINY_FOLDER / "pipeline.yaml")
    node = read_yaml(TINY_FOLDER / "ss_generator.yaml")["module"]
    return SAM3DObjects(
        instantiate(node["condition_embedder"]["backbone"]),
        instantiate(node["generator"]["backbone"]).reverse_fn.backbone,
        instantiate(read_yaml(TINY_FOLDER / "ss_encoder.yaml")),
        instantiate(read_yaml(TINY_FOLDER / "ss_decoder.yaml")),
        read_settings(pipeline, TINY_FOLDER),
        "tiny",
    )


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
    done = run(vae, partial(vae_loss, vae, bank, options.vae_batch, 1), loop, checkpoint, "vae")
    vae.load_state_dict(averaged_state(checkpoint))
    scale_latents(vae, bank)
    return done


@torch.no_grad()
def encode_bank(model: SAM3DObjects, bank: ShapeBank) -> Tensor:
    """Return every shape's latent tokens (N, T, c) as float16."""
    parts = torch.from_numpy(bank.solids).split(64)
    return torch.cat([model.encode_structure(part.float()[:, None] / 255).half() for part in parts])


def pretrain_flow(model: SAM3DObjects, bank: ShapeBank, latents: Tensor, options: PretrainOptions) -> bool:
    """Train the condition embedder and the flow, put the averaged weights in the model; False if time ran out."""
    trained = StructureGenerator(model)
    batches = FlowBatches(model, bank, options.flow_batch, options.seed, options.flow_steps)
    loop = LoopOptions(
        steps=options.flow_steps,
        learning_rate=1.5e-3,
        warmup_steps=100,
        ema_decay=0.995,
        report_every=25,
        stop_after_s=options.stop_after_s,
    )
    checkpoint = options.work / "flow.pt"
    first = int(torch.load(checkpoint, weights_only=True)["step"]) if checkpoint.exists() else 0
    left = torch.utils.data.Subset(batches, range(first, options.flow_steps))
    loader = iter(
        torch.utils.data.DataLoader(
            left, batch_size=None, num_workers=options.workers, prefetch_factor=2 if options.workers else None
        )
    )

    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + step)
        return flow_loss(model, latents, next(loader), options.draws, generator)

    done = run(trained, loss_of, loop, checkpoint, "flow")
    trained.load_state_dict(averaged_state(checkpoint))
    return done


def pretrain(options: PretrainOptions) -> tuple[SAM3DObjects, bool]:
    """Run or resume the whole pretraining; return the model and whether it reached its end."""
    torch.manual_seed(options.seed)
    model = new_tiny_model()
    bank = load_bank(
        options.work / "bank",
        options.shapes,
        options.seed,
        model.settings.resolution,
        max(1, options.workers),
    )
    if not pretrain_vae(model, bank, options):
        return model, False
    # Named after what made them: a longer VAE training or another bank gives other latents.
    cache = options.work / f"latents_{len(bank)}_{fingerprint(model.structure_encoder)[:16]}.pt"
    if not cache.exists():
        with atomic_path(cache) as temporary:
            torch.save(encode_bank(model, bank), temporary)
    latents = torch.load(cache, weights_only=True)
    return model, pretrain_flow(model, bank, latents, options)


def save_tiny(model: SAM3DObjects, folder: Path = TINY_FOLDER) -> None:
    """Write the weights as float16 safetensors with the release's names, and the configs beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    for config in TINY_FOLDER.glob("*.yaml"):
        if folder.resolve() != TINY_FOLDER.resolve():
            shutil.copy(config, folder)
    generator = {FLOW_PREFIX + name: value for name, value in model.structure_flow.state_dict().items()}
    generator |= {EMBEDDER_PREFIX + name: value for name, value in model.condition_embedder.state_dict().items()}
    files = {
        "ss_generator.safetensors": generator,
        "ss_decoder.safetensors": model.structure_decoder.state_dict(),
        "ss_encoder.safetensors": model.structure_encoder.state_dict(),
    }
    for name, state in files.items():
        with atomic_path(folder / name) as temporary:
            save_file({key: value.half().contiguous() for key, value in state.items()}, temporary)
