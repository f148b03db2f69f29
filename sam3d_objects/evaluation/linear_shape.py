"""Linear shape: the PCA shape model in the slice frame. It predicts the organ's distance field from the mask's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sam3d_objects.arrays import BoolArray, FloatArray
from sam3d_objects.evaluation.shape_models import require_plane
from sam3d_objects.evaluation.slice_frame import PlaneExamples, SliceGrid, TrainingShapes
from sam3d_objects.mesh import Mesh, main_parts, surface_from_field
from sam3d_objects.volume import SliceInput

_COMPONENTS = 48
_RIDGES = (0.01, 0.03, 0.1, 0.3)
_DEFAULT_RIDGE = 0.1
_LEVELS = -0.1 * np.arange(9)
"""In grid steps. A regression towards the mean draws uncertain surfaces inwards; a level below 0 gives the volume back.
"""
_STRIDE = 7  # every so many grid points are enough to choose by; 7 does not divide the grid's side
_MIN_ORGANS = 4  # fewer cannot be split in two halves that say something about each other


@dataclass(frozen=True, eq=False)
class LinearPlane:
    """The model of one plane: field = shape_mean + ((mask - mask_mean) @ weights) @ modes, solid above `level_mm`.

    Args:
        mask_mean: (S * S,) float64.
        shape_mean: (S ** 3,) float32.
        weights: (S * S, C) float64.
        modes: (C, S ** 3) float32, the C principal components of the training shapes.
        level_mm: the value on the surface.
    """

    mask_mean: FloatArray
    shape_mean: FloatArray
    weights: FloatArray
    modes: FloatArray
    level_mm: float = 0.0

    @classmethod
    def fit(cls, masks: FloatArray, shapes: FloatArray, ridge: float, level_mm: float) -> LinearPlane:
        """Principal components of the shapes, then ridge regression of their coefficients on the mask's distances.

        The regression is solved in its dual form, with as many unknowns as slices; its ridge is relative to the median
        squared distance of two masks.

        Args:
            masks: (N, S * S); shapes: (N, S ** 3), signed distances, mm.
            ridge: noise beside signal, above 0.
            level_mm: the value on the surface.
        """
        masks, shapes = masks.astype(np.float64), shapes.astype(np.float32)
        mask_mean, shape_mean = masks.mean(axis=0), shapes.mean(axis=0)
        masks, shapes = masks - mask_mean, shapes - shape_mean
        # Eigenvectors of the N x N products give the components without a matrix of voxels by voxels.
        values, vectors = np.linalg.eigh((shapes @ shapes.T).astype(np.float64))
        keep = [n for n in range(len(values))[::-1][:_COMPONENTS] if values[n] > 1e-6 * max(values[-1], 1e-12)]
        root = np.sqrt(values[keep])
        modes = (vectors[:, keep] / root).T.astype(np.float32) @ shapes
        kernel = masks @ masks.T
        squares = np.diag(kernel)
        scale = max(float(np.median(squares[:, None] + squares[None] - 2 * kernel)), 1e-12)
        dual = np.linalg.solve(kernel / scale + ridge * np.eye(len(kernel)), vectors[:, keep] * root)
        return cls(mask_mean, shape_mean, masks.T @ dual / scale, modes, level_mm)

    @classmethod
    def of_examples(cls, examples: PlaneExamples, step_mm: float) -> LinearPlane:
        """Fit a plane's model; ridge and level are those that score best when half of the organs predict the others."""
        masks = examples.masks.reshape(len(examples.masks), -1)
        shapes = examples.shapes.reshape(len(examples.shapes), -1)
        if len(np.unique(examples.organ)) < _MIN_ORGANS:
            return cls.fit(masks, shapes, _DEFAULT_RIDGE, 0.0)
        some = shapes[:, ::_STRIDE]
        scores = np.zeros((len(_RIDGES), len(_LEVELS)))
        for half in (0, 1):
            held_out = examples.organ % 2 == half
            for ridge_scores, ridge in zip(scores, _RIDGES, strict=True):
                model = cls.fit(masks[~held_out], some[~held_out], ridge, 0.0)
                for mask, shape in zip(masks[held_out], some[held_out], strict=True):
                    ridge_scores += _dice_at_levels(model.predict(mask), shape > 0, _LEVELS * step_mm)
        ridge_number, level_number = divmod(int(scores.argmax()), len(_LEVELS))
        return cls.fit(masks, shapes, _RIDGES[ridge_number], float(_LEVELS[level_number]) * step_mm)

    def predict(self, mask: FloatArray) -> FloatArray:
        """(S * S,) distances of a mask -> (S ** 3,) float32 distances of the organ, mm, larger inside."""
        coefficients = (mask - self.mask_mean) @ self.weights
        return np.asarray(self.shape_mean + coefficients.astype(np.float32) @ self.modes)


def _dice_at_levels(field: FloatArray, truth: BoolArray, levels: FloatArray) -> FloatArray:
    """Dice of {field > level} with the truth, for each level (L,) -> (L,)."""
    solids = field[None] > levels[:, None]
    shared = np.count_nonzero(solids & truth, axis=1)
    return 2 * shared / (np.count_nonzero(solids, axis=1) + np.count_nonzero(truth))


@dataclass(frozen=True, eq=False)
class LinearShape:
    """A predictor: the PCA shape model, its coefficients regressed on the mask, plane by plane."""

    grid: SliceGrid
    planes: dict[str, LinearPlane]

    def __call__(self, slice: SliceInput, seed: int) -> Mesh:
        """The mesh in patient mm; nothing is random."""
        model = self.planes[require_plane(slice.plane.name, tuple(self.planes))]
        size = self.grid.size
        field = model.predict(self.grid.mask_distances(slice).ravel()).reshape(size, size, size)
        return surface_from_field(main_parts(field, model.level_mm), model.level_mm, self.grid.of_slice(slice))


def pca_shape(shapes: TrainingShapes) -> LinearShape:
    """The PCA shape model in the slice frame, its coefficients regressed on the mask's distances."""
    step_mm = shapes.grid.step_mm
    planes = {name: LinearPlane.of_examples(examples, step_mm) for name, examples in shapes.examples.items()}
    return LinearShape(shapes.grid, planes)
