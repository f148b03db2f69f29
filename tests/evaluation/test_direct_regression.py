"""The direct regression's box: the same anatomy in every plane, and a surface that lies where the organ lies."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sam3d_objects.arrays import FloatArray
from sam3d_objects.evaluation import METRICS, Truth, compare
from sam3d_objects.evaluation.direct_regression import (
    CHANNELS,
    SIDE,
    DirectGrid,
    DirectRegression,
    box_axes,
    direct_network,
)
from sam3d_objects.evaluation.slice_frame import DistanceField, label_slice, mask_center_mm, training_indices
from sam3d_objects.mesh import surface_from_mask
from sam3d_objects.volume import PLANES, Intensity, SliceInput, Volume, apply_affine, voxel_plane

# Left-handed and oblique by 20 degrees about the patient's long axis, anisotropic.
TURN = np.radians(20)
OBLIQUE = np.eye(4)
OBLIQUE[:3, :3] = np.array([[-np.cos(TURN), -np.sin(TURN), 0], [-np.sin(TURN), np.cos(TURN), 0], [0, 0, 1]]) * [1, 1, 2]
OBLIQUE[:3, 3] = [30, -20, 5]


def organ(affine: FloatArray = OBLIQUE) -> Volume:
    """An egg with a bump to the front and right, on voxels."""
    points = np.moveaxis(np.indices((40, 44, 26)), 0, -1) * [1, 1, 2] - [19, 21, 25]
    egg = np.linalg.norm(points / [11, 17, 15], axis=-1) < 1
    bump = np.linalg.norm(points - [7, 12, 6], axis=-1) < 7
    return Volume(egg | bump, affine)


def middle_slice(label: Volume, plane_name: str) -> SliceInput:
    found = label_slice(label, plane_name, training_indices(label, plane_name, 3)[1])
    assert found is not None
    return found


class Remembered(nn.Module):
    """Answers with one volume, whatever it is asked."""

    def __init__(self, layers: FloatArray) -> None:
        super().__init__()
        self.layers = nn.Parameter(torch.from_numpy(layers)[None])

    def forward(self, inputs: Tensor) -> Tensor:
        return self.layers.expand(len(inputs), -1, -1, -1)


@pytest.mark.parametrize("affine", [np.diag([1.0, 1.0, 2.0, 1.0]), OBLIQUE])
@pytest.mark.parametrize("plane_name", PLANES)
def test_the_axes_are_the_cameras_in_the_patients_order(plane_name: str, affine: FloatArray) -> None:
    plane = voxel_plane(organ(affine), plane_name, 20)
    axes, normal = box_axes(plane)
    assert normal == {"sagittal": 0, "coronal": 1, "axial": 2}[plane_name]
    assert (np.diag(axes) > 0.9).all()
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.abs(axes[normal] @ plane.camera_axes[2]), 1.0)


@pytest.mark.parametrize("plane_name", PLANES)
def test_a_perfect_network_gives_the_organ_back(plane_name: str) -> None:
    """What the target says of a slice, returned by the network, is the organ at its place in the patient."""
    label = organ()
    slice = middle_slice(label, plane_name)
    grid = DirectGrid.of_labels([label])
    target = grid.target(DistanceField.of_label(label, grid.clip_mm), slice)
    predict = DirectRegression(Remembered(target), grid, Intensity("mr"), "mask_margin", 3.0)
    truth = Truth(label, surface_from_mask(label.voxels, label.affine), label.diagonal_mm)
    assert METRICS["dice"].of(compare(predict(slice, 0), truth)) > 0.93


@pytest.mark.parametrize("plane_name", PLANES)
def test_inputs_show_the_mask_where_the_target_has_it(plane_name: str) -> None:
    label = organ()
    slice = middle_slice(label, plane_name)
    grid = DirectGrid.of_labels([label])
    inputs = grid.inputs(slice, np.where(slice.mask, 0.8, 0.2))
    assert inputs.shape == (CHANNELS, SIDE, SIDE) and inputs.dtype == np.float32
    # The slice lies between the two middle layers.
    middle = grid.target(DistanceField.of_label(label, grid.clip_mm), slice)[SIDE // 2 - 1 : SIDE // 2 + 1].mean(axis=0)
    shown, true = inputs[0] > 0, middle > 0
    assert 2 * (shown & true).sum() / (shown.sum() + true.sum()) > 0.9
    assert inputs[1][inputs[0] > 0.3].min() > 0.79 and inputs[1].max() <= 0.8
    assert inputs[0].min() == -1 and np.abs(inputs[2:4]).max() == 1
    assert inputs[4:, 0, 0].tolist() == [float(axis == box_axes(slice.plane)[1]) for axis in range(3)]


def test_the_box_holds_the_organ_from_any_of_its_slices() -> None:
    label = organ()
    grid = DirectGrid.of_labels([label, organ(np.diag([1.0, 1.0, 2.0, 1.0]))])
    points_mm = label.voxel_to_mm(np.argwhere(label.voxels))
    for plane_name in PLANES:
        for index in training_indices(label, plane_name):
            slice = label_slice(label, plane_name, index)
            assert slice is not None
            inside = apply_affine(np.linalg.inv(grid.affine(slice)), points_mm)
            assert inside.min() > -0.5 and inside.max() < SIDE - 0.5
            center = apply_affine(grid.affine(slice), np.full((1, 3), (SIDE - 1) / 2))
            np.testing.assert_allclose(center[0], mask_center_mm(slice), atol=1e-9)
    with pytest.raises(ValueError, match="at least one training label"):
        DirectGrid.of_labels([])


def test_a_warped_organs_target_is_the_warped_organ() -> None:
    label = organ()
    slice = middle_slice(label, "axial")
    grid = DirectGrid.of_labels([label])
    field = DistanceField.of_label(label, grid.clip_mm)
    warp = np.eye(4)
    warp[:3, 3] = [4.0, -3.0, 2.0]  # a shift moves distances without changing them
    moved = DistanceField.of_label(replace(label, affine=warp @ label.affine), grid.clip_mm)
    np.testing.assert_allclose(grid.target(field, slice, warp), grid.target(moved, slice), atol=1e-5)
    assert np.abs(grid.target(field, slice, warp) - grid.target(field, slice)).max() > 0.3


def test_the_network_and_its_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    predictor = DirectRegression(
        direct_network().eval(), DirectGrid((50.0, 90.0, 70.0), 7.0), Intensity("ct", (-10.0, 90.0)), "scan", 2.0
    )
    predictor.save(tmp_path / "direct.safetensors", {"dice": 0.5})
    again = DirectRegression.load(tmp_path / "direct.safetensors")
    inputs = torch.rand(2, CHANNELS, SIDE, SIDE)
    with torch.no_grad():
        layers = predictor.network(inputs)
        assert layers.shape == (2, SIDE, SIDE, SIDE) and torch.equal(layers, again.network(inputs))
    assert (again.grid, again.intensity, again.field_of_view, again.margin_mm) == (
        *(predictor.grid, predictor.intensity),
        *("scan", 2.0),
    )
    (tmp_path / "direct.safetensors").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="not a direct-regression network"):
        DirectRegression.load(tmp_path / "direct.safetensors")
