"""Metrics of meshes whose every figure is known by formula, on grids of several spacings h, within stated bounds.

- Volumes and overlaps: a voxel that a curved surface cuts counts by its centre. About 1.5 A / h^2 voxels are cut (A is
  the area), each wrong by at most half a voxel either way as if by chance; four standard deviations are allowed,
  2 sqrt(1.5 A / h^2) voxels, for a volume. Boxes along the grid with faces between voxels are exact.
- Distances: a corner of the grid carries surface only where its eight voxels disagree, so it lies within sqrt(3) / 2 h
  of the surface, and so does the other surface's: HD95 and ASSD are within sqrt(3) h, and surface Dice at t lies
  between the true ones at t - sqrt(3) h and t + sqrt(3) h.
- Chamfer is taken between points on the meshes and knows no grid: N points on an area A lie 0.5 sqrt(A / N) from those
  of the same surface, so that the mean is up to that much too large.
"""

import numpy as np
import pytest

from sam3d_objects.evaluation import METRICS, Truth, compare
from sam3d_objects.evaluation.truth import CHAMFER_POINTS
from sam3d_objects.mesh import Mesh
from sam3d_objects.volume import Volume
from tests.evaluation.solids import ball_mask, ball_mesh, ball_truth, box_mesh, grid
from tests.mesh.shapes import joined

RADIUS = 12.0
SPACINGS_MM = (0.75, 1.0, 1.4)


def scores(mesh: Mesh, truth: Truth) -> dict[str, float]:
    comparison = compare(mesh, truth)
    return {name: metric.of(comparison) for name, metric in METRICS.items() if name != "slice_dice"}


def truth_at(spacing_mm: float) -> Truth:
    return ball_truth(RADIUS, int(30 / spacing_mm), spacing_mm)


def ball(radius: float) -> tuple[float, float]:
    """Volume and area."""
    return 4 / 3 * np.pi * radius**3, 4 * np.pi * radius**2


def check_overlaps(found: dict[str, float], volumes: tuple[float, float, float], area: float, spacing: float) -> None:
    """`volumes`: of the prediction, of the truth, of what they share; `area`: of all surfaces that are cut."""
    prediction, truth, shared = volumes
    off = 2 * np.sqrt(1.5 * area / spacing**2) * spacing**3
    assert abs(found["dice"] - 2 * shared / (prediction + truth)) < 2 * off / (prediction + truth)
    union = prediction + truth - shared
    assert abs(found["iou"] - shared / union) < 2 * off / union
    assert abs(found["volume_error_percent"] - 100 * abs(prediction - truth) / truth) < 200 * off / truth


def chamfer_excess(*areas: float) -> float:
    return float(np.mean([0.5 * np.sqrt(area / CHAMFER_POINTS) for area in areas]))


@pytest.mark.parametrize("spacing", SPACINGS_MM)
@pytest.mark.parametrize("factor", [0.7, 0.9, 1.25])
def test_scaled_spheres(factor: float, spacing: float) -> None:
    """Two nested spheres: everywhere the gap apart."""
    found = scores(ball_mesh(factor * RADIUS), truth_at(spacing))
    (small, _), (truth, area), (mine, my_area) = ball(min(1, factor) * RADIUS), ball(RADIUS), ball(factor * RADIUS)
    check_overlaps(found, (mine, truth, small), area + my_area, spacing)
    gap, bound = abs(factor - 1) * RADIUS, np.sqrt(3) * spacing
    assert abs(found["hd95_mm"] - gap) < bound and abs(found["assd_mm"] - gap) < bound
    for tolerance in (1, 2):
        if gap > tolerance + bound:
            assert found[f"surface_dice_{tolerance}mm"] == 0.0
        if gap < tolerance - bound:
            assert found[f"surface_dice_{tolerance}mm"] == 1.0
    assert gap - 0.01 < found["chamfer_mm"] < gap + chamfer_excess(area, my_area)
    # The same shape, once its size is the truth's.
    assert found["shape_dice"] > 1 - 2 * np.sqrt(1.5 * area) * spacing**2 / truth
    assert found["shape_hd95_mm"] < bound and found["shape_assd_mm"] < bound / 2


