"""What a mesh that crosses itself, or is not what it should be, becomes on the truth's grid."""

import numpy as np
import pytest

from sam3d_objects.evaluation import compare
from sam3d_objects.evaluation.rasterise import check_prediction, rasterise
from sam3d_objects.evaluation.truth import VoxelBox
from sam3d_objects.mesh import Mesh, surface_from_mask
from tests.evaluation.solids import ball_mesh, ball_truth, box_mesh
from tests.mesh.shapes import joined

BLOCK = box_mesh((-9.5, -9.5, -9.5), (9.5, 9.5, 9.5))  # 19^3 = 6,859 centres


def test_a_solid_has_no_note() -> None:
    box = rasterise(BLOCK, np.eye(4))
    assert box.mask.sum() == 19**3 and box.note == ""
    assert compare(ball_mesh(10.0), ball_truth()).note == ""


def test_an_organ_of_one_coarse_voxel_holds_its_own_voxel() -> None:
    affine = np.diag([1.0, 1.0, 5.0, 1.0])
    mask = np.zeros((5, 5, 5), dtype=bool)
    mask[2, 2, 2] = True
    rounded = surface_from_mask(mask, affine)
    assert rounded.volume == pytest.approx(5.0, rel=0.01)  # all of the voxel's, but not within it
    held = rasterise(rounded, affine)
    assert held.mask.sum() == 1 and held.shared_with(VoxelBox.of_grid(mask, affine)) == 1
    between = Mesh((rounded.vertices - [2, 2, 10]) * 0.01 + [2.5, 2.5, 12.5], rounded.faces)
    assert not rasterise(between, affine).mask.any()  # dust that holds none of the points


def test_a_small_overlap_is_a_union_and_noted() -> None:
    # The added box has 4 x 3 x 3 centres, half of them in the block: 18 of 6,877, which is .26 %.
    box = rasterise(joined(BLOCK, box_mesh((7.5, -1.5, -1.5), (11.5, 1.5, 1.5))), np.eye(4))
    assert box.mask.sum() == 19**3 + 18
    assert box.note == "the predicted mesh intersects itself: its parts overlap in 0.262 % of what it encloses"


def test_a_small_part_that_is_inside_out_holds_nothing_and_is_noted() -> None:
    inverted = box_mesh((9.6, -1.5, -1.5), (13.5, 1.5, 1.5)).flipped()
    box = rasterise(joined(BLOCK, inverted), np.eye(4))
    assert box.mask.sum() == 19**3
    assert box.note == "the predicted mesh intersects itself: it is inside out in 0.522 % of what it encloses"


def test_notes_reach_the_comparison() -> None:
    ball = ball_mesh(10.0)
    comparison = compare(joined(ball, box_mesh((8.5, -1.5, -1.5), (12.5, 1.5, 1.5))), ball_truth())
    assert "its parts overlap in 0." in comparison.note
    far = compare(ball_mesh(10.0, (500.0, 0.0, 0.0)), ball_truth())
    assert far.note == "the predicted mesh shares no voxel with the organ, which is 480 mm away"


def test_what_bounds_no_solid_is_refused() -> None:
    moved = Mesh(BLOCK.vertices + np.array([9.5, 0.0, 0.0]), BLOCK.faces)  # 10 of 28 layers of centres are in both
    with pytest.raises(ValueError, match=r"overlap in 35\.7 % .* above 5 % it bounds no solid: unite its parts"):
        rasterise(joined(BLOCK, moved), np.eye(4))
    with pytest.raises(ValueError, match="overlap in 100 %"):
        rasterise(joined(BLOCK, BLOCK), np.eye(4))
    ball = ball_mesh(9.0)
    tangle = Mesh(np.random.default_rng(0).permutation(ball.vertices), ball.faces)
    with pytest.raises(ValueError, match=r"intersects itself|inside out"):
        rasterise(check_prediction(tangle), np.eye(4))


def test_a_large_tangle_is_refused_before_it_takes_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sam3d_objects.evaluation.rasterise.MAX_CROSSINGS", 1000)
    # The two lids are two triangles each, whose boxes hold 41^2 lines; the four sides stand upright between two lines.
    with pytest.raises(ValueError, match=r"tangled: its 12 faces cover 7\.05e\+03 lines of a grid"):
        rasterise(box_mesh((-20.0, -20.0, -9.0), (20.0, 20.0, 9.0)), np.eye(4))


def test_numbers_that_were_written_into_a_mesh_later() -> None:
    ball = ball_mesh(9.0, points=16)
    ball.vertices[3] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        check_prediction(ball)
