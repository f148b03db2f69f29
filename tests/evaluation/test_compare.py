"""Meshes against truths: spheres by formula, what leaves the scan, and what cannot be scored."""

import numpy as np
import pytest

from sam3d_objects.evaluation import METRICS, Truth, compare
from sam3d_objects.evaluation.compare import cut_overlap
from sam3d_objects.evaluation.rasterise import rasterise
from sam3d_objects.evaluation.truth import CHAMFER_POINTS
from sam3d_objects.mesh import Mesh
from sam3d_objects.volume import Volume
from tests.evaluation.solids import ball_mask, ball_mesh, ball_truth, box_mesh, grid, middle_slice
from tests.mesh.shapes import joined


def scores(mesh: Mesh, truth: Truth) -> dict[str, float]:
    comparison = compare(mesh, truth, middle_slice(truth))
    return {name: metric.of(comparison) for name, metric in METRICS.items()}


def lens_dice(radius: float, shift: float) -> float:
    """Dice of two balls of one radius, `shift` apart: their lens is two caps."""
    height = radius - shift / 2
    return 2 * (np.pi * height**2 * (3 * radius - height) / 3) / (4 / 3 * np.pi * radius**3)


def test_the_truth_itself() -> None:
    truth = ball_truth()
    own = scores(ball_mesh(10.0), truth)
    assert own["dice"] > 0.995 and own["slice_dice"] > 0.99
    assert own["hd95_mm"] <= 1.0 and own["assd_mm"] < 0.05
    assert own["surface_dice_1mm"] > 0.999
    # Two samplings of one surface: half the spacing of the points, not 0.
    assert own["chamfer_mm"] == pytest.approx(0.5 * np.sqrt(4 * np.pi * 100 / CHAMFER_POINTS), rel=0.1)


@pytest.mark.parametrize("shift", [1.0, 3.0, 6.0])
def test_shifted_balls(shift: float) -> None:
    truth = ball_truth()
    moved = scores(ball_mesh(10.0, (shift, 0.0, 0.0)), truth)
    assert moved["dice"] == pytest.approx(lens_dice(10.0, shift), abs=0.01)
    assert moved["iou"] == pytest.approx(moved["dice"] / (2 - moved["dice"]))
    assert moved["volume_error_percent"] < 1.0
    assert moved["hd95_mm"] == pytest.approx(shift, abs=1.0)  # one voxel


def test_scaled_balls() -> None:
    larger = scores(ball_mesh(12.0), ball_truth())
    assert larger["dice"] == pytest.approx(2 / (1 + 1.2**3), abs=0.01)
    assert larger["volume_error_percent"] == pytest.approx(100 * (1.2**3 - 1), abs=2.5)
    assert larger["chamfer_mm"] == pytest.approx(2.0, abs=0.02)
    # Elements lie on the corners of voxels, up to 0.87 voxel off the sphere, and the nearest is the one that is nearer.
    assert 1.5 < larger["assd_mm"] < 2.0
    # The cuts of the two balls through the middle are discs.
    assert larger["slice_dice"] == pytest.approx(2 * 10**2 / (10**2 + 12**2), abs=0.01)


