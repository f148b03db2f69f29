"""Procedural shapes seen as slices: a random plane, pixel size, field of view, contrast and noise.

The slice goes through the very code that a patient's slice goes through (planes, mask margin, intensity, pointmap).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from sam3d_objects.arrays import FloatArray
from sam3d_objects.mesh import ObjectFrame, SliceCamera, pointmap
from sam3d_objects.pretraining.bank import FIELD_SIDE, FIELD_STEP, ShapeBank
from sam3d_objects.volume import (
    PLANES,
    Intensity,
    SliceInput,
    Volume,
    condition_image,
    cut,
    oblique_plane,
    voxel_plane,
)
from sam3d_objects.volume.planes import through_plane_axis

LEAST_AREA_SHARE = 0.25


@dataclass(frozen=True)
class RenderedSlice:
    """What the model sees of a shape, and where the shape is.

    Attributes:
        image01: (Y, X) in [0, 1]; slice: the slice, cut to its mask's margin; frame: the object's, patient mm.
    """

    image01: FloatArray
    slice: SliceInput
    frame: ObjectFrame

    @cached_property
    def camera(self) -> SliceCamera:
        """The slice's camera."""
        return SliceCamera.from_plane(self.slice.plane)

    @cached_property
    def pointmap(self) -> FloatArray:
        """(Y, X, 3) camera mm, NaN where nothing is seen."""
        return pointmap(self.slice.plane, self.camera, self.slice.valid)


def render_slice(bank: ShapeBank, index: int, generator: np.random.Generator) -> RenderedSlice:
    """Draw one random slice of shape `index`."""
    size_mm = float(np.exp(generator.uniform(np.log(20.0), np.log(250.0))))
    scale_mm = size_mm / float(bank.sizes_vox[index])
    # The field's axes are patient L, P, S; NIfTI's world is R, A, S.
    affine = np.diag([-scale_mm, -scale_mm, scale_mm, 1.0])
    volume = Volume(bank.fields[index], affine)
    center = volume.voxel_to_mm(bank.centers_vox[index][None].astype(np.float64))[0]
    name = str(generator.choice(PLANES))
    grid = voxel_plane(volume, name, _draw_index(volume, name, generator))
    # Offset within the voxel, so that slices do not sit on the field's own lattice.
    offset_mm = generator.uniform(-0.5, 0.5) * scale_mm * grid.camera_axes[2]
    while True:
        row_mm, col_mm = _draw_pixel_mm(size_mm, name, generator)
        shape = (int(FIELD_SIDE * scale_mm / row_mm) + 1, int(FIELD_SIDE * scale_mm / col_mm) + 1)
        middle = grid.pixel_to_mm((np.array([grid.shape]) - 1) / 2)[0]
        plane = oblique_plane(middle + offset_mm, grid.camera_axes, shape, (row_mm, col_mm), name=name)
        field = cut(volume, plane, order=1, cval=-127.0) * FIELD_STEP * scale_mm / max(row_mm, col_mm)
        if (field > 0).sum() >= 4:
            break
        offset_mm = np.zeros(3)
    image = _draw_image(field.astype(np.float32), generator)
    slice = SliceInput(image, field > 0, plane, np.ones(shape, dtype=bool))
    margin_mm = max(size_mm * generator.uniform(0.03, 0.16), 1.01 * max(row_mm, col_mm))
    seen, image01 = condition_image(slice, Intensity("mr"), "mask_margin", margin_mm)
    return RenderedSlice(image01, seen, ObjectFrame(center, size_mm))


def _draw_index(volume: Volume, name: str, generator: np.random.Generator) -> int:
    """Draw a slice of at least a quarter of the largest area; a third of the time the largest."""
    axis = through_plane_axis(volume.affine, name)
    areas = (volume.voxels > 0).sum(axis=tuple(a for a in range(3) if a != axis))
    if generator.random() < 1 / 3:
        return int(areas.argmax())
    return int(generator.choice(np.flatnonzero(areas >= LEAST_AREA_SHARE * areas.max())))


def _draw_pixel_mm(size_mm: float, name: str, generator: np.random.Generator) -> tuple[float, float]:
    """Draw pixel sizes: 20 to 110 pixels along the longest side; rows may be slices, up to 3 times as thick."""
    col_mm = size_mm / float(np.exp(generator.uniform(np.log(20.0), np.log(110.0))))
    thick = name != "axial" and generator.random() < 0.4
    row_mm = min(col_mm * (generator.uniform(1.0, 3.0) if thick else 1.0), size_mm / 14)
    return row_mm, col_mm


def _texture(shape: tuple[int, int], generator: np.random.Generator) -> FloatArray:
    """Draw smooth unit-variance noise of a random coarseness."""
    sigma = float(np.exp(generator.uniform(np.log(0.5), np.log(8.0))))
    noise = ndimage.gaussian_filter(generator.standard_normal(shape).astype(np.float32), sigma)
    return noise / (noise.std() + 1e-6)


def _draw_image(field: FloatArray, generator: np.random.Generator) -> FloatArray:
    """Paint a slice: inside and outside of different brightness and texture, neighbours, bias, blur, noise."""
    shape = field.shape
    blur = generator.uniform(0.3, 1.2)
    inside = 1 / (1 + np.exp(-field / (0.5 * blur)))
    brightness = generator.uniform(0.0, 1.0, size=2)
    roughness = generator.uniform(0.0, 0.2, size=2)
    foreground = brightness[0] + roughness[0] * _texture(shape, generator)
    background = brightness[1] + roughness[1] * _texture(shape, generator)
    if generator.random() < 0.5:  # neighbouring structures of another brightness, some like the shape itself
        patches = _texture(shape, generator) > generator.uniform(0.0, 1.5)
        other = brightness[0] if generator.random() < 0.3 else generator.uniform(0.0, 1.0)
        background = np.where(patches, other + roughness[1] * _texture(shape, generator), background)
    image = inside * foreground + (1 - inside) * background
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    slope = generator.normal(0, 0.1, size=2)
    image = image * (1 + slope[0] * rows + slope[1] * columns)
    noise = generator.uniform(0.0, 0.1) * generator.standard_normal(shape)
    return (image + noise).astype(np.float32)
