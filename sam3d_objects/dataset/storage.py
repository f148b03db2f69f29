"""Volumes and meshes as compressed .npz without pickle: 16-bit intensities, one bit a mask voxel."""

import math
import zipfile
from pathlib import Path

import numpy as np

from sam3d_objects.arrays import AnyArray, BoolArray
from sam3d_objects.mesh import Mesh

_FINENESS = 4096  # grey levels over the span of the middle 99 % that 16 bits must keep


def encode_intensities(voxels: AnyArray) -> tuple[AnyArray, float, float, float]:
    """Store intensities in 16 bits where that loses nothing that matters.

    Whole numbers that fit int16 or uint16 are kept exactly (CT). Others become uint16 steps of (max - min) /
    65535, so an intensity is off by half a step at most; if outliers make that step coarser than 1/4096 of
    the span from the 0.5th to the 99.5th percentile, float32 is kept. float16 would overflow: MR maxima reach
    1.7e6.

    Args:
        voxels: (I, J, K), finite.

    Returns:
        stored (I, J, K) int16, uint16 or float32; slope and intercept with voxels = stored * slope +
        intercept; the largest rounding error in intensity units.
    """
    values = np.asarray(voxels, dtype=np.float64)
    low, high = float(values.min()), float(values.max())
    if (values == np.rint(values)).all():
        for dtype in (np.int16, np.uint16):
            if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
                return values.astype(dtype), 1.0, 0.0, 0.0
    step = (high - low) / 65535
    bulk_low, bulk_high = np.percentile(values, (0.5, 99.5))
    if step == 0 or step * _FINENESS > bulk_high - bulk_low:
        stored = values.astype(np.float32)
        return stored, 1.0, 0.0, float(np.abs(stored - values).max())
    return np.rint((values - low) / step).astype(np.uint16), step, low, step / 2


def file_names(organs: int) -> list[str]:
    """What a case of so many organs consists of; of none, nothing is stored."""
    return ["volume.npz", *(f"organ_{number}.npz" for number in range(organs))] if organs else []


def save_volume(folder: Path, voxels: AnyArray) -> float:
    """Write intensities (I, J, K) as ``volume.npz``; returns the largest rounding error."""
    stored, slope, intercept, rounding = encode_intensities(voxels)
    np.savez_compressed(folder / "volume.npz", voxels=stored, scaling=np.array([slope, intercept]))
    return rounding


def load_volume(folder: Path) -> tuple[AnyArray, float, float]:
    """What `encode_intensities` made: stored voxels (I, J, K), slope and intercept."""
    arrays = _load(folder / "volume.npz", ("voxels", "scaling"))
    slope, intercept = arrays["scaling"].tolist()
    return arrays["voxels"], slope, intercept


def save_organ(folder: Path, number: int, mask: BoolArray, mesh: Mesh) -> None:
    """Write ``organ_<number>.npz``: the mask of the organ's box, one bit a voxel, and its surface in mm."""
    faces = mesh.faces.astype(np.int32)
    bits = np.packbits(mask.ravel())
    np.savez_compressed(folder / f"organ_{number}.npz", bits=bits, vertices=mesh.vertices, faces=faces)


def load_organ(folder: Path, number: int, box_shape: tuple[int, int, int]) -> tuple[BoolArray, Mesh]:
    """The mask of organ `number` in its box, and its surface in patient mm."""
    arrays = _load(folder / f"organ_{number}.npz", ("bits", "vertices", "faces"))
    mask = np.unpackbits(arrays["bits"], count=math.prod(box_shape)).reshape(box_shape).astype(bool)
    return mask, Mesh(arrays["vertices"], arrays["faces"])


def _load(path: Path, names: tuple[str, ...]) -> dict[str, AnyArray]:
    try:
        # Opened here, because NumPy leaves a damaged file open.
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}
    except (FileNotFoundError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is missing or damaged ({error}); remove its folder and prepare again") from error
