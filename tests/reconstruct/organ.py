"""An organ that is known exactly, and a model that always gives it."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from sam3d_objects.arrays import BoolArray, FloatArray
from sam3d_objects.mesh import (
    Mesh,
    ObjectFrame,
    SliceCamera,
    contains,
    object_grid_affine,
    solid_fraction,
    surface_from_field,
    surface_voxels,
)
from sam3d_objects.model import ConditionInputs, Pose, SAM3DObjects, StructureSettings
from sam3d_objects.model.preprocess import PointmapStatistics
from sam3d_objects.reconstruct import PlacedSolid
from sam3d_objects.volume import SliceInput, SlicePlane
from tests.training.small_model import small_model

RESOLUTION = 32
CENTER_MM = np.array([31.0, -42.0, 17.0])


def organ() -> Mesh:
    """An egg of 52 x 36 x 30 mm with a bump to the left, front and top: no two of its directions look alike."""
    middle = np.array([37.0, 29.0, 25.0])
    points = np.moveaxis(np.indices((76, 60, 52)), 0, -1) - middle
    egg = 1 - np.linalg.norm(points / [26.0, 18.0, 15.0], axis=-1)
    bump = (9 - np.linalg.norm(points - [-17.0, 11.0, 9.0], axis=-1)) / 15
    affine = np.eye(4)
    affine[:3, 3] = CENTER_MM - middle
    return surface_from_field(np.maximum(egg, bump), 0.0, affine)


def placed(mesh: Mesh, resolution: int = RESOLUTION) -> PlacedSolid:
    """The solid of a mesh in its own frame."""
    frame = ObjectFrame.from_points(mesh.vertices)
    affine = frame.object_affine() @ object_grid_affine(resolution)
    return PlacedSolid(solid_fraction(mesh, affine, (resolution,) * 3, supersample=3).astype(float), frame)


def shell(mesh: Mesh, resolution: int = RESOLUTION) -> FloatArray:
    """The voxels that the surface touches, in the mesh's own frame."""
    frame = ObjectFrame.from_points(mesh.vertices)
    occupied = np.zeros((resolution,) * 3)
    occupied[tuple(surface_voxels(Mesh(frame.to_object(mesh.vertices), mesh.faces), resolution).T)] = 1
    return occupied


def slice_of(mesh: Mesh, plane: SlicePlane, seed: int = 0) -> SliceInput:
    """What a plane shows of a mesh: noise, brighter inside."""
    mask = contains(mesh, plane.grid_mm().reshape(-1, 3)).reshape(plane.shape)
    image = np.random.default_rng(seed).normal(size=plane.shape) + 3 * mask
    return SliceInput(image, mask, plane, np.ones(plane.shape, dtype=bool))


class TrueModel(SAM3DObjects):
    """Gives one solid and one pose (of the camera that the slice is seen by), whatever the slice shows."""

    def __init__(
        self,
        solid: FloatArray,
        frame: ObjectFrame,
        camera: SliceCamera,
        occupancy: Literal["solid", "surface"] = "solid",
    ) -> None:
        parts = small_model()
        super().__init__(
            parts.condition_embedder,
            parts.structure_flow,
            parts.structure_encoder,
            parts.structure_decoder,
            StructureSettings(len(solid), 8, 8, 2, occupancy, 28),
            "true",
        )
        share = torch.from_numpy(np.asarray(solid, dtype=np.float32)).clamp(1e-4, 1 - 1e-4)
        self.logits = torch.logit(share)
        rotation = torch.from_numpy(camera.object_rotation().T.copy())
        center = torch.from_numpy(camera.to_camera(frame.center_mm))
        self.pose, self.scene = Pose(rotation, center, frame.size_mm), PointmapStatistics(torch.zeros(3), 1.0)

    def condition_inputs(
        self,
        image01: FloatArray,
        mask: BoolArray,
        pointmap: FloatArray,
        plane_normal: FloatArray,
        scene_scale_mm: float = 0.0,
    ) -> ConditionInputs:
        """Prepare the slice as every model does; its statistics encode the pose."""
        prepared = super().condition_inputs(image01, mask, pointmap, plane_normal, scene_scale_mm)
        self.scene = prepared.scene
        return prepared

    def sample_structure(
        self,
        condition: Tensor,
        generator: torch.Generator | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        rescale: float | None = None,
        samples: int = 1,
        distilled: bool = False,
    ) -> dict[str, Tensor]:
        """The true pose's latents, and empty shape tokens."""
        tokens = {
            name: value[None].expand(samples, -1, -1) for name, value in self.pose_tokens(self.pose, self.scene).items()
        }
        return {**tokens, "shape": torch.zeros(samples, 1, 1)}

    def decode_structure(self, tokens: Tensor) -> Tensor:
        """The true solid's logits."""
        return self.logits.expand(len(tokens), 1, -1, -1, -1)