def test_anisotropic_left_handed_grid() -> None:
    affine = grid(40, (0.7, 0.9, 1.2)) @ np.diag([-1.0, 1.0, 1.0, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ np.full(3, 19.5)
    label = Volume(ball_mask(10.0, 40, affine), affine)
    truth = Truth(label, ball_mesh(10.0), label.diagonal_mm)
    moved = compare(ball_mesh(10.0, (0.0, 3.0, 0.0)), truth)
    assert METRICS["dice"].of(moved) == pytest.approx(lens_dice(10.0, 3.0), abs=0.01)
    assert METRICS["hd95_mm"].of(moved) == pytest.approx(3.0, abs=1.2)
    assert np.isnan(METRICS["slice_dice"].of(moved))


def test_a_prediction_outside_the_scan_loses_nothing() -> None:
    truth = ball_truth(radius_mm=10.0, size=24)  # the grid ends 2 mm beyond the ball
    wide = compare(ball_mesh(30.0), truth)
    assert wide.volume.prediction == pytest.approx(4 / 3 * np.pi * 30**3, rel=0.01)
    assert METRICS["dice"].of(wide) == pytest.approx(2 / 28, abs=0.005)
    far = compare(ball_mesh(10.0, (200.0, 0.0, 0.0)), truth)
    assert METRICS["dice"].of(far) == 0.0
    assert METRICS["hd95_mm"].of(far) == pytest.approx(200.0, abs=1.0)
    assert METRICS["chamfer_mm"].of(far) > 180


def test_coarse_voxels_are_asked_at_several_points() -> None:
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    # Two plates that hold two thirds of the points of a voxel, but not its centre.
    low, high = box_mesh((-1.4, -1.5, -1.5), (-0.4, 1.5, 1.5)), box_mesh((0.4, -1.5, -1.5), (1.4, 1.5, 1.5))
    plates = Mesh(np.concatenate([low.vertices, high.vertices]), np.concatenate([low.faces, high.faces + 8]))
    assert rasterise(plates, affine).mask.sum() == 1
    sliver = box_mesh((-0.4, -1.5, -1.5), (0.4, 1.5, 1.5))
    assert rasterise(sliver, affine).mask.sum() == 0  # holds the centre, but a third of the points
    assert rasterise(sliver, np.diag([1.4, 1.4, 1.4, 1.0])).mask.any()  # fine voxels: the centre rule


def test_the_cut_is_counted_beyond_the_slice() -> None:
    truth = ball_truth()
    slice = middle_slice(truth)
    wide = cut_overlap(ball_mesh(40.0, points=64), slice)
    assert wide.truth == wide.shared == slice.mask.sum()
    assert wide.prediction == pytest.approx(np.pi * 40**2, rel=0.01)
    assert cut_overlap(ball_mesh(3.0, (0.0, 0.0, 30.0)), slice).prediction == 0


def test_the_cut_leaves_out_what_is_inside_out() -> None:
    slice = middle_slice(ball_truth())
    apart = box_mesh((12.0, -2.0, -2.0), (14.0, 2.0, 2.0)).flipped()
    ball = ball_mesh(10.0)
    assert cut_overlap(joined(ball, apart), slice).prediction == cut_overlap(ball, slice).prediction > 0
    assert cut_overlap(joined(ball, apart.flipped()), slice).prediction > cut_overlap(ball, slice).prediction


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_the_cut_lies_where_the_slice_does(plane: str) -> None:
    truth = ball_truth()
    slice = middle_slice(truth, plane, 20)
    assert cut_overlap(ball_mesh(10.0), slice).dice > 0.97


class TestRefused:
    truth = ball_truth()

    def refused(self, mesh: object, message: str, kind: type[Exception] = ValueError) -> None:
        with pytest.raises(kind, match=message):
            compare(mesh, self.truth)  # type: ignore[arg-type]  # what a foreign predictor may return

    def test_not_a_mesh(self) -> None:
        self.refused(None, "must return a Mesh", TypeError)

    def test_no_faces(self) -> None:
        self.refused(Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=int)), "no faces")

    def test_open(self) -> None:
        ball = ball_mesh(5.0, points=16)
        self.refused(Mesh(ball.vertices, ball.faces[1:]), "open")
        self.refused(Mesh(np.eye(3), np.array([[0, 1, 2]])), "open")

    def test_inside_out(self) -> None:
        self.refused(ball_mesh(5.0, points=16).flipped(), "inside out")

    def test_smaller_than_a_voxel(self) -> None:
        self.refused(box_mesh((0.1, 0.1, 0.1), (0.2, 0.2, 0.2)), "no voxel")

    def test_larger_than_can_be_scored(self) -> None:
        self.refused(box_mesh((-1e4, -1e4, -1e4), (1e4, 1e4, 1e4)), "not scored")


def test_a_truth_must_hold_something() -> None:
    nothing = Volume(np.zeros((3, 3, 3), dtype=bool), np.eye(4))
    with pytest.raises(ValueError, match="empty"):
        Truth(nothing, ball_mesh(3.0, points=12), 5.0)
    with pytest.raises(ValueError, match="empty mesh"):
        Truth(nothing.with_voxels(~nothing.voxels), Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=int)), 5.0)
