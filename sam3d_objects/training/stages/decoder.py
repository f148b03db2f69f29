"""The decoder stage: the mesh decoder is trained to turn an organ's latents into the organ's surface.

It sees no slice: latents go in, a surface comes out, and the organ's own geometry is what it should have been. Letters:
B shapes of a batch, N voxels over the whole batch, R latent grid's side, C corners, P points (see `decoder_terms`).
"""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sam3d_objects.adapter import InferenceContract
from sam3d_objects.dataset import TS_SAM3D_Dataset
from sam3d_objects.mesh import Mesh
from sam3d_objects.model import SAM3DObjects
from sam3d_objects.model.latent.mesh_decoder import SUBDIVISIONS
from sam3d_objects.model.offload import on_device
from sam3d_objects.model.sparse import SparseGrid
from sam3d_objects.training.losses import calibrated_scale
from sam3d_objects.training.stage import Batch, Samples, Say
from sam3d_objects.training.stages.decoder_options import DecoderOptions
from sam3d_objects.training.stages.decoder_samples import ShapeSamples
from sam3d_objects.training.stages.decoder_terms import CubeFeatures, TermDraws, asked_corners, decoder_terms
from sam3d_objects.training.stages.packed import PackedDecoder
from sam3d_objects.training.stages.saving import save_stage
from sam3d_objects.training.stages.shapes import ShapeKey, StageShapes, patients_of, shape_name
from sam3d_objects.training.targets import LatentTarget, LatentTargets, distance_between, latent_targets
from sam3d_objects.training.targets.surfaces import mesh_of_features
from sam3d_objects.training.validation import ValidationSlices

COORDINATES, LATENTS, INTERIOR, SHAPE = "coordinates", "latents", "interior", "shape"
CORNERS, FOUND, TRUE = "corners", "found", "true"
DECODED_MM = "decoded_assd_mm"
_CALIBRATION_SHAPES = 4