@pytest.mark.parametrize("spacing", SPACINGS_MM)
@pytest.mark.parametrize("shift", [2.0, 5.0, 11.0])
def test_shifted_spheres(shift: float, spacing: float) -> None:
    """The distance of a point at angle u to the shift is |sqrt(r^2 + s^2 + 2 r s cos u) - r|, with cos u uniform."""
    direction = np.array([0.48, 0.6, 0.64])
    found = scores(ball_mesh(RADIUS, tuple(shift * direction)), truth_at(spacing))
    volume, area = ball(RADIUS)
    height = RADIUS - shift / 2
    lens = 2 * np.pi * height**2 * (3 * RADIUS - height) / 3
    check_overlaps(found, (volume, volume, lens), 2 * area, spacing)
    cosines = (np.arange(20_000) + 0.5) / 10_000 - 1
    distances = np.abs(np.sqrt(RADIUS**2 + shift**2 + 2 * RADIUS * shift * cosines) - RADIUS)
    bound = np.sqrt(3) * spacing
    assert abs(found["hd95_mm"] - np.percentile(distances, 95)) < bound
    assert abs(found["assd_mm"] - distances.mean()) < bound
    for tolerance in (1, 2):
        least, most = (float((distances <= tolerance + side).mean()) for side in (-bound, bound))
        assert least - 0.01 <= found[f"surface_dice_{tolerance}mm"] <= most + 0.01
    chance = 4 * distances.std() / np.sqrt(2 * CHAMFER_POINTS)
    assert abs(found["chamfer_mm"] - distances.mean()) < chance + chamfer_excess(area, area)
    assert found["shape_dice"] > 1 - 2 * np.sqrt(1.5 * area) * spacing**2 / volume


@pytest.mark.parametrize("spacing", SPACINGS_MM)
def test_shifted_cubes_are_exact(spacing: float) -> None:
    """A cube of 12 voxels a side, whose faces lie between voxels, beside itself two voxels further on."""
    size, side = 24, 12 * spacing
    affine = grid(size, spacing)
    label = np.zeros((size,) * 3, dtype=bool)
    label[6:18, 6:18, 6:18] = True
    cube = box_mesh((-side / 2,) * 3, (side / 2,) * 3)
    truth = Truth(Volume(label, affine), cube, 100.0)
    shift = 2 * spacing
    found = scores(Mesh(cube.vertices + np.array([shift, 0.0, 0.0]), cube.faces), truth)
    assert found["dice"] == pytest.approx(10 / 12) and found["iou"] == pytest.approx(10 / 14)
    assert found["volume_error_percent"] == 0.0
    # In voxels, of each cube's 864: its outer face is 2 away; its inner one min(2, the way to the nearest edge), which
    # is (12^3 - 8^3) / 6 in all; on four sides 2 by 12 are 1 away in the mean. The grid cuts edges and corners off.
    mean_vox = (144 * 2 + (12**3 - 8**3) / 6 + 4 * 24) / 864
    assert found["assd_mm"] == pytest.approx(mean_vox * spacing, rel=0.01)
    assert found["chamfer_mm"] == pytest.approx(mean_vox * spacing, abs=0.03 + chamfer_excess(6 * side**2))
    assert found["shape_dice"] == 1.0 and found["shape_hd95_mm"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("spacing", SPACINGS_MM)
def test_nested_shapes(spacing: float) -> None:
    """A shell between two spheres against the full ball: the inner surface has no partner."""
    inner = 6.0
    shell = joined(ball_mesh(RADIUS), ball_mesh(inner).flipped())
    found = scores(shell, truth_at(spacing))
    (volume, area), (hole, hole_area) = ball(RADIUS), ball(inner)
    check_overlaps(found, (volume - hole, volume, volume - hole), area + hole_area, spacing)
    gap, bound = RADIUS - inner, np.sqrt(3) * spacing
    # A fifth of the shell's area is the hole's: more than the 5 % that HD95 leaves out.
    assert abs(found["hd95_mm"] - gap) < bound
    assert abs(found["assd_mm"] - gap * hole_area / (2 * area + hole_area)) < bound * hole_area / area + 0.05
    near = 2 * area / (2 * area + hole_area)
    assert found["surface_dice_2mm"] == pytest.approx(near, abs=0.03)
    # From the shell's points a fifth is the gap away, from the truth's none is.
    excess = chamfer_excess(area, area + hole_area)
    expected = gap * hole_area / (area + hole_area) / 2
    assert expected - 0.05 < found["chamfer_mm"] < expected + excess + 0.05


def test_coarse_grids_are_asked_at_several_points() -> None:
    """At 3 mm, 27 points a voxel still keep the bound of volumes, with the spacing between voxels."""
    affine = grid(12, 3.0)
    truth = Truth(Volume(ball_mask(RADIUS, 12, affine), affine), ball_mesh(RADIUS), 60.0)
    found = scores(ball_mesh(RADIUS), truth)
    check_overlaps(found, (ball(RADIUS)[0],) * 3, ball(RADIUS)[1], 3.0)
    assert found["hd95_mm"] <= np.sqrt(3) * 3.0
