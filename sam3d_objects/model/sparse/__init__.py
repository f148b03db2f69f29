"""Packed batches of active voxels: features (N, C) and int32 coordinates (N, 4) = sample, x, y, z."""

from sam3d_objects.model.sparse.attention import attend_condition, attend_windows, attend_within
from sam3d_objects.model.sparse.convolution import SparseConv3d
from sam3d_objects.model.sparse.coordinates import check_coordinates, debug_mode
from sam3d_objects.model.sparse.grid import SparseGrid
from sam3d_objects.model.sparse.neighbours import NeighbourMap
from sam3d_objects.model.sparse.norm import SparseGroupNorm
from sam3d_objects.model.sparse.resampling import downsample, subdivide, upsample
from sam3d_objects.model.sparse.tensor import SparseTensor
from sam3d_objects.model.sparse.windows import Windows

__all__ = [
    "NeighbourMap",
    "SparseConv3d",
    "SparseGrid",
    "SparseGroupNorm",
    "SparseTensor",
    "Windows",
    "attend_condition",
    "attend_windows",
    "attend_within",
    "check_coordinates",
    "debug_mode",
    "downsample",
    "subdivide",
    "upsample",
]
