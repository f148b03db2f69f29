"""The direct-regression network: a stage of the one loop, trained on a data set's training patients and then kept."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sam3d_objects.dataset import Augment, Sample, TS_SAM3D_Dataset
from sam3d_objects.evaluation.direct_regression import CHANNELS, SIDE, DirectGrid, DirectRegression, direct_network
from sam3d_objects.evaluation.slice_frame import DistanceField, thinned
from sam3d_objects.files import write_json
from sam3d_objects.training import Batch, LoopOptions, MedicalTrainer, ValidationSlices
from sam3d_objects.training.stage import Say

FILE_NAME = "direct.safetensors"
SAMPLES = 32_000
"""Slices that the network sees in training, whatever the size of the data set: about 5 minutes of one CPU thread."""
_OPTIONS = LoopOptions(batch_size=8, lr=3e-3, weight_decay=0.01, ema_decay=0.99, patience=0, checkpoint_steps=200)
_AUGMENT = Augment(mask_probability=0.3)
_VARIANTS, _SLICES_PER_PLANE = 40, 2
_KEPT_ROWS = (
    4000  # cutting a slice takes longer than learning from it, so these many are kept and used again (80 kB each)
)
_GRID_ORGANS = 60  # are enough to know how far organs reach
_VALIDATIONS, _VALIDATION_SLICES = 10, 120
_SHARPNESS = 3.0  # of the soft inside in the loss: .05 to .95 within a step of the box on either side of the surface

Row = dict[str, Tensor]


class DirectRows:
    """Training rows (see `DirectStage.make_batch`), the first epochs' used again in later ones.

    Args:
        dataset: of training patients, one organ.
        grid: of the box.
    """

    def __init__(self, dataset: TS_SAM3D_Dataset, grid: DirectGrid) -> None:
        self.dataset, self.grid = dataset, grid
        self.period = max(1, round(_KEPT_ROWS / len(dataset)))
        self.epoch = 0
        self._fields: dict[str, DistanceField] = {}
        self._kept: dict[tuple[int, int], tuple[str, Row]] = {}

    def __len__(self) -> int:
        return len(self.dataset)

    def set_epoch(self, epoch: int) -> None:
        """Epoch e has the samples of epoch e % period."""
        self.epoch = epoch % self.period
        self.dataset.set_epoch(self.epoch)

    def __getitem__(self, index: int) -> tuple[str, Row]:
        """The name of a sample, and its row."""
        key = (self.epoch, index)
        if key in self._kept:
            return self._kept[key]
        row = self.row(self.dataset[index])
        if len(self._kept) < _KEPT_ROWS:
            self._kept[key] = row
        return row

    def row(self, sample: Sample) -> tuple[str, Row]:
        """A sample's name and row: `inputs` (C, S, S) and `target` (S, S, S), float16 to spare memory."""
        if sample.case not in self._fields:
            label = thinned(self.dataset.case(sample.case).box_mask(sample.organ))
            self._fields[sample.case] = DistanceField.of_label(label, self.grid.clip_mm)
        warp = self.dataset.warp(sample.case, sample.organ, sample.variant)
        target = self.grid.target(self._fields[sample.case], sample.slice, warp)
        inputs = self.grid.inputs(sample.slice, sample.image01)
        name = f"{sample.case}/{sample.organ}/{sample.plane_name}/{sample.slice_index}"
        return name, {"inputs": torch.from_numpy(inputs).half(), "target": torch.from_numpy(target).half()}


