"""The structure stage: LoRA in the two-stream structure flow, trained to say where the surface is, and the
pose.

Letters: B batch, D draws of (time, noise) per sample, T tokens, C channels.
"""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sam3d_objects.adapter import AdapterMeta, InferenceContract, save_adapter
from sam3d_objects.dataset import Sample, TS_SAM3D_Dataset
from sam3d_objects.files import write_json
from sam3d_objects.mesh import Mesh
from sam3d_objects.model import SAM3DObjects
from sam3d_objects.model.flow_matching import flow_matching_loss, noise_like
from sam3d_objects.model.lora import lora_summary, setup_from_config
from sam3d_objects.model.pose import Pose
from sam3d_objects.model.sampler import Latents
from sam3d_objects.model.structure.flow import SHAPE
from sam3d_objects.training.flow_times import even_times, stratified_times
from sam3d_objects.training.progress import readable_time
from sam3d_objects.training.stage import Batch, Say
from sam3d_objects.training.stages.structure_options import StructureOptions
from sam3d_objects.training.targets import StructureTarget, StructureTargets, check_targets
from sam3d_objects.training.validation import ValidationSlices

CONDITION, LATENT = "condition.", "latent."
IOU_FILE = "structure_iou.json"
_VALIDATION_DRAWS = 4
_SECONDS_BETWEEN_LINES = 15.0

ShapeKey = tuple[str, str, int]  # case, organ, variant


