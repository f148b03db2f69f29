"""The sheets of pictures that TensorBoard shows."""

from pathlib import Path

import numpy as np
import pytest

from sam3d_objects.cli.pictures import sheet
from sam3d_objects.cli.reconstruct import read_volume
from sam3d_objects.evaluation import Material, Truth
from sam3d_objects.mesh import Mesh, surface_from_mask
from sam3d_objects.training.validated import Picture
from sam3d_objects.volume import slice_input


@pytest.fixture
def material(scan: tuple[Path, Path]) -> Material:
    image, organ = read_volume(*scan, None, "1+2")
    mesh = surface_from_mask(np.asarray(organ.voxels), organ.affine)
    return Material(slice_input(image, organ, "axial", 8), Truth(organ, mesh, organ.diagonal_mm), image)


def share(picture: Picture, red: bool) -> float:
    """How much of a picture is orange (the prediction), or green (the truth)."""
    r, _, b = np.moveaxis(picture.astype(int), -1, 0)
    return float(((r - b > 60) if red else (b - r > 20)).mean())


def test_a_sheet_shows_the_prediction_beside_the_truth(material: Material) -> None:
    truth = material.truth.mesh
    drawn = sheet(material, Mesh(truth.vertices + np.array([2.0, 0, 0]), truth.faces))
    assert drawn.dtype == np.uint8 and drawn.ndim == 3 and drawn.shape[2] == 3
    assert share(drawn, red=True) > 0.01 and share(drawn, red=False) > 0.01
    np.testing.assert_array_equal(drawn, sheet(material, Mesh(truth.vertices + np.array([2.0, 0, 0]), truth.faces)))


def test_without_a_solid_the_truth_is_shown_alone(material: Material) -> None:
    truth = material.truth.mesh
    whole = sheet(material, truth)
    for nothing in (None, Mesh(truth.vertices, truth.faces[1:])):
        drawn = sheet(material, nothing)
        assert drawn.shape == whole.shape, "so that TensorBoard's slider keeps its size"
        assert share(drawn, red=True) < 0.5 * share(whole, red=True)
        assert share(drawn, red=False) > 0.01
