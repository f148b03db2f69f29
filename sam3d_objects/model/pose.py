"""Pose tokens: an object's size, place and rotation in the camera, as the structure flow sees them, and back.

Vectors are rows: x_camera = size * x_object @ R + t. Lengths are in the pointmap's unit (mm in this project).
"""

from typing import NamedTuple

import torch
from torch import Tensor

from sam3d_objects.model.preprocess import PointmapStatistics

# Statistics of the 6D rotation over the release's training set.
ROTATION_6D_MEAN = (
    -0.06366084883674913,
    0.008438224692279752,
    0.00017084786438302483,
    0.0007126610473540038,
    -0.0030916726538816417,
    0.5166093753457688,
)
ROTATION_6D_STD = (
    0.6656971967514863,
    0.6787012271867754,
    0.30345010594844524,
    0.4394504420678794,
    0.39817973931717104,
    0.6176286868761914,
)


class Pose(NamedTuple):
    """A pose in the camera's frame.

    rotation: (3, 3) for row vectors; translation: (3,) object centre; size: longest side. Both in the pointmap's unit.
    """

    rotation: Tensor
    translation: Tensor
    size: float


def rotation_to_6d(rotation: Tensor) -> Tensor:
    """Return the first two columns of a row-vector rotation (..., 3, 3) as (..., 6).

    Zhou et al. 2019, arXiv 1812.07035.
    """
    return torch.cat([rotation[..., :, 0], rotation[..., :, 1]], dim=-1)


def rotation_from_6d(columns: Tensor) -> Tensor:
    """Gram-Schmidt two columns (..., 6) to a row-vector rotation (..., 3, 3)."""
    first = torch.nn.functional.normalize(columns[..., :3], dim=-1)
    second = columns[..., 3:]
    second = torch.nn.functional.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1)


def normalise_6d(columns: Tensor) -> Tensor:
    """Standardise a 6D rotation (..., 6) with the release's statistics."""
    return (columns - columns.new_tensor(ROTATION_6D_MEAN)) / columns.new_tensor(ROTATION_6D_STD)


def denormalise_6d(columns: Tensor) -> Tensor:
    """Undo `normalise_6d`."""
    return columns * columns.new_tensor(ROTATION_6D_STD) + columns.new_tensor(ROTATION_6D_MEAN)


def pose_tokens(pose: Pose, scene: PointmapStatistics) -> dict[str, Tensor]:
    """Encode a pose as latents (1, c): rotation 6, translation 3, scale 3 (equal), translation_scale 1 (unused, 0).

    scale = log(size / scene scale); translation = (t - scene shift) / scene scale.
    """
    if not pose.size > 0:
        raise ValueError(f"an object's size must be positive, got {pose.size}")
    translation = (pose.translation.double() - scene.shift.double()) / scene.scale
    log_size = torch.log(torch.tensor(pose.size / scene.scale, dtype=torch.float64))
    return {
        "6drotation_normalized": normalise_6d(rotation_to_6d(pose.rotation.double())).float()[None],
        "translation": translation.float()[None],
        "scale": log_size.float().repeat(3)[None],
        "translation_scale": torch.zeros(1, 1),
    }


def pose_from_tokens(latents: dict[str, Tensor], scene: PointmapStatistics) -> Pose:
    """Decode one sample's latents (1, c) to a pose; the size is the mean of the three axes' sizes."""
    rotation = rotation_from_6d(denormalise_6d(latents["6drotation_normalized"][0].double()))
    size = float(latents["scale"][0].double().exp().mean()) * scene.scale
    translation = latents["translation"][0].double() * scene.scale + scene.shift.double()
    return Pose(rotation, translation, size)


def rotation_to_quaternion(rotation: Tensor) -> Tensor:
    """Return the unit quaternion (w, x, y, z), w >= 0, of a rotation (3, 3).

    The release reads its row-vector matrix as if it were for column vectors, and so does this.
    """
    m = rotation.double()
    xx, yy, zz = (float(v) for v in m.diagonal())
    squares = torch.tensor([1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz])
    # Each row is the quaternion times 4 x its own component: the largest component is the well-conditioned one.
    rows = torch.stack(
        [
            torch.stack([squares[0], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]]),
            torch.stack([m[2, 1] - m[1, 2], squares[1], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]]),
            torch.stack([m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], squares[2], m[1, 2] + m[2, 1]]),
            torch.stack([m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], squares[3]]),
        ]
    )
    quaternion = torch.nn.functional.normalize(rows[int(squares.argmax())], dim=0)
    return quaternion * (1.0 if quaternion[0] >= 0 else -1.0)