class StructureStage:
    """What the training loop needs to adapt the structure flow to organs.

    Args:
        model: the base model; LoRA goes into its `structure_flow`, everything else stays frozen.
        train: samples of training patients.
        validation: slices of validation patients; may be empty.
        targets_folder: where encoded targets are kept.
        contract: how the adapter is to be used; saved with it.
        options: of the adapter and the loss.
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
        self.train_samples = train
        self.validation_samples: Sequence[Sample] = validation or ()
        self.validation = validation
        self.targets_folder = targets_folder
        self.targets: dict[ShapeKey, StructureTarget] = {}
        if self.options.drop_pointmap != (contract.pointmap == "drop"):
            raise ValueError(f"the contract's pointmap is {contract.pointmap!r}, the training's is not")
        both = _patients(train) & _patients(validation.dataset) if validation else set()
        if both:
            raise ValueError(f"patients both in training and in validation: {', '.join(sorted(both))}")

    def set_trainable(self) -> str:
        """Freeze the model and put LoRA (and trained heads) into the flow."""
        self.model.requires_grad_(False)
        self.model.eval()
        setup_from_config(self.module, self.options.lora)
        return lora_summary(self.module)

    def prepare(self, device: torch.device, say: Say) -> None:
        """Move the model to the device and make the targets of all shapes, with the gate on their overlap.

        Raises:
            ValueError: targets are under the bar; the message names them.
        """
        self.model.to(device)
        maker = StructureTargets(self.model, self.targets_folder)
        keys = self._shape_keys()
        made = maker.targets(self._object_mesh(key) for key in keys)
        said = began = time.monotonic()
        for done, (key, target) in enumerate(zip(keys, made, strict=True), start=1):
            self.targets[key] = target
            if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                left = readable_time((said - began) / done * (len(keys) - done))
                say(f"targets: {done} of {len(keys)}, {left} left")
        ious = {"/".join(map(str, key)): target.iou for key, target in self.targets.items()}
        write_json(self.targets_folder / IOU_FILE, ious)
        worst = min(ious, key=lambda name: ious[name])
        mean = float(np.mean(list(ious.values())))
        say(f"targets: {len(ious)} shapes, encode -> decode IoU {mean:.3f}, least {ious[worst]:.3f} ({worst})")
        check_targets(ious.items(), self.options.target_iou_bar)

    def _shape_keys(self) -> list[ShapeKey]:
        train = [(*pair, v) for pair in self.train_samples.pairs for v in range(self.train_samples.variants)]
        return train + [(case, organ, 0) for case, organ in self._validation_pairs]

    @property
    def _validation_pairs(self) -> list[tuple[str, str]]:
        return list(self.validation.dataset.pairs) if self.validation else []

    def _object_mesh(self, key: ShapeKey) -> Mesh:
        of_validation = key[:2] in self._validation_pairs
        dataset = self.validation.dataset if self.validation and of_validation else self.train_samples
        mesh = dataset.geometry(*key)
        return Mesh(dataset.frame(*key).to_object(mesh.vertices), mesh.faces)

    def make_batch(self, samples: Sequence[Sample]) -> Batch:
        """Return `condition.NAME` (B, c, S, S) and `latent.NAME` (B, T, C) tensors, float32."""
        rows = [self._tensors(sample) for sample in samples]
        return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}

    def _tensors(self, sample: Sample) -> dict[str, Tensor]:
        inputs = self.model.condition_inputs(
            sample.image01, sample.slice.mask, sample.pointmap, sample.camera.camera_axes[2]
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

    def sample_names(self, samples: Sequence[Sample]) -> list[str]:
        """Return `case/organ/plane/slice` of each sample, with its variant where it is warped."""
        return [
            f"{s.case}/{s.organ}/{s.plane_name}/{s.slice_index}" + (f"/variant {s.variant}" if s.variant else "")
            for s in samples
        ]

    def loss(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted flow matching loss over B x D (time, noise) pairs, and its terms."""
        options = self.options
        condition, latents = self._repeated(batch, options.draws)
        t = stratified_times(len(latents[SHAPE]), options.time_mean, options.time_std, generator)
        noise = noise_like(latents, generator)
        kept = torch.rand(len(condition), generator=generator) >= options.condition_dropout
        condition = condition * kept.to(condition)[:, None, None]
        return self._flow_matching(network, latents, condition, t, noise)

    def validate(self, network: nn.Module, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the loss and its terms at even times, every condition kept."""
        options = self.options
        condition, latents = self._repeated(batch, _VALIDATION_DRAWS)
        times = even_times(_VALIDATION_DRAWS, options.time_mean, options.time_std)
        noise = noise_like(latents, generator)
        t = times.repeat(len(condition))
        loss, parts = self._flow_matching(network, latents, condition, t, noise)
        return {"loss": loss, **parts}

    def _repeated(self, batch: Batch, draws: int) -> tuple[Tensor, Latents]:
        """Embed the condition (B, T, C), repeat the latents (B D, T, C): one condition serves D rows of the flow."""
        inputs = {k.removeprefix(CONDITION): v for k, v in batch.items() if k.startswith(CONDITION)}
        with torch.no_grad():
            condition = self.model.embed(inputs, drop_pointmap=self.options.drop_pointmap)
        latents = {k.removeprefix(LATENT): v for k, v in batch.items() if k.startswith(LATENT)}
        return condition, {name: value.repeat_interleave(draws, 0) for name, value in latents.items()}

    def _flow_matching(
        self, network: nn.Module, latents: Latents, condition: Tensor, t: Tensor, noise: Latents
    ) -> tuple[Tensor, dict[str, Tensor]]:
        weights = self.options.weights
        loss, parts = flow_matching_loss(network, latents, condition, t.to(condition.device), noise, weights)
        return loss, {name: part for name, part in parts.items() if weights[name]}

    def save(self, folder: Path, metrics: Mapping[str, float]) -> None:
        """Write the adapter folder."""
        training = {name: value for name, value in self.record().items() if name != "contract"}
        meta = AdapterMeta(
            stage=self.name,
            base_name=self.model.name,
            base_fingerprint=self.model.fingerprint,
            organs=self.train_samples.organs,
            contract=self.contract,
            metrics=metrics,
            training=training,
        )
        save_adapter(folder, self.module, self.options.lora, meta)

    def record(self) -> dict[str, Any]:
        """Return the stage's options and what it is trained on."""
        train = self.train_samples
        return {
            "name": self.name,
            "structure": dataclasses.asdict(self.options),
            "base": {"name": self.model.name, "fingerprint": self.model.fingerprint},
            "data": {
                "fingerprint": train.manifest.fingerprint,
                "organs": list(train.organs),
                "planes": list(train.planes),
                "variants": train.variants,
                "slices_per_plane": train.slices_per_plane,
                "allow_mirror": train.allow_mirror,
                "augment": dataclasses.asdict(train.augment) if train.augment else None,
                "seed": train.seed,
                "validation_slices": len(self.validation_samples),
            },
            "contract": dataclasses.asdict(self.contract),
        }

    def counts(self) -> dict[str, str]:
        """Return patients, shapes and samples of both sides."""
        sides = {"training": self.train_samples}
        if self.validation:
            sides["validation"] = self.validation.dataset
        lines = {}
        for side, dataset in sides.items():
            patients = _patients(dataset)
            slices = len(dataset) if dataset is self.train_samples else len(self.validation_samples)
            lines[side] = f"{len(patients)} patients, {len(dataset.pairs)} organs, {slices} slices an epoch"
        return lines


def _patients(dataset: TS_SAM3D_Dataset) -> set[str]:
    patient_of = {entry.id: entry.patient for entry in dataset.manifest.cases}
    return {patient_of[case] for case, _ in dataset.pairs}


def contract_of(dataset: TS_SAM3D_Dataset, model: SAM3DObjects, drop_pointmap: bool = False) -> InferenceContract:
    """Return how an adapter trained on a data set is to be used, sampled as the base model is."""
    manifest, settings = dataset.manifest, model.settings
    return InferenceContract(
        field_of_view=manifest.field_of_view,
        margin_mm=manifest.margin_mm,
        modality=manifest.modality,
        window_hu=manifest.window_hu,
        percentiles=manifest.percentiles,
        planes=dataset.planes,
        steps=settings.steps,
        guidance=settings.guidance,
        pointmap="drop" if drop_pointmap else "plane",
    )
