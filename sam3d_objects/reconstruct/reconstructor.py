"""From one slice with the organ marked to the whole organ's surface in patient mm."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sam3d_objects.adapter import InferenceContract
from sam3d_objects.arrays import FloatArray
from sam3d_objects.mesh import Mesh, ObjectFrame, SliceCamera, pointmap, solid_from_shell
from sam3d_objects.model import ConditionInputs, SAM3DObjects
from sam3d_objects.model.preprocess import PointmapStatistics
from sam3d_objects.model.structure.flow import SHAPE
from sam3d_objects.reconstruct.field import PatientField, PlacedSolid, average
from sam3d_objects.reconstruct.fit import fit_to_mask
from sam3d_objects.reconstruct.marked import surface_through_mask
from sam3d_objects.reconstruct.refinement import refine
from sam3d_objects.reconstruct.spread import Prediction, spread_mm
from sam3d_objects.volume import Intensity, SliceInput, condition_image

STAGES = ("both", "structure")
# A grid of all K samples at each layer leaves the processor's cache (a third slower at K = 16) and takes K times one.
DECODED_AT_ONCE = 4
Samples = Callable[[SliceInput, int], list[PlacedSolid]]
"""(slice, seed) -> the K placed samples of a slice."""


class Reconstructor:
    """A model with the way it is to be used: `reconstructor(slice, seed) -> Mesh`.

    Args:
        model: a base, adapted or merged model.
        contract: how slices are prepared and the model is sampled.
        stages: 'both' decodes the surface with the latent stage; 'structure' takes the structure's own.
        source: where the samples come from, if not from the model; see `variants`, which share theirs.

    Raises:
        ValueError: unknown stages.
    """

    def __init__(
        self, model: SAM3DObjects, contract: InferenceContract, stages: str = "both", source: Samples | None = None
    ) -> None:
        if stages not in STAGES:
            raise ValueError(f"stages must be one of {', '.join(STAGES)}, got {stages!r}")
        self.model, self.contract, self.stages = model.eval(), contract, stages
        self._source = source
        self.intensity = Intensity(contract.modality, contract.window_hu, contract.percentiles)

    def __call__(self, slice: SliceInput, seed: int) -> Mesh:
        """Return the organ's closed surface, patient mm.

        Raises:
            ValueError: the slice cannot be used, no voxel of the prediction is solid, or the model has no latent
                stage where both are asked for.
        """
        return self._surface(slice, self.samples(slice, seed), seed)

    def predict(self, slice: SliceInput, seed: int) -> Prediction:
        """Return the same surface with its spread, from one drawing of the samples; errors as in a call."""
        samples = self.samples(slice, seed)
        mesh = self._surface(slice, samples, seed)
        return Prediction(mesh, spread_mm(mesh, samples))

    def spread_mm(self, mesh: Mesh, slice: SliceInput, seed: int) -> FloatArray | None:
        """Return a surface's spread (V,) mm from the samples of a slice, which are drawn (again, unless shared)."""
        return spread_mm(mesh, self.samples(slice, seed))

    def _surface(self, slice: SliceInput, samples: list[PlacedSolid], seed: int) -> Mesh:
        threshold = self.contract.threshold
        field = average(samples, threshold)
        fit = self.contract.fit
        rough = surface_through_mask(field, threshold, slice.mask, slice.plane) if fit else field.mesh(threshold)
        return rough if self.stages == "structure" else self.refined(slice, rough, seed)

    def refined(self, slice: SliceInput, rough: Mesh, seed: int) -> Mesh:
        """Return the surface that the latent stage draws on a rough one's voxels, both patient mm; see `refine`."""
        return refine(self.model, rough, self.condition_inputs(slice).tensors, seed)

    def condition_inputs(self, slice: SliceInput) -> ConditionInputs:
        """Return what a slice shows as the condition embedders take it."""
        seen, image01 = self.prepared(slice)
        return self._inputs(image01, seen)

    def prepared(self, slice: SliceInput) -> tuple[SliceInput, FloatArray]:
        """Return a slice cut to the contract's field of view, and its image (Y, X) in [0, 1]."""
        return condition_image(slice, self.intensity, self.contract.field_of_view, self.contract.margin_mm)

    def field(self, slice: SliceInput, seed: int) -> PatientField:
        """Return the mean of the K samples as a field in patient space, before the threshold."""
        return average(self.samples(slice, seed))

    def samples(self, slice: SliceInput, seed: int) -> list[PlacedSolid]:
        """Draw the K samples, placed in the patient and, if the contract says so, fitted to the mask."""
        if self._source is not None:
            return self._source(slice, seed)
        seen, image01 = self.prepared(slice)
        return self.samples_of(image01, seen, seed)

    @torch.no_grad()
    def samples_of(self, image01: FloatArray, seen: SliceInput, seed: int) -> list[PlacedSolid]:
        """Draw the K samples of a slice that is prepared already: its image (Y, X) in [0, 1], and what it shows."""
        contract = self.contract
        camera = SliceCamera.from_plane(seen.plane)
        inputs = self._inputs(image01, seen)
        batch = {name: value[None].to(self.model.device) for name, value in inputs.tensors.items()}
        condition = self.model.embed(batch, drop_pointmap=contract.pointmap == "drop")
        latents = self.model.sample_structure(
            condition,
            torch.Generator().manual_seed(seed),
            steps=contract.steps,
            guidance=contract.guidance,
            samples=contract.samples,
        )
        fields = self._solids(latents.pop(SHAPE))
        placed = [
            PlacedSolid(field, self._frame({name: value[k] for name, value in latents.items()}, inputs.scene, camera))
            for k, field in enumerate(fields)
        ]
        return fit_to_mask(placed, seen.mask, seen.plane) if contract.fit else placed

    def _inputs(self, image01: FloatArray, seen: SliceInput) -> ConditionInputs:
        """Prepare what a slice shows for the condition embedders."""
        camera = SliceCamera.from_plane(seen.plane)
        points = pointmap(seen.plane, camera, seen.valid)
        scale_mm = self.contract.scene_scale_mm
        return self.model.condition_inputs(image01, seen.mask, points, camera.camera_axes[2], scale_mm)

    def _solids(self, tokens: Tensor) -> list[FloatArray]:
        """Decode shape tokens (K, T, c) to solid fields (R, R, R)."""
        parts = tokens.chunk(math.ceil(len(tokens) / DECODED_AT_ONCE))
        logits = torch.cat([self.model.decode_structure(part)[:, 0].cpu() for part in parts])
        if self.model.settings.occupancy == "solid":
            return list(torch.sigmoid(logits).double().numpy())
        return [solid_from_shell((one > 0).numpy()) for one in logits]

    def _frame(self, latents: dict[str, Tensor], scene: PointmapStatistics, camera: SliceCamera) -> ObjectFrame:
        """Decode one sample's pose to the object's frame; the rotation is known from the slice's plane."""
        pose = self.model.pose_from_tokens({name: value.cpu() for name, value in latents.items()}, scene)
        center_mm = camera.to_patient(pose.translation.numpy()[None])[0]
        if not (np.isfinite(center_mm).all() and np.isfinite(pose.size)):
            raise ValueError(f"the model's pose is not finite: centre {center_mm.tolist()} mm, size {pose.size} mm")
        return ObjectFrame(center_mm, pose.size)
