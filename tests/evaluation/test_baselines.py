"""Baselines on shapes that they should get right, and the mask as their only source."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam3d_objects.evaluation import BASELINES, Baseline, Truth, compare, fit_baselines
from sam3d_objects.evaluation.metrics import dice, slice_dice
from sam3d_objects.evaluation.slice_frame import TrainingShapes, label_slice, thinned, training_indices
from sam3d_objects.mesh import surface_from_mask
from sam3d_objects.volume import PLANES, SliceInput, Volume, cut_to_mask, oblique_plane, read_label
from tests.evaluation.solids import positions

SIZE = 48
TURNED = np.linalg.qr(np.array([[1.0, 0.1, 0.05], [-0.1, 1.0, 0.08], [0.02, -0.05, 1.0]]))[0]


BALLS = ((0.0, 0.0, 0.0, 10.0), (7.0, 4.0, 7.0, 7.0), (-3.0, 10.0, -6.0, 7.0))  # x, y, z, radius in mm


def comma(scale: float, shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0), turned: bool = False) -> Volume:
    """Three balls in one: no two cuts of it are alike, so that a slice tells where it lies."""
    spacing = np.diag([1.0, 1.0, 1.2])
    turn = TURNED * np.sign(np.diag(TURNED)) if turned else np.eye(3)
    affine = np.eye(4)
    affine[:3, :3] = turn @ spacing
    affine[:3, 3] = -affine[:3, :3] @ np.full(3, (SIZE - 1) / 2) + shift_mm
    local = (positions(SIZE, affine) - shift_mm) @ turn / scale
    balls = [np.linalg.norm(local - ball[:3], axis=-1) <= ball[3] for ball in BALLS]
    return Volume(np.any(balls, axis=0), affine)


@pytest.fixture(scope="module")
def trained() -> dict[str, Baseline]:
    return fit_baselines([comma(scale, (3.0 * number, 0, 0)) for number, scale in enumerate((0.94, 1.0, 1.06, 0.97))])


def judged(predictor: Baseline, label: Volume, plane: str) -> tuple[float, float]:
    slice = label_slice(label, plane, SIZE // 2 + 2)
    assert slice is not None
    truth = Truth(label, surface_from_mask(label.voxels, label.affine), label.diagonal_mm)
    comparison = compare(predictor(cut_to_mask(slice, 3.0), 0), truth, slice)
    return dice(comparison), slice_dice(comparison)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("turned", [False, True])
def test_a_shape_like_those_of_training_is_found(trained: dict[str, Baseline], plane: str, turned: bool) -> None:
    label = comma(1.03, (20.0, -30.0, 5.0), turned)
    scores = {name: judged(predictor, label, plane) for name, predictor in trained.items()}
    assert all(scores[name][0] > 0.85 for name in ("mean_shape", "nearest_shape", "pca_shape")), scores
    assert all(0.4 < scores[name][0] < 0.85 for name in ("ellipsoid", "extrusion")), scores
    assert scores["extrusion"][1] > 0.99  # its cut is the mask


def test_the_mask_is_all_that_they_look_at(trained: dict[str, Baseline]) -> None:
    whole = label_slice(comma(1.0), "axial", SIZE // 2)
    assert whole is not None
    noise = np.random.default_rng(0).normal(size=whole.image.shape).astype(np.float32)
    cut = cut_to_mask(SliceInput(noise, whole.mask, whole.plane, whole.valid), 3.0)
    for name, predictor in trained.items():
        first, second = predictor(whole, 0), predictor(cut, 1)
        assert first.vertices == pytest.approx(second.vertices, abs=1e-3), name


def test_another_plane_is_refused(trained: dict[str, Baseline]) -> None:
    plane = oblique_plane((0, 0, 0), np.eye(3), (9, 9), 1.0)
    mask = np.zeros((9, 9), dtype=bool)
    mask[3:6, 3:6] = True
    slice = SliceInput(np.zeros((9, 9)), mask, plane, np.ones((9, 9), dtype=bool))
    for predictor in trained.values():
        with pytest.raises(ValueError, match="not for oblique"):
            predictor(slice, 0)


def test_the_extrusion_has_the_fitted_thickness(trained: dict[str, Baseline]) -> None:
    slice = label_slice(comma(1.0), "axial", SIZE // 2)
    assert slice is not None
    mesh = trained["extrusion"](slice, 0)
    ratio = trained["extrusion"].ratios["axial"]  # type: ignore[attr-defined]  # Extrusion, seen as a Baseline
    assert np.ptp(mesh.bounds[:, 2]) == pytest.approx(ratio * np.sqrt(slice.mask.sum()), rel=1e-3)
    assert mesh.is_watertight and mesh.bounds[:, 2].mean() == pytest.approx(slice.plane.affine[2, 3], abs=1e-6)


def test_what_cannot_be_fitted() -> None:
    with pytest.raises(ValueError, match="Did you mean 'mean_shape'"):
        fit_baselines([comma(1.0)], ["mean_shap"])
    with pytest.raises(ValueError, match="at least one training label"):
        fit_baselines([])
    with pytest.raises(ValueError, match="empty"):
        TrainingShapes.from_labels([replace(comma(1.0), voxels=np.zeros((4, 4, 4), dtype=bool))])


def test_one_training_organ_is_enough() -> None:
    for name, predictor in fit_baselines([comma(1.0)]).items():
        assert judged(predictor, comma(1.0), "coronal")[0] > (0.4 if name in ("extrusion", "ellipsoid") else 0.9), name


def test_large_labels_are_thinned_in_place() -> None:
    label = Volume(np.zeros((200, 90, 40), dtype=bool), np.diag([0.5, 1.0, 2.0, 1.0]))
    small = thinned(label)
    assert small.shape == (67, 45, 40)
    assert small.spacing_mm == pytest.approx((1.5, 2.0, 2.0))


def test_training_slices_show_a_quarter_of_the_largest() -> None:
    label = comma(1.0)
    areas = label.voxels.sum(axis=(0, 2))
    indices = training_indices(label, "coronal")
    assert int(areas.argmax()) in indices and len(indices) <= 9
    assert (areas[indices] >= 0.25 * areas.max()).all()


def test_real_hippocampi_beat_the_extrusion_as_published(shared_data: Path) -> None:
    """evaluation.md measured .42 for the extrusion and .66 for the mean shape, on other patients of the collection."""
    paths = sorted((shared_data / "Task04_Hippocampus" / "labelsTr").glob("*.nii.gz"))
    labels = [Volume(volume.voxels > 0, volume.affine) for volume in map(read_label, paths)]
    baselines = fit_baselines(labels[12:20], ["extrusion", "mean_shape"])
    scores: dict[str, list[float]] = {name: [] for name in baselines}
    for label in labels[:2]:
        truth = Truth(label, surface_from_mask(label.voxels, label.affine), label.diagonal_mm)
        for plane in PLANES:
            slice = label_slice(label, plane, training_indices(label, plane, 3)[1])
            assert slice is not None
            for name, predictor in baselines.items():
                scores[name].append(dice(compare(predictor(slice, 0), truth)))
    assert 0.35 < np.mean(scores["extrusion"]) < 0.65 and 0.55 < np.mean(scores["mean_shape"]) < 0.75


def test_names_are_those_of_the_design() -> None:
    assert list(BASELINES) == ["extrusion", "ellipsoid", "mean_shape", "nearest_shape", "pca_shape"]
