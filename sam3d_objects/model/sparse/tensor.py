"""Features at active voxels. Letters: N voxels over the whole batch, C channels."""

from dataclasses import dataclass

from torch import Tensor

from sam3d_objects.model.sparse.grid import SparseGrid


@dataclass(frozen=True, eq=False)
class SparseTensor:
    """Features (N, C) of a grid's N voxels, in its order."""

    features: Tensor
    grid: SparseGrid

    def __post_init__(self) -> None:
        assert self.features.ndim == 2 and len(self.features) == len(self.grid), (self.features.shape, len(self.grid))

    def replace(self, features: Tensor) -> "SparseTensor":
        """Other features (N, C') at the same voxels; a per-voxel layer is `x.replace(layer(x.features))`."""
        return SparseTensor(features, self.grid)