class DecoderStage:
    """What the training loop needs to adapt the mesh decoder to organs.

    A sample is a shape. A batch has of all shapes' voxels, packed after each other, `coordinates` int32 (N, 4) and
    `latents` (N, 8), not normalised; `interior` (B, R, R, R) bool; and `shape` (B,) int64, which shapes these are.

    Args:
        model: the base model with its latent stage; everything but the mesh decoder stays frozen.
        train: samples of training patients; of them, the shapes.
        validation: slices of validation patients; of them, the shapes. May be empty.
        targets_folder: where latent targets are kept.
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
        options: DecoderOptions | None = None,
    ) -> None:
        self.name = "decoder"
        self.model, self.contract, self.options = model, contract, options or DecoderOptions()
        self.latent_stage = model.latent_stage
        self.decoder = self.latent_stage.mesh_decoder
        self.module: nn.Module = PackedDecoder(self.decoder)
        self.shapes = StageShapes(train, validation)
        # A copy from before the adapters: when a resumed run asks for targets, the decoder itself is half trained.
        frozen, source = copy.deepcopy(self.decoder), self.options.latent_source
        self.maker = LatentTargets(model, targets_folder, source, self.options.inversion, decoder=frozen)
        self.keys = self.shapes.keys
        self.train_samples: Samples = ShapeSamples(train)
        self.validation_samples: Sequence[ShapeKey] = (
            [(case, organ, 0) for case, organ in validation.dataset.pairs] if validation else []
        )
        self.targets: dict[ShapeKey, LatentTarget] = {}
        self.scale = 1.0

    def set_trainable(self) -> str:
        """Freeze the model, and make ready what of the decoder trains."""
        self.model.requires_grad_(False)
        self.model.eval()
        return self.options.adaptation.apply(self.decoder)

    def prepare(self, device: torch.device, say: Say) -> None:
        """Make or read the latents of all shapes, and measure on the frozen decoder how large its scalars are.

        Modules that this stage does not need rest where they are.

        Raises:
            ValueError: targets are over the bar; the message names them.
        """
        self.maker.device = device
        self.model.offload_device = None if device.type == "cpu" else device
        self.targets = latent_targets(self.model, self.maker, self.shapes, self.options.target_distance_bar, say)
        self.scale = self._calibrated(device)
        say(f"the decoder's scalars are about {self.scale:.3g} for a distance of one fine cube")

    @torch.no_grad()
    def _calibrated(self, device: torch.device) -> float:
        chosen = np.linspace(0, len(self.keys) - 1, min(_CALIBRATION_SHAPES, len(self.keys))).round().astype(int)
        even = (torch.arange(self.options.corners) + 0.5) / self.options.corners
        parts = []
        with on_device(self.maker.decoder, device):
            network = PackedDecoder(self.maker.decoder)
            for key in [self.keys[index] for index in chosen]:
                batch = {name: tensor.to(device) for name, tensor in self.make_batch([key]).items()}
                (made,) = self._decoded(network, batch)
                parts.append(asked_corners(made, self.shapes.mesh_object(key), even.to(device)))
        scalars, distances = (torch.cat(column) for column in zip(*parts, strict=True))
        return calibrated_scale(scalars, distances)

    def make_batch(self, samples: Sequence[ShapeKey]) -> Batch:
        """Return the batch described above; the first column of `coordinates` is the shape's number in it."""
        targets = [self.targets[key] for key in samples]
        places = [target.coordinates.clone() for target in targets]
        for number, place in enumerate(places):
            place[:, 0] = number
        return {
            COORDINATES: torch.cat(places),
            LATENTS: torch.cat([target.latents for target in targets]),
            INTERIOR: torch.cat([target.interior for target in targets]),
            SHAPE: torch.tensor([self.keys.index(key) for key in samples]),
        }

    def sample_names(self, samples: Sequence[ShapeKey]) -> list[str]:
        """Return `case/organ/variant` of each shape."""
        return [shape_name(key) for key in samples]

    def draw(self, count: int, generator: torch.Generator) -> Batch:
        """Draw uniform numbers: `corners` (count, C), and `found` and `true` (count, P, 3)."""
        options = self.options
        return {
            CORNERS: torch.rand(count, options.corners, generator=generator),
            FOUND: torch.rand(count, options.points, 3, generator=generator),
            TRUE: torch.rand(count, options.points, 3, generator=generator),
        }

    def validation_draw(self, count: int, generator: torch.Generator) -> Batch:
        """Draw the same."""
        return self.draw(count, generator)

    def loss(self, network: nn.Module, batch: Batch, draws: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the sum of the weighted terms, and these, each the mean over the shapes."""
        return self._terms(self._decoded(network, batch), self._meshes(batch), draws)

    def _terms(
        self, decoded: Sequence[CubeFeatures], meshes: Sequence[Mesh], draws: Batch
    ) -> tuple[Tensor, dict[str, Tensor]]:
        rows = [
            decoder_terms(
                made,
                mesh,
                TermDraws(draws[CORNERS][row], draws[FOUND][row], draws[TRUE][row]),
                self.options.weights,
                self.scale,
            )
            for row, (made, mesh) in enumerate(zip(decoded, meshes, strict=True))
        ]
        parts = {name: torch.stack([row[name] for row in rows]).mean() for name in rows[0]}
        return torch.stack(list(parts.values())).sum(), parts

    def _decoded(self, network: nn.Module, batch: Batch) -> list[CubeFeatures]:
        count, resolution = len(batch[SHAPE]), self.decoder.fine_resolution
        features = network(batch[LATENTS], batch[COORDINATES], count).float()
        grid = SparseGrid(batch[COORDINATES], count)
        for _ in range(SUBDIVISIONS):
            grid = grid.subdivided()
        return [
            CubeFeatures(features[start:stop], grid.coordinates[start:stop, 1:], resolution, interior)
            for (start, stop), interior in zip(pairwise(grid.offsets), batch[INTERIOR], strict=True)
        ]

    def _meshes(self, batch: Batch) -> list[Mesh]:
        return [self.shapes.mesh_object(self.keys[index]) for index in batch[SHAPE].tolist()]

    def validate(self, network: nn.Module, batch: Batch, draws: Batch) -> dict[str, Tensor]:
        """Return the loss, its terms, and how far the decoded surfaces are from the shapes, `decoded_assd(_mm)`.

        The latter is the mean symmetric surface distance, the longest side being 1, and in mm; where nothing was
        decoded it is 1, as far as the shape is long.
        """
        decoded, meshes = self._decoded(network, batch), self._meshes(batch)
        loss, parts = self._terms(decoded, meshes, draws)
        pairs = zip(decoded, meshes, strict=True)
        distances = [min(1.0, distance_between(mesh, decoded_mesh(made)).mean) for made, mesh in pairs]
        sizes_mm = [self.shapes.size_mm(self.keys[index]) for index in batch[SHAPE].tolist()]
        return {
            "loss": loss,
            **parts,
            "decoded_assd": loss.new_tensor(np.mean(distances)),
            DECODED_MM: loss.new_tensor(np.mean(np.multiply(distances, sizes_mm))),
        }

    def score(self, metrics: Mapping[str, float]) -> float | None:
        """Return minus the surface distance of whole reconstructions where it was measured, else of decoded latents."""
        return -metrics.get("assd_mm", metrics.get(DECODED_MM, 0.0)) if metrics else None

    def save(self, folder: Path, metrics: Mapping[str, float]) -> None:
        """Write the adapter folder."""
        save_stage(self, folder, self.decoder, metrics)

    def record(self) -> dict[str, Any]:
        """Return the stage's options and what it is trained on."""
        return {
            "name": self.name,
            "decoder": {**dataclasses.asdict(self.options), "source": self.maker.source},
            "base": {"name": self.model.name, "fingerprint": self.latent_stage.fingerprint},
            "data": self.shapes.record(),
            "contract": dataclasses.asdict(self.contract),
        }

    def counts(self) -> dict[str, str]:
        """Return patients and shapes of both sides."""
        train, validation = self.shapes.train, self.shapes.validation
        lines = {
            "training": f"{len(patients_of(train))} patients, {len(self.train_samples)} organs an epoch, "
            f"each as one of {train.variants} shapes"
        }
        if validation:
            patients = len(patients_of(validation.dataset))
            lines["validation"] = f"{patients} patients, {len(self.validation_samples)} organs"
        return lines


def decoded_mesh(made: CubeFeatures) -> Mesh:
    """Return the outer surface of what a decoder made of one shape, object coordinates, as inference takes it."""
    return mesh_of_features(made.features, made.cubes, made.resolution, made.interior)
