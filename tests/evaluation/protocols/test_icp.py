"""ICP finds a known rigid motion, and does not invent one."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sam3d_objects.arrays import FloatArray
from sam3d_objects.evaluation.protocols.icp import RigidMotion, best_motion, icp
from sam3d_objects.evaluation.protocols.point_metrics import normalised
from sam3d_objects.mesh import sample_surface
from tests.evaluation.solids import box_mesh

TURN = Rotation.from_euler("xyz", [8.0, -5.0, 10.0], degrees=True).as_matrix()
SHIFT = np.array([0.05, -0.03, 0.04])


@pytest.fixture(scope="module")
def cloud() -> FloatArray:
    """A box of three different sides, which no turn of a few degrees maps to itself."""
    mesh = box_mesh((0, 0, 0), (4, 7, 10))
    return normalised(sample_surface(mesh, 3000, np.random.default_rng(0))[0])


def test_a_known_motion_is_undone(cloud: FloatArray) -> None:
    moved = cloud @ TURN.T + SHIFT
    motion = icp(moved, cloud, 0.3)
    assert motion(moved) == pytest.approx(cloud, abs=1e-6)
    assert motion.rotation == pytest.approx(TURN.T, abs=1e-6)


def test_it_is_undone_between_two_samplings_of_one_surface(cloud: FloatArray) -> None:
    mesh = box_mesh((0, 0, 0), (4, 7, 10))
    other = normalised(sample_surface(mesh, 3000, np.random.default_rng(1))[0])
    moved = other @ TURN.T + SHIFT
    before = np.linalg.norm(moved - other, axis=1).mean()
    # Not to the end: points slide along flat sides slowly, and 30 steps are all it has.
    assert np.linalg.norm(icp(moved, cloud, 0.3)(moved) - other, axis=1).mean() < before / 4


def test_the_motion_is_rigid(cloud: FloatArray) -> None:
    """No scaling and no reflection, even where these would fit better."""
    motion = icp(1.3 * cloud * [-1, 1, 1] + 0.02, cloud, 0.3)
    assert motion.rotation @ motion.rotation.T == pytest.approx(np.eye(3), abs=1e-12)
    assert np.linalg.det(motion.rotation) == pytest.approx(1)


def test_points_beyond_the_threshold_pull_nothing(cloud: FloatArray) -> None:
    strays = np.full((200, 3), 5.0) + np.random.default_rng(2).normal(size=(200, 3)) * 0.01
    motion = icp(np.concatenate([cloud, strays]), cloud, 0.3)
    assert motion.shift == pytest.approx(np.zeros(3), abs=1e-12)
    assert motion.rotation == pytest.approx(np.eye(3), abs=1e-12)


def test_nothing_within_the_threshold_is_left_where_it_is(cloud: FloatArray) -> None:
    motion = icp(cloud + 10, cloud, 0.3)
    assert np.array_equal(motion.rotation, np.eye(3)) and np.array_equal(motion.shift, np.zeros(3))


def test_the_best_motion_of_pairs_by_hand() -> None:
    source = np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]])
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # x -> y
    motion = best_motion(source, source @ quarter.T + [1, 2, 3])
    assert motion.rotation == pytest.approx(quarter) and motion.shift == pytest.approx([1, 2, 3])


def test_motions_follow_one_another() -> None:
    first, second = RigidMotion(TURN, SHIFT), RigidMotion(TURN.T, 2 * SHIFT)
    points = np.random.default_rng(3).normal(size=(5, 3))
    assert second.after(first)(points) == pytest.approx(second(first(points)))
