"""From features of active cubes to values at the grid's vertices.

Letters: N active cubes, A active vertices (corners of active cubes), R cubes along a side of the grid.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sam3d_objects.model.flexicubes.keys import corner_offsets, corner_union, linear_keys, places_of
from sam3d_objects.model.flexicubes.layout import FeatureLayout


@dataclass(frozen=True, eq=False)
class CornerValues:
    """Corner values of neighbouring cubes, averaged; differentiable in the features.

    Args:
        resolution: R.
        keys: (A,) int64 ascending: the vertices in C order on the (R+1)^3 grid.
        sdf: (A,) signed distance, below 0 inside.
        deform: (A, 3) raw offset.
        colour: (A, 6) logits, or None.
        weights: (N, 21) raw beta, alpha, gamma of each cube.
        disagreement: mean squared difference of a cube's sdf, deform and colour at a corner from the average there, a
            scalar; None unless it was asked for.
    """

    resolution: int
    keys: Tensor
    sdf: Tensor
    deform: Tensor
    colour: Tensor | None
    weights: Tensor
    disagreement: Tensor | None = None

    @property
    def vertices(self) -> Tensor:
        """(A, 3) int64 in 0..R, in C order."""
        return places_of(self.keys, self.resolution + 1)

    @property
    def positions(self) -> Tensor:
        """(A, 3) in the object's cube, deformed."""
        return vertex_positions(self.vertices, self.deform, self.resolution)


def vertex_positions(vertices: Tensor, deform: Tensor, resolution: int) -> Tensor:
    """v / R - 0.5 + (1 - 1e-8) / (2 R) tanh(deform): less than half a cube from the grid's vertices (A, 3)."""
    reach = (1 - 1e-8) / (2 * resolution)
    return vertices.to(deform.dtype) / resolution - 0.5 + reach * torch.tanh(deform)


def corner_values(
    features: Tensor, coordinates: Tensor, resolution: int, with_disagreement: bool = False
) -> CornerValues:
    """Average what the active cubes say about each grid vertex.

    Args:
        features: (N, 101) or, without colour, (N, 53) float; computed in float32 at least.
        coordinates: (N, 3) integers in 0..R-1, in any order, unique.
        resolution: R.
        with_disagreement: fills `disagreement`.

    Raises:
        ValueError: on another number of channels, or on coordinates that are duplicated or out of the grid.
    """
    layout = FeatureLayout.of(features.shape[1])
    _check_places(features, coordinates, resolution)
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    quantities, weights = layout.split(features)
    quantities[0] = quantities[0] - 1 / resolution
    average = _CornerAverage(coordinates, resolution)
    means = [average(values) for values in quantities]
    disagreement = None
    if with_disagreement:
        squares = [average.squares(values, mean) for values, mean in zip(quantities, means, strict=True)]
        disagreement = torch.stack(squares).sum() / max(1, sum(values.numel() for values in quantities))
    colour = means[2] if layout.colour else None
    return CornerValues(resolution, average.keys, means[0].squeeze(1), means[1], colour, weights, disagreement)


class _CornerAverage:
    """The mean over the cubes (N, 3) that meet at each vertex; `keys` (A,) names the vertices in C order."""

    def __init__(self, cubes: Tensor, resolution: int) -> None:
        self.keys = corner_union(cubes, resolution)
        origins = linear_keys(cubes, resolution + 1)
        # Each corner by itself meets no vertex twice, so the sums are the same on every run, on GPUs as well.
        self.index = [
            torch.searchsorted(self.keys, origins + offset) for offset in corner_offsets(resolution, cubes.device)
        ]
        self.counts = torch.zeros_like(self.keys)
        for index in self.index:
            self.counts.index_add_(0, index, torch.ones_like(index))

    def __call__(self, values: Tensor) -> Tensor:
        """Map values of cubes' corners (N, 8, k) to vertices (A, k)."""
        total = values.new_zeros(len(self.keys), values.shape[2])
        for index, value in zip(self.index, values.unbind(1), strict=True):
            total.index_add_(0, index, value)
        return total / self.counts[:, None]

    def squares(self, values: Tensor, mean: Tensor) -> Tensor:
        """Sum of squared differences between values (N, 8, k) and means (A, k): a scalar."""
        total = mean.new_zeros(())
        for index, value in zip(self.index, values.unbind(1), strict=True):
            total = total + (value - mean[index]).square().sum()
        return total


def _check_places(features: Tensor, coordinates: Tensor, resolution: int) -> None:
    found = f"{coordinates.dtype} {tuple(coordinates.shape)}"
    if coordinates.shape != (len(features), 3) or coordinates.is_floating_point():
        raise ValueError(f"cubes: expected integer coordinates ({len(features)}, 3), one for each feature, got {found}")
    outside = ((coordinates < 0) | (coordinates >= resolution)).any(dim=1)
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        place = coordinates[row].tolist()
        raise ValueError(f"cubes: expected coordinates in 0..{resolution - 1}, row {row} is {place}")
    keys = torch.sort(linear_keys(coordinates, resolution)).values
    repeated = keys[1:] == keys[:-1]
    if bool(repeated.any()):
        place = places_of(keys[:-1][repeated][0], resolution).tolist()
        raise ValueError(f"cubes: expected each coordinate once, {place} comes more often (one sample at a time?)")
