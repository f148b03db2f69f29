"""The structure stage: the two-stream structure flow is trained to say where the surface is, and the pose.

Letters: B batch, D draws of (time, noise) per sample, T tokens, C channels.
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
from sam3d_objects.model.pose import Pose
from sam3d_objects.model.structure.flow import SHAPE
from sam3d_objects.training.stage import Batch, Samples, Say
from sam3d_objects.training.stages.saving import save_stage
from sam3d_objects.training.stages.shapes import ShapeKey, StageShapes, sample_name
from sam3d_objects.training.stages.structure_loss import draw_paths, even_paths, path_loss
from sam3d_objects.training.stages.structure_options import StructureOptions
from sam3d_objects.training.targets import StructureTarget, StructureTargets, structure_targets
from sam3d_objects.training.tokens import TOKENS_FOLDER, CachedRow, ConditionCache, cache_key
from sam3d_objects.training.validation import ValidationSlices

CONDITION, TOKENS, LATENT = "condition.", "tokens", "latent."
KEPT = "kept"


class StructureStage:
    """What the training loop needs to adapt the structure flow to organs.

    A batch has `condition.NAME` (B, c, S, S), or `tokens` (B, T, C) where they are cached, and `latent.NAME` (B, T, C).

    Args:
        model: the base model; its `structure_flow` is trained, everything else stays frozen.
        train: samples of training patients.
        validation: slices of validation patients; may be empty.
        targets_folder: where encoded targets and cached tokens are kept.
        contract: how the adapter is to be used; saved with it.
        options: of the adapter and the loss.

    Raises:
        ValueError: a patient is on both sides, the contract has another pointmap than the training, or the
            self-consistency term is asked of a flow that takes no step sizes.
    """

    def __init__(
        self,
        model: SAM3DObjects,
        train: TS_SAM3D_Dataset,
        validation: ValidationSlices | None,
        targets_folder: Path,
        contract: InferenceContract,
        options: StructureOptions | None = None,
    ) -> None:
        self.name = "structure"
        self.model, self.contract, self.options = model, contract, options or StructureOptions()
        self.module: nn.Module = model.structure_flow
        self.shapes = StageShapes(train, validation)
        self.validation = validation
        self.train_samples: Samples = train
        self.validation_samples: Sequence[Sample] = validation or ()
        self.targets_folder = targets_folder
        self.targets: dict[ShapeKey, StructureTarget] = {}
        if self.options.drop_pointmap != (contract.pointmap == "drop"):
            raise ValueError(f"the contract's pointmap is {contract.pointmap!r}, the training's is not")
        if self.options.shortcut_weight and model.structure_flow.d_embedder is None:
            raise ValueError(
                f"shortcut_weight {self.options.shortcut_weight}: the structure flow of {model.name!r} takes no step "
                "sizes, so there is no self-consistency to keep; set it to 0"
            )
        if self.options.cache_epochs:
            self.train_samples = ConditionCache(
                train, self.options.cache_epochs, targets_folder / TOKENS_FOLDER, self._cache_key()
            )

    def _cache_key(self) -> str:
        return cache_key(
            stage=self.name,
            embedder=fingerprint(self.model.condition_embedder),
            targets=StructureTargets(self.model, self.targets_folder).maker,
            drop_pointmap=self.options.drop_pointmap,
            scene_scale_mm=self.contract.scene_scale_mm,
            data={name: part for name, part in self.shapes.record().items() if name != "validation_slices"},
        )

    def set_trainable(self) -> str:
        """Freeze the model, and make ready what of the flow trains."""
        self.model.requires_grad_(False)
        self.model.eval()
        return self.options.adaptation.apply(self.module)

    def prepare(self, device: torch.device, say: Say) -> None:
        """Make or read the targets of all shapes, with the gate on their overlap, and fill the cache of tokens.

        Modules that this stage does not need rest where they are; on a device other than the CPU they go there only
        while targets are made or a validator uses them.

        Raises:
            ValueError: targets are under the bar; the message names them.
        """
        self.model.offload_device = None if device.type == "cpu" else device
        maker = StructureTargets(self.model, self.targets_folder)
        self.targets = structure_targets(self.model, maker, self.shapes, self.options.target_iou_bar, say)
        self.model.condition_embedder.to(device)
        if isinstance(self.train_samples, ConditionCache):
            self.train_samples.fill(self.finished_rows, say)

    def make_batch(self, samples: Sequence[Sample | CachedRow]) -> Batch:
        """Return the batch described above, float32."""
        rows = [sample.tensors if isinstance(sample, CachedRow) else self._tensors(sample) for sample in samples]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def _tensors(self, sample: Sample) -> dict[str, Tensor]:
        inputs = self.model.condition_inputs(
            sample.image01,
            sample.slice.mask,
            sample.pointmap,
            sample.camera.camera_axes[2],
            self.contract.scene_scale_mm,
        )
        pose = Pose(
            rotation=torch.from_numpy(sample.camera.object_rotation().T.copy()),  # for row vectors
            translation=torch.from_numpy(sample.camera.to_camera(sample.frame.center_mm)),
            size=sample.frame.size_mm,
        )
        latents = self.model.pose_tokens(pose, inputs.scene)
        latents[SHAPE] = self.targets[sample.case, sample.organ, sample.variant].tokens
        tensors = {CONDITION + name: value for name, value in inputs.tensors.items()}
        return tensors | {LATENT + name: value for name, value in latents.items()}

    def finished_rows(self, samples: Sequence[Sample]) -> list[CachedRow]:
        """Cut and embed samples: one row each, with the condition tokens and the targets (CPU)."""
        rows = [self._tensors(sample) for sample in samples]
        batch = {name: torch.stack([row[name] for row in rows]).to(self.model.device) for name in rows[0]}
        tokens = self._embed(batch).cpu()
        return [
            CachedRow(sample_name(sample), {TOKENS: tokens[i].clone(), **_only(rows[i], LATENT)})
            for i, sample in enumerate(samples)
        ]

    @torch.no_grad()
    def _embed(self, batch: Batch) -> Tensor:
        """The condition tokens (B, T, C) of a batch."""
        if TOKENS in batch:
            return batch[TOKENS]
        inputs = {name.removeprefix(CONDITION): value for name, value in _only(batch, CONDITION).items()}
        return self.model.embed(inputs, drop_pointmap=self.options.drop_pointmap)

    def sample_names(self, samples: Sequence[Sample | CachedRow]) -> list[str]:
        """Return `case/organ/plane/slice` of each sample, with its variant where it is warped."""
        return [sample.name if isinstance(sample, CachedRow) else sample_name(sample) for sample in samples]

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Draw what `draw_paths` says, and `kept` (count,), 0 where the condition is dropped."""
        paths = draw_paths(self.model.latent_shapes(1), count, self.options, generator)
        kept = torch.rand(count, generator=generator) >= self.options.condition_dropout
        return {**paths, KEPT: kept.float()}

    def validation_draw(self, count: int, generator: torch.Generator) -> Batch:
        """Draw the same at even times, every condition kept."""
        return {**even_paths(self.model.latent_shapes(1), count, self.options, generator), KEPT: torch.ones(count)}

    def loss(self, network: nn.Module, batch: Batch, draws: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean of `path_loss` over B x D (time, noise) pairs, and its terms."""
        condition = self._embed(batch)
        latents = {name.removeprefix(LATENT): value for name, value in _only(batch, LATENT).items()}
        return path_loss(network, latents, condition, draws[KEPT], draws, self.options)

    def validate(self, network: nn.Module, batch: Batch, draws: Batch) -> dict[str, Tensor]:
        """Return the loss and its terms."""
        loss, parts = self.loss(network, batch, draws)
        return {"loss": loss, **parts}

    def score(self, metrics: Mapping[str, float]) -> float | None:
        """Return the Dice where it was measured, else minus the loss; None without metrics."""
        return metrics.get("dice", -metrics.get("loss", 0.0)) if metrics else None

    def save(self, folder: Path, metrics: Mapping[str, float]) -> None:
        """Write the adapter folder."""
        save_stage(self, folder, self.module, metrics)

    def record(self) -> dict[str, Any]:
        """Return the stage's options and what it is trained on."""
        return {
            "name": self.name,
            "structure": dataclasses.asdict(self.options),
            "base": {"name": self.model.name, "fingerprint": self.model.fingerprint},
            "data": self.shapes.record(),
            "contract": dataclasses.asdict(self.contract),
        }

    def counts(self) -> dict[str, str]:
        """Return patients, shapes and samples of both sides."""
        return self.shapes.counts()


def _only(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name: value for name, value in tensors.items() if name.startswith(prefix)}
