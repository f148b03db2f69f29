"""The latent stage: the latent flow is trained to say how the surface runs, given where it is and a slice.

Letters: B batch, D draws of (time, noise) per sample, N voxels of a batch, T tokens, C channels.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sam3d_objects.adapter import InferenceContract
from sam3d_objects.dataset import Sample, TS_SAM3D_Dataset
from sam3d_objects.model import SAM3DObjects, fingerprint
from sam3d_objects.model.sampler import TIME_SCALE
from sam3d_objects.model.sparse import SparseGrid
from sam3d_objects.training.flow_times import even_times, stratified_times
from sam3d_objects.training.stage import Batch, Samples, Say
from sam3d_objects.training.stages.latent_options import LatentOptions
from sam3d_objects.training.stages.packed import PackedFlow
from sam3d_objects.training.stages.saving import save_stage
from sam3d_objects.training.stages.shapes import ShapeKey, StageShapes, sample_name
from sam3d_objects.training.targets import LatentTargets, latent_targets
from sam3d_objects.training.tokens import TOKENS_FOLDER, CachedRow, ConditionCache, cache_key
from sam3d_objects.training.validation import ValidationSlices

CONDITION, TOKENS = "condition.", "tokens"
COORDINATES, LATENTS = "coordinates", "latents"
TIME, SEED, KEPT = "t", "seed", "kept"
_VALIDATION_DRAWS = 4
_LARGEST_SEED = 2**62


class LatentFlowStage:
    """What the training loop needs to adapt the latent flow to organs.

    A batch has `condition.NAME` (B, c, S, S), or `tokens` (B, T, C) where they are cached, and of all samples' voxels
    packed after each other `coordinates` int32 (N, 4) and `latents` (N, 8), normalised.

    Args:
        model: the base model with its latent stage; everything but the latent flow stays frozen.
        train: samples of training patients.
        validation: slices of validation patients; may be empty.
        targets_folder: where latent targets and cached tokens are kept.
        contract: how the adapter is to be used; saved with it.
        options: of the adapter, the targets and the loss.

    Raises:
        ValueError: a patient is on both sides, the model has no latent stage, or its encoder is asked for and can't be
            run.
    """

    def __init__(
        self,
        model: SAM3DObjects,
        train: TS_SAM3D_Dataset,
        validation: ValidationSlices | None,
        targets_folder: Path,
        contract: InferenceContract,
        options: LatentOptions | None = None,
    ) -> None:
        self.name = "latent"
        self.model, self.contract, self.options = model, contract, options or LatentOptions()
        self.latent_stage = model.latent_stage
        self.module: nn.Module = PackedFlow(self.latent_stage.flow)
        self.shapes = StageShapes(train, validation)
        self.maker = LatentTargets(model, targets_folder, self.options.latent_source, self.options.inversion)
        self.train_samples: Samples = train
        self.validation_samples: Sequence[Sample] = validation or ()
        if self.options.cache_epochs:
            key = cache_key(
                stage=self.name,
                embedder=fingerprint(self.latent_stage.condition_embedder),
                targets=self.maker.maker,
                settings=str(model.settings),
                data={name: part for name, part in self.shapes.record().items() if name != "validation_slices"},
            )
            folder = targets_folder / TOKENS_FOLDER
            self.train_samples = ConditionCache(train, self.options.cache_epochs, folder, key)
        self.targets: dict[ShapeKey, tuple[Tensor, Tensor]] = {}

    def set_trainable(self) -> str:
        """Freeze the model, and make ready what of the flow trains."""
        self.model.requires_grad_(False)
        self.model.eval()
        return self.options.adaptation.apply(self.latent_stage.flow)

    def prepare(self, device: torch.device, say: Say) -> None:
        """Make or read the targets, keep the condition embedder on the device, and fill the cache of tokens.

        Modules that this stage does not need rest where they are; on a device other than the CPU they go there only
        while a validator uses them.

        Raises:
            ValueError: targets are over the bar; the message names them.
        """
        self.maker.device = device
        self.model.offload_device = None if device.type == "cpu" else device
        made = latent_targets(self.model, self.maker, self.shapes, self.options.target_distance_bar, say)
        mean, std = self.latent_stage.mean.cpu(), self.latent_stage.std.cpu()
        self.targets = {key: (target.coordinates, (target.latents - mean) / std) for key, target in made.items()}
        self.latent_stage.condition_embedder.to(device)
        if isinstance(self.train_samples, ConditionCache):
            self.train_samples.fill(self.finished_rows, say)

    def make_batch(self, samples: Sequence[Sample | CachedRow]) -> Batch:
        """Return the batch described above; the first column of `coordinates` is the sample's number in it."""
        rows = [sample.tensors if isinstance(sample, CachedRow) else self._tensors(sample) for sample in samples]
        places = [row[COORDINATES].clone() for row in rows]
        for number, place in enumerate(places):
            place[:, 0] = number
        packed = {COORDINATES: torch.cat(places), LATENTS: torch.cat([row[LATENTS] for row in rows])}
        return packed | {name: torch.stack([row[name] for row in rows]) for name in rows[0] if name not in packed}

    def _tensors(self, sample: Sample) -> dict[str, Tensor]:
        inputs = self.model.condition_inputs(
            sample.image01, sample.slice.mask, sample.pointmap, sample.camera.camera_axes[2]
        )
        names = self.latent_stage.condition_embedder.input_names  # no pointmap
        coordinates, latents = self.targets[sample.case, sample.organ, sample.variant]
        condition = {CONDITION + name: inputs.tensors[name] for name in names}
        return {**condition, COORDINATES: coordinates, LATENTS: latents}

    def finished_rows(self, samples: Sequence[Sample]) -> list[CachedRow]:
        """Cut and embed samples: one row each, with the condition tokens and the targets (CPU)."""
        rows = [self._tensors(sample) for sample in samples]
        device = self.maker.device
        names = [name for name in rows[0] if name.startswith(CONDITION)]
        tokens = self._embed({name: torch.stack([row[name] for row in rows]).to(device) for name in names}).cpu()
        return [
            CachedRow(
                sample_name(sample),
                {TOKENS: tokens[i].clone(), COORDINATES: rows[i][COORDINATES], LATENTS: rows[i][LATENTS]},
            )
            for i, sample in enumerate(samples)
        ]

    @torch.no_grad()
    def _embed(self, batch: Batch) -> Tensor:
        """The condition tokens (B, T, C) of a batch."""
        if TOKENS in batch:
            return batch[TOKENS]
        inputs = {name.removeprefix(CONDITION): x for name, x in batch.items() if name.startswith(CONDITION)}
        return self.latent_stage.embed(inputs)

    def sample_names(self, samples: Sequence[Sample | CachedRow]) -> list[str]:
        """Return `case/organ/plane/slice` of each sample, with its variant where it is warped."""
        return [sample.name if isinstance(sample, CachedRow) else sample_name(sample) for sample in samples]

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Draw `t` (count, D), `seed` (count,) of the voxels' noise, and `kept` (count,), 0: condition dropped."""
        options = self.options
        times = stratified_times(count * options.draws, options.time_mean, options.time_std, generator)
        seeds = torch.randint(_LARGEST_SEED, (count,), generator=generator)
        kept = torch.rand(count, generator=generator) >= options.condition_dropout
        return {TIME: times.view(count, options.draws), SEED: seeds, KEPT: kept.float()}

    def validation_draw(self, count: int, generator: torch.Generator) -> Batch:
        """Draw the same at even times (count, 4), every condition kept."""
        times = even_times(_VALIDATION_DRAWS, self.options.time_mean, self.options.time_std)
        seeds = torch.randint(_LARGEST_SEED, (count,), generator=generator)
        return {TIME: times.repeat(count, 1), SEED: seeds, KEPT: torch.ones(count)}

    def loss(self, network: nn.Module, batch: Batch, draws: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the flow matching loss: the mean over B x D of each one's mean over its voxels and channels.

        x_t = (1 - t) noise + t data, the target is data - noise (see `model.flow_matching`). A sample is embedded once
        for its D draws.
        """
        count = draws[TIME].shape[1]
        condition = self._embed(batch)
        condition = (condition * draws[KEPT].to(condition)[:, None, None]).repeat_interleave(count, 0)
        samples = SparseGrid(batch[COORDINATES], len(condition) // count)
        grid, rows = repeated(samples, count)
        data = batch[LATENTS][rows]
        noise = torch.cat(
            [
                _noise((count * voxels, data.shape[1]), seed)
                for voxels, seed in zip(samples.counts, draws[SEED].tolist(), strict=True)
            ]
        ).to(data)
        t = draws[TIME].flatten().to(data)
        at = t[grid.coordinates[:, 0].long(), None]
        velocity = network((1 - at) * noise + at * data, grid.coordinates, t * TIME_SCALE, condition)
        errors = (velocity - (data - noise)).square().mean(dim=1)
        return torch.stack([error.mean() for error in errors.split(grid.counts)]).mean(), {}

    def validate(self, network: nn.Module, batch: Batch, draws: Batch) -> dict[str, Tensor]:
        """Return the loss."""
        return {"loss": self.loss(network, batch, draws)[0]}

    def score(self, metrics: Mapping[str, float]) -> float | None:
        """Return minus the surface distance where it was measured, else minus the loss; None without metrics."""
        return -metrics.get("assd_mm", metrics.get("loss", 0.0)) if metrics else None

    def save(self, folder: Path, metrics: Mapping[str, float]) -> None:
        """Write the adapter folder."""
        save_stage(self, folder, self.latent_stage.flow, metrics)

    def record(self) -> dict[str, Any]:
        """Return the stage's options and what it is trained on."""
        return {
            "name": self.name,
            "latent": {**dataclasses.asdict(self.options), "source": self.maker.source},
            "base": {"name": self.model.name, "fingerprint": self.latent_stage.fingerprint},
            "data": self.shapes.record(),
            "contract": dataclasses.asdict(self.contract),
        }

    def counts(self) -> dict[str, str]:
        """Return patients, shapes and samples of both sides."""
        return self.shapes.counts()


def repeated(grid: SparseGrid, draws: int) -> tuple[SparseGrid, Tensor]:
    """Repeat each sample of a grid (N voxels) D times, one copy after the other.

    Returns:
        the grid of B D samples, and for each of its voxels the row of it among the N.
    """
    rows = torch.arange(len(grid), device=grid.device)
    index = torch.cat([part.repeat(draws) for part in rows.split(grid.counts)])
    coordinates = grid.coordinates[index]
    counts = torch.tensor(grid.counts, device=grid.device).repeat_interleave(draws)
    coordinates[:, 0] = torch.arange(len(counts), device=grid.device).repeat_interleave(counts).int()
    return SparseGrid(coordinates, len(counts)), index


def _noise(shape: tuple[int, int], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