class DirectStage:
    """What the training loop needs to fit the network to one organ.

    Args:
        train: samples of training patients, of one organ.
        validation: slices of validation patients, if there are any.
    """

    def __init__(self, train: TS_SAM3D_Dataset, validation: ValidationSlices | None) -> None:
        assert len(train.organs) == 1, "a network is made for one organ"
        self.name, self.dataset = "direct", train
        chosen = np.unique(np.linspace(0, len(train.pairs) - 1, _GRID_ORGANS).round().astype(int))
        pairs = [train.pairs[number] for number in chosen]
        self.grid = DirectGrid.of_labels([train.case(case).box_mask(organ) for case, organ in pairs])
        self.module: nn.Module = direct_network()
        self.train_samples = DirectRows(train, self.grid)
        self.validation_samples: Sequence[tuple[str, Row]] = ()
        if validation:
            rows = DirectRows(validation.dataset, self.grid)
            self.validation_samples = [rows.row(sample) for sample in validation]

    def set_trainable(self) -> str:
        """Draw the weights anew; all of them are trained."""
        self.module.load_state_dict(direct_network().state_dict())
        count = sum(parameter.numel() for parameter in self.module.parameters())
        sides = " x ".join(f"{side:.0f}" for side in self.grid.sides_mm)
        return f"direct regression of {self.dataset.organs[0]}: {count:,} parameters, box of {sides} mm"

    def prepare(self, device: torch.device, say: Say) -> None:
        """Nothing: rows are made as they are asked for."""

    def make_batch(self, samples: Sequence[tuple[str, Row]]) -> Batch:
        """`inputs` (B, C, S, S) and `target` (B, S, S, S), float32."""
        return {name: torch.stack([row[name] for _, row in samples]).float() for name in ("inputs", "target")}

    def sample_names(self, samples: Sequence[tuple[str, Row]]) -> list[str]:
        """case/organ/plane/slice of each sample."""
        return [name for name, _ in samples]

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Nothing: augmentation is the data set's."""
        return {}

    def validation_draw(self, count: int, generator: torch.Generator) -> Batch:
        """Nothing."""
        return {}

    def loss(self, network: nn.Module, batch: Batch, draws: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Error of the distances plus 1 - Dice; see `direct_terms`."""
        return self._terms(network(batch["inputs"]), batch["target"])

    def validate(self, network: nn.Module, batch: Batch, draws: Batch) -> dict[str, Tensor]:
        """The loss, and the mean Dice in the box."""
        predicted, target = network(batch["inputs"]), batch["target"]
        loss, _ = self._terms(predicted, target)
        inside, truth = (predicted > 0).flatten(1), (target > 0).flatten(1)
        dice = 2 * (inside & truth).sum(1) / (inside.sum(1) + truth.sum(1)).clamp(min=1)
        return {"loss": loss, "dice": dice.mean()}

    def _terms(self, predicted: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        sharpness = _SHARPNESS * self.grid.clip_mm / float(self.grid.steps_mm.mean())
        distance, overlap = direct_terms(predicted, target, sharpness)
        return distance + overlap, {"distance": distance, "overlap": overlap}

    def score(self, metrics: Mapping[str, float]) -> float | None:
        """The Dice."""
        return metrics["dice"] if metrics else None

    def predictor(self) -> DirectRegression:
        """The network as it is, as a predictor."""
        manifest = self.dataset.manifest
        return DirectRegression(self.module, self.grid, manifest.intensity, manifest.field_of_view, manifest.margin_mm)

    def save(self, folder: Path, metrics: Mapping[str, float]) -> None:
        """Write FILE_NAME."""
        self.predictor().save(folder / FILE_NAME, metrics)

    def record(self) -> dict[str, Any]:
        """What makes this run this run."""
        data = self.dataset
        return {
            "name": self.name,
            "organ": data.organs[0],
            "data": data.manifest.fingerprint,
            "sampling": [data.variants, data.slices_per_plane, data.seed, self.train_samples.period],
            "augment": dataclasses.asdict(data.augment) if data.augment else None,
            "network": [CHANNELS, SIDE, _SHARPNESS],
            "grid": dataclasses.asdict(self.grid),
        }

    def counts(self) -> dict[str, str]:
        """Organs and slices of both sides."""
        return {
            "training": f"{len(self.dataset.pairs)} organs, {len(self.dataset)} slices an epoch",
            "validation": f"{len(self.validation_samples)} slices",
        }


def direct_terms(predicted: Tensor, target: Tensor, sharpness: float) -> tuple[Tensor, Tensor]:
    """The two terms of the loss, on distances / clip_mm, (B, S, S, S).

    The first is the mean absolute error over the points where the true distance is not clipped; a clipped one asks for
    its sign only, from 1 on. The second is 1 - 2 sum(p t) / sum(p^2 + t^2) (Milletari et al., 3DV 2016) of the soft
    insides sigmoid(sharpness * distance), which the small organ in a large box needs.
    """
    near = target.abs() < 0.99
    missing = torch.where(target > 0, torch.relu(1 - predicted), torch.relu(1 + predicted))
    distance = torch.where(near, (predicted - target).abs(), missing).sum() / near.sum().clamp(min=1)
    inside, truth = torch.sigmoid(sharpness * predicted), torch.sigmoid(sharpness * target)
    shared, squares = (inside * truth).sum((1, 2, 3)), (inside.square() + truth.square()).sum((1, 2, 3))
    return distance, (1 - 2 * shared / squares).mean()


def direct_predictors(
    data_root: Path, organs: Sequence[str], folder: Path, seed: int = 0, device: str = "auto", samples: int = SAMPLES
) -> dict[str, DirectRegression]:
    """Train a network for each organ on the data set's training patients, or take those that `folder` has.

    A run that was cut off goes on. Each lies in a folder of its own, named by what it was trained on.

    Args:
        data_root: prepared data set.
        organs: structure names.
        folder: where the runs are kept.
        seed: of everything random.
        device: auto, cpu, cuda or cuda:N.
        samples: slices that a network sees in training.

    Raises:
        ValueError: an organ that no training patient has.
        KeyboardInterrupt: somebody asked to stop.
    """
    return {organ: _trained(data_root, organ, folder, seed, device, samples) for organ in organs}


def _trained(data_root: Path, organ: str, folder: Path, seed: int, device: str, samples: int) -> DirectRegression:
    from .models import torch_device

    train = TS_SAM3D_Dataset(
        data_root,
        "train",
        [organ],
        augment=_AUGMENT,
        variants=_VARIANTS,
        seed=seed,
        slices_per_plane=_SLICES_PER_PLANE,
    )
    epochs = max(1, round(samples / len(train)))
    options = dataclasses.replace(
        _OPTIONS, epochs=epochs, validate_every=max(1, epochs // _VALIDATIONS), seed=seed, device=device
    )
    stage = DirectStage(train, _validation(data_root, organ, seed))
    request = {"options": options.record(), "stage": stage.record()}
    key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()[:16]
    run = folder / f"{organ}-{key}".replace("/", "_")
    finished = run / "finished.json"
    if not finished.is_file():
        result = MedicalTrainer(stage, options, run).train(resume=True)
        if result.interrupted:
            raise KeyboardInterrupt
        write_json(finished, result.metrics)
    return DirectRegression.load(run / "best" / FILE_NAME, torch_device(device))


def _validation(data_root: Path, organ: str, seed: int) -> ValidationSlices | None:
    """Slices of the validation patients that have the organ, if there are any."""
    from sam3d_objects.dataset import Manifest

    from .organs import organs_in_splits

    manifest = Manifest.load(data_root)
    if "val" not in manifest.split.values() or organ not in organs_in_splits(manifest, ["val"]):
        return None
    return ValidationSlices(TS_SAM3D_Dataset(data_root, "val", [organ]), seed, _VALIDATION_SLICES)
