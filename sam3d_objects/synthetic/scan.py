"""One phantom scan: a body with three phantom organs, sampled on a grid like a scanner's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sam3d_objects.arrays import BoolArray, FloatArray
from sam3d_objects.synthetic.fields import Float32, random_rotation
from sam3d_objects.synthetic.templates import PHANTOM_ORGANS, organ_field
from sam3d_objects.volume import Volume

AIR_HU, FAT_HU, TISSUE_HU, BONE_HU = -1000.0, -95.0, 35.0, 320.0

_FIELD_MM = (174.0, 138.0, 156.0)
_CENTER_MM = (0.0, 0.0, 10.0)
_REACH_MM = 62.0
_BORDER_VOX = 2
_GAP_MM = 2.5
_ATTEMPTS = 50


@dataclass(frozen=True)
class PhantomScan:
    """A synthetic scan.

    Attributes:
        image: int16 HU.
        organs: name -> uint8 mask on the image's grid; masks are disjoint and each is one part.
    """

    image: Volume
    organs: dict[str, Volume]


def phantom_scan(generator: np.random.Generator, oblique: bool, cut_organ: str | None = None) -> PhantomScan:
    """Draw one patient and scan it.

    Args:
        generator: the only source of randomness.
        oblique: turn the grid against the patient by 6 to 18 degrees.
        cut_organ: an organ that the scan's upper border cuts through on purpose; the highest one makes sense.
    """
    for _ in range(_ATTEMPTS):
        # A patient whose organs overlap or leave the grid is drawn anew, from the same generator.
        affine, shape = _grid(generator, oblique)
        points = _grid_points(affine, shape)
        depths = _organ_depths(generator, points, shape)
        masks = {name: depth > 0 for name, depth in depths.items()}
        if _apart(depths) and all(_whole(mask) for mask in masks.values()):
            break
    else:
        raise AssertionError("no placement of the phantom organs was free of overlaps")
    image = _acquired(generator, points, depths, affine)
    if cut_organ is not None:
        keep = _slices_below_cut(masks[cut_organ], affine)
        image, affine = image[:, :, keep], affine.copy()
        masks = {name: mask[:, :, keep] for name, mask in masks.items()}
        affine[:3, 3] += affine[:3, 2] * keep.start
    # Where a scanner's table puts the origin says nothing about the patient.
    affine[:3, 3] += generator.uniform(-150, 150, 3)
    organs = {name: Volume(mask.astype(np.uint8), affine) for name, mask in masks.items()}
    return PhantomScan(Volume(image, affine), organs)


def _grid(generator: np.random.Generator, oblique: bool) -> tuple[FloatArray, tuple[int, int, int]]:
    """An affine (4, 4) centred on the phantom, of either handedness, and a shape with thick slices."""
    in_plane = generator.choice([1.3, 1.5, 1.8])
    spacing = np.array([in_plane, in_plane, generator.choice([2.0, 2.5, 3.0, 3.5])])
    shape = tuple(int(n) for n in np.ceil(np.array(_FIELD_MM) / spacing))
    directions = np.diag(generator.choice([-1.0, 1.0], size=3))
    if oblique:
        axis = random_rotation(generator)[0]
        directions = _turn_about(axis, np.radians(generator.uniform(6, 18))) @ directions
    affine = np.eye(4)
    affine[:3, :3] = directions * spacing
    affine[:3, 3] = np.array(_CENTER_MM) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine, (shape[0], shape[1], shape[2])


def _turn_about(axis: FloatArray, angle: float) -> FloatArray:
    """Rotation matrix (3, 3) by `angle` radians about the unit vector `axis` (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def _grid_points(affine: FloatArray, shape: tuple[int, int, int]) -> Float32:
    """Patient positions (3, N) float32 in mm of all voxels, the last axis fastest."""
    indices = np.indices(shape, dtype=np.float32).reshape(3, -1)
    return affine[:3, :3].astype(np.float32) @ indices + affine[:3, 3:].astype(np.float32)


def _organ_depths(
    generator: np.random.Generator, points: Float32, shape: tuple[int, int, int]
) -> dict[str, Float32]:
    """Depth (I, J, K) in mm below each organ's surface, negative outside."""
    depths = {}
    for organ in PHANTOM_ORGANS:
        field, center = organ_field(organ, generator)
        # Only voxels near the organ are worth evaluating; no organ reaches further from its centre.
        near = (np.abs(points - center[:, None].astype(np.float32)) < _REACH_MM).all(axis=0)
        depth = np.full(points.shape[1], -_REACH_MM, np.float32)
        depth[near] = field(points[:, near])
        depths[organ.name] = depth.reshape(shape)
    return depths


def _apart(depths: dict[str, Float32]) -> bool:
    """Whether no voxel lies in, or within `_GAP_MM` of, two organs."""
    near = np.sum([depth > -_GAP_MM for depth in depths.values()], axis=0)
    return bool(near.max() <= 1)


def _whole(mask: BoolArray) -> bool:
    """Whether `mask` is one part, clear of the border."""
    inner = mask[(slice(_BORDER_VOX, -_BORDER_VOX),) * 3]
    return bool(mask.any()) and inner.sum() == mask.sum() and ndimage.label(mask)[1] == 1


def _acquired(
    generator: np.random.Generator, points: Float32, depths: dict[str, Float32], affine: FloatArray
) -> npt.NDArray[np.int16]:
    """The scan (I, J, K) int16 HU: tissues with soft edges, texture, a bias field and noise."""
    shape = next(iter(depths.values())).shape
    clean = _body(generator, points).reshape(shape)
    inside_body = clean > AIR_HU / 2
    for organ in PHANTOM_ORGANS:
        level = organ.intensity_hu + generator.normal(0, 8)
        # Edges two millimetres soft stand in for the partial volume effect.
        share = np.clip(0.5 + depths[organ.name] / 2, 0, 1)
        clean += share * (level - clean)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    texture = ndimage.gaussian_filter(generator.standard_normal(shape, np.float32), 3.0 / spacing)
    clean += inside_body * texture * (7 / texture.std())
    waves = (random_rotation(generator) * 2 * np.pi / 220).astype(np.float32)
    bias = np.sin(waves @ points + generator.uniform(0, 2 * np.pi, (3, 1)).astype(np.float32)).mean(axis=0)
    # A scanner's shading is multiplicative in attenuation, which is HU + 1000.
    clean = (clean - AIR_HU) * (1 + np.float32(0.03) * bias.reshape(shape)) + AIR_HU
    noise = generator.standard_normal(shape, np.float32) * generator.uniform(9, 18)
    return np.clip(np.rint(clean + noise), -1024, 3071).astype(np.int16)


def _body(generator: np.random.Generator, points: Float32) -> Float32:
    """HU (N,) without organs: an oval trunk with a rim of fat, a spine, and blobs that distract."""
    x, y, z = points
    width, depth = 80 + generator.normal(0, 2), 62 + generator.normal(0, 2)
    trunk = np.hypot(x / width, y / depth) + np.float32(0.02) * np.sin(z / 21)
    rim = 1 - generator.uniform(5, 9) / depth
    values = np.where(trunk < 1, FAT_HU, AIR_HU).astype(np.float32)
    values[trunk < rim] = TISSUE_HU
    for _ in range(5):
        middle = generator.uniform([-55, -35, -60], [55, 40, 80])
        radii = generator.uniform(6, 17, 3)
        blob = ((points - middle[:, None]) / radii[:, None]).astype(np.float32)
        values[((blob * blob).sum(axis=0) < 1) & (trunk < rim)] = generator.uniform(-90, 70)
    spine = np.hypot(x / 13, (y + 44 + 3 * np.sin(z / 40)) / 10)
    values[spine < 1] = BONE_HU * (0.8 + 0.2 * np.sign(np.sin(z[spine < 1] / 4.5)))
    return values


def _slices_below_cut(mask: BoolArray, affine: FloatArray) -> slice:
    """The slices along the last axis that stay when the top of `mask` is cut off two thirds of the way up."""
    slices = np.flatnonzero(mask.any(axis=(0, 1)))
    low, high = int(slices[0]), int(slices[-1])
    if affine[2, 2] > 0:
        return slice(0, low + round((high - low) * 0.67) + 1)
    return slice(high - round((high - low) * 0.67), mask.shape[2])
