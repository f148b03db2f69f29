"""From a picture with one object marked to the object's surface: structure, voxels, latents, mesh.

Letters: Y, X image rows and columns; S side of the embedders' inputs; N voxels; B samples, T tokens, c channels.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from sam3d_objects.model import preprocess
from sam3d_objects.model.flexicubes import Surface
from sam3d_objects.model.pose import Pose
from sam3d_objects.model.preprocess import PointmapStatistics
from sam3d_objects.model.sam3d import SAM3DObjects
from sam3d_objects.model.sparse import SparseGrid
from sam3d_objects.model.structure.flow import SHAPE
from sam3d_objects.model.structure.voxels import MAX_VOXELS, enclosed, limit_count, surface_coordinates

POINTMAPS = ("pointmap", "rgb_pointmap")


@dataclass(frozen=True, eq=False)
class Generated:
    """One object.

    Attributes:
        surface: in the object's cube [-0.5, 0.5]^3; without faces where the decoder's field crosses zero nowhere.
        pose: the cube's place in the camera, in the pointmap's unit; None where there was no pointmap.
        coordinates: int32 (N, 4), the surface's voxels: 0, x, y, z.
        latents: (N, 8), not normalised.
    """

    surface: Surface
    pose: Pose | None
    coordinates: Tensor
    latents: Tensor


@torch.no_grad()
def generate(
    model: SAM3DObjects,
    image: Tensor,
    mask: Tensor,
    pointmap: Tensor | None = None,
    seed: int = 0,
    distilled: bool = False,
    structure_steps: int | None = None,
    latent_steps: int | None = None,
    structure_guidance: float | None = None,
    latent_guidance: float | None = None,
) -> Generated:
    """Reconstruct the marked object; the same seed gives the same object.

    Where steps or guidance are not given, the model's own are taken: in the release 25 steps of each stage, guidance
    7 for the structure and 1 for the latents.

    Args:
        model: with both stages, 'tiny' or the release.
        image: (3, Y, X) in [0, 1]; a model with a plane cue expects it blended in.
        mask: (1, Y, X), 1 on the object.
        pointmap: (3, y, x) in the camera, NaN where unknown; without it there is no pose.
        distilled: take few, large steps as the release's shortcut model was trained to: no guidance, d = 1 / steps.

    Raises:
        ValueError: an input is of another shape or range, the mask is empty, the model lacks its latent stage or is
            no shortcut model, or no voxel is on a surface.
    """
    latent_stage = model.latent_stage
    _check_inputs(image, mask, pointmap)
    generator = torch.Generator().manual_seed(seed)
    inputs, scene = prepare(model, image, mask, pointmap)
    # A tenth of the release's training samples had no pointmap, either.
    condition = model.embed(inputs, drop_pointmap=scene is None)
    structure = model.sample_structure(condition, generator, structure_steps, structure_guidance, distilled=distilled)
    voxels = structure_voxels(model, structure[SHAPE], generator)
    coordinates = voxels.coordinates
    if coordinates.shape[0] == 0:
        raise ValueError(f"seed {seed}: no voxel is on a surface; take another seed, or check that the mask fits")
    grid = SparseGrid(coordinates, 1)
    guidance = 0.0 if distilled and latent_guidance is None else latent_guidance
    latents = latent_stage.sample(latent_stage.embed(inputs), grid, generator, latent_steps, guidance)
    surface = voxels.restored(latent_stage.decode(latents, grid, voxels.interior)[0])
    pose = None
    if scene is not None:
        pose = model.pose_from_tokens({name: value[0].cpu() for name, value in structure.items()}, scene)
    return Generated(surface, pose, coordinates, latents)


def prepare(
    model: SAM3DObjects, image: Tensor, mask: Tensor, pointmap: Tensor | None
) -> tuple[dict[str, Tensor], PointmapStatistics | None]:
    """Prepare a picture as the embedders' inputs, each (1, c, S, S), with the pointmap's statistics.

    Without a pointmap its two inputs are zeros, to be dropped.
    """
    size = model.settings.image_size
    inputs, scene = preprocess.condition_inputs(image.float(), mask.float(), pointmap, size)
    if pointmap is None:
        inputs |= {name: torch.zeros(3, size, size) for name in POINTMAPS}
    return {name: value[None].to(model.device) for name, value in inputs.items()}, scene


class StructureVoxels(NamedTuple):
    """The surface's voxels of one object, and what must be known to place what is decoded on them.

    Attributes:
        coordinates: int32 (N, 4).
        interior: (1, R, R, R) bool, what they enclose, where that is known: of a solid model.
        halved_about: (3,) in the object's cube, the middle about which too many voxels were halved; else None.
    """

    coordinates: Tensor
    interior: Tensor | None
    halved_about: Tensor | None

    def restored(self, surface: Surface) -> Surface:
        """The surface at the object's own size, to which the pose belongs."""
        if self.halved_about is None:
            return surface
        middle = self.halved_about.to(surface.vertices)
        return replace(surface, vertices=(surface.vertices - middle) * 2 + middle)


@torch.no_grad()
def structure_voxels(model: SAM3DObjects, tokens: Tensor, generator: torch.Generator | None) -> StructureVoxels:
    """Decode shape tokens (1, T, c) to the surface's voxels, at most 42,000."""
    logits = model.decode_structure(tokens)
    solid = model.settings.occupancy == "solid"
    found = surface_coordinates(logits, solid)
    coordinates = limit_count(found, generator=generator)
    if len(found) > MAX_VOXELS:
        places = found[:, 1:].double()
        middle = (places.amin(dim=0) + places.amax(dim=0)) / 2
        return StructureVoxels(coordinates, None, (middle + 0.5) / model.settings.resolution - 0.5)
    return StructureVoxels(coordinates, enclosed(logits > 0, coordinates) if solid else None, None)


def _check_inputs(image: Tensor, mask: Tensor, pointmap: Tensor | None) -> None:
    for name, given in (("image", image), ("mask", mask), ("pointmap", pointmap)):
        if given is not None and not isinstance(given, Tensor):
            raise ValueError(f"the {name} must be a torch tensor, got {type(given).__name__}; use torch.from_numpy")
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"the image must be (3, Y, X), got {tuple(image.shape)}")
    if tuple(mask.shape) != (1, *image.shape[1:]):
        raise ValueError(f"the mask must be {(1, *image.shape[1:])} like the image, got {tuple(mask.shape)}")
    if pointmap is not None and (pointmap.ndim != 3 or pointmap.shape[0] != 3):
        raise ValueError(f"the pointmap must be (3, y, x), got {tuple(pointmap.shape)}")
    low, high = float(image.min()), float(image.max())
    if not (low >= 0 and high <= 1):  # NaN fails as well
        raise ValueError(f"the image's values must be within [0, 1], got {low:g} to {high:g}; divide bytes by 255")
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError(f"the mask must hold 0 and 1 alone, got values up to {float(mask.max()):g}; compare with > 0")
