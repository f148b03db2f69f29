"""The letters of array shapes, and the array types that signatures use.

====  ==========================================================================
B     batch
N, V  points, vertices; F faces
T     tokens; C channels
K     samples that are averaged
I J K  the three voxel axes of a volume, in the order of the NIfTI file
H W   rows and columns of an image (also ``rows``, ``cols`` for a slice in its scan)
R     side of a cubic grid, S side of a square image
====  ==========================================================================

Units are in the names: ``_mm`` patient millimetres (RAS+), ``_vox`` voxel indices, ``_hu`` Hounsfield
units, ``_unit`` the object's unit cube, ``_s`` seconds, ``percent``. Geometry is float64.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]
BoolArray = npt.NDArray[np.bool_]
AnyArray = npt.NDArray[Any]
