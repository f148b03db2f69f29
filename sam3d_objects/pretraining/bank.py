"""A bank of procedural shapes on disk, made once, in parallel, resumable.

Letters: N shapes, F field side, R occupancy side.
"""

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.progress import track
from scipy import ndimage

from sam3d_objects.files import atomic_path
from sam3d_objects.synthetic import random_shape

FIELD_SIDE = 48
FIELD_STEP = 1 / 32  # one count of the stored int8 field, in voxels
CHUNK = 500


@dataclass(frozen=True)
class ShapeBank:
    """Shapes as signed fields and as solids.

    Attributes:
        fields: (N, F, F, F) int8, positive inside, in FIELD_STEP voxels; axes are patient L, P, S.
        solids: (N, R, R, R) uint8, 255 x the solid's share of each voxel of the object's unit cube.
        centers_vox: (N, 3) middle of each shape's box; sizes_vox: (N,) its longest side.
    """

    fields: npt.NDArray[np.int8]
    solids: npt.NDArray[np.uint8]
    centers_vox: npt.NDArray[np.float32]
    sizes_vox: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.fields)

    def first(self, count: int) -> "ShapeBank":
        """Return the first `count` shapes."""
        return ShapeBank(self.fields[:count], self.solids[:count], self.centers_vox[:count], self.sizes_vox[:count])


def zero_crossing_box(
    field: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return the low and high corners (3,) in voxel indices of where a field (F, F, F) is positive, interpolated."""
    low, high = np.empty(3, np.float32), np.empty(3, np.float32)
    for axis in range(3):
        profile = field.max(axis=tuple(a for a in range(3) if a != axis))
        inside = np.flatnonzero(profile > 0)
        first, last = int(inside[0]), int(inside[-1])
        low[axis], high[axis] = first, last
        if first > 0:
            low[axis] -= profile[first] / (profile[first] - profile[first - 1])
        if last + 1 < len(profile):
            high[axis] += profile[last] / (profile[last] - profile[last + 1])
    return low, high


def solid_in_unit_cube(
    field: npt.NDArray[np.float32], center_vox: npt.NDArray[np.float32], size_vox: float, resolution: int
) -> npt.NDArray[np.uint8]:
    """Sample a field at the R^3 cell centres of the object's unit cube; returns 255 x the share inside each cell."""
    centres = (np.arange(resolution, dtype=np.float32) + 0.5) / resolution - 0.5
    grid = np.stack(np.meshgrid(*(centres * size_vox + c for c in center_vox), indexing="ij"))
    cell_vox = size_vox / resolution
    values = ndimage.map_coordinates(field, grid, order=1, mode="nearest") / cell_vox
    # A plane at signed distance d (in cells) from a cell's centre leaves about d + 1/2 of the cell inside.
    return np.round(255 * np.clip(values + 0.5, 0, 1)).astype(np.uint8)


def _make_chunk(arguments: tuple[Path, int, int, int]) -> Path:
    path, seed, start, resolution = arguments
    fields = np.empty((CHUNK, FIELD_SIDE, FIELD_SIDE, FIELD_SIDE), np.int8)
    solids = np.empty((CHUNK, resolution, resolution, resolution), np.uint8)
    centers, sizes = np.empty((CHUNK, 3), np.float32), np.empty(CHUNK, np.float32)
    for index in range(CHUNK):
        field = random_shape(np.random.default_rng([seed, start + index]), FIELD_SIDE)
        fields[index] = np.clip(np.round(field / FIELD_STEP), -127, 127)
        low, high = zero_crossing_box(field)
        centers[index], sizes[index] = (low + high) / 2, (high - low).max()
        solids[index] = solid_in_unit_cube(field, centers[index], float(sizes[index]), resolution)
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        np.savez(handle, fields=fields, solids=solids, centers_vox=centers, sizes_vox=sizes)
    return path


def load_bank(folder: Path, count: int, seed: int, resolution: int, workers: int) -> ShapeBank:
    """Return `count` shapes (rounded up to whole chunks), making those that `folder` lacks."""
    folder.mkdir(parents=True, exist_ok=True)
    starts = range(0, count, CHUNK)
    paths = [folder / f"shapes_{seed}_{resolution}_{start:06d}.npz" for start in starts]
    jobs = [(path, seed, start, resolution) for path, start in zip(paths, starts, strict=True) if not path.exists()]
    if jobs:
        with ProcessPoolExecutor(workers) as pool:
            for _ in track(pool.map(_make_chunk, jobs), "procedural shapes", total=len(jobs)):
                pass
    parts = [np.load(path, allow_pickle=False) for path in paths]
    return ShapeBank(
        **{name: np.concatenate([p[name] for p in parts]) for name in ("fields", "solids", "centers_vox", "sizes_vox")}
    )
