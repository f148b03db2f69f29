"""Everything that can be wrong with a predicted mesh: each a counted row with its reason, no crash, no good score."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sam3d_objects.evaluation import METRICS, compare, evaluate, read_rows
from sam3d_objects.mesh import Mesh
from sam3d_objects.volume import SliceInput
from tests.evaluation.solids import ball_case, ball_mesh, ball_truth, box_mesh
from tests.mesh.shapes import joined

BALL = ball_mesh(10.0, points=24)  # the truth of the case: whatever is made of it could score well


def written(value: float) -> Mesh:
    """A mesh whose arrays were changed after it was checked."""
    mesh = Mesh(BALL.vertices.copy(), BALL.faces)
    mesh.vertices[5] = value
    return mesh


def fine_ball(radius_mm: float, rings: int) -> Mesh:
    """A ball of 4 rings^2 faces between circles of latitude; rings = 500 makes a million."""
    polar = np.linspace(0, np.pi, rings + 2)[1:-1, None]
    around = np.arange(2 * rings) * np.pi / rings
    circles = [np.sin(polar) * np.cos(around), np.sin(polar) * np.sin(around), np.cos(polar) + 0 * around]
    vertices = np.concatenate([np.stack(circles, axis=-1).reshape(-1, 3), [[0, 0, 1], [0, 0, -1]]])
    index = np.arange(len(vertices) - 2).reshape(rings, -1)
    upper, lower = index[:-1], index[1:]
    right = np.roll(index, -1, axis=1)
    top, bottom = np.full_like(index[0], len(vertices) - 2), np.full_like(index[0], len(vertices) - 1)
    corners = [
        (upper, lower, right[:-1]),
        (right[:-1], lower, right[1:]),
        (top, index[0], right[0]),
        (bottom, right[-1], index[-1]),
    ]
    faces = np.concatenate([np.stack([side.ravel() for side in face], axis=1) for face in corners])
    return Mesh(radius_mm * vertices, faces)


SCORED = "the predicted mesh shares no voxel with the organ, which is 15"
ZOO: dict[str, tuple[Callable[[], object], str]] = {
    "empty": (lambda: Mesh(np.zeros((0, 3)), np.zeros((0, 3), dtype=int)), "no faces"),
    "one triangle": (lambda: Mesh(np.eye(3), np.array([[0, 1, 2]])), "open"),
    "open": (lambda: Mesh(BALL.vertices, BALL.faces[:-1]), "open"),
    "one face flipped": (
        lambda: Mesh(BALL.vertices, np.vstack([BALL.faces[1:], BALL.faces[:1, ::-1]])),
        "open, or its",
    ),
    "flipped": (BALL.flipped, "inside out"),
    "flat": (lambda: Mesh(BALL.vertices * [1, 1, 0], BALL.faces), "inside out or flat"),
    "twice": (lambda: joined(BALL, BALL), "intersects itself: its parts overlap in 100 %"),
    "tangled": (lambda: Mesh(np.random.default_rng(1).permutation(BALL.vertices), BALL.faces), "intersects|inside out"),
    "not a number": (lambda: Mesh(np.full((3, 3), np.nan), np.array([[0, 1, 2]])), "finite numbers"),
    "not a number, later": (lambda: written(np.nan), "not finite"),
    "infinite, later": (lambda: written(np.inf), "not finite"),
    "dust": (lambda: Mesh(BALL.vertices * 1e-3 + 0.2, BALL.faces), "holds no voxel"),
    "kilometres": (lambda: Mesh(BALL.vertices * 1e5, BALL.faces), "are not scored"),
    "no mesh": (lambda: "ball.stl", "TypeError: a predictor must return a Mesh"),
    "outside the scan": (lambda: Mesh(BALL.vertices + 900, BALL.faces), SCORED),
}


def test_each_is_a_row_and_none_scores(tmp_path: Path) -> None:
    def predictor(make: Callable[[], object]) -> Callable[[SliceInput, int], Mesh]:
        return lambda slice, seed: make()  # type: ignore[return-value]  # what a foreign predictor may return

    systems = {name: predictor(make) for name, (make, _) in ZOO.items()}
    rows = {row.system: row for row in evaluate([ball_case("c")], systems, tmp_path)}
    assert list(rows) == list(ZOO) and len(read_rows(tmp_path / "rows.csv")) == len(ZOO)
    diagonal_mm, truth_ml = ball_truth().diagonal_mm, ball_truth().volume_ml
    for name, (_, reason) in ZOO.items():
        row = rows[name]
        assert row.failed == (reason != SCORED), (name, row.reason)
        for metric, column in METRICS.items():
            if row.failed or (column.kind in ("overlap", "distance") and not column.shape_only):
                worst = column.worst(diagonal_mm, truth_ml)
                assert row.scores[metric] == pytest.approx(worst, abs=1e-6), (name, metric)
        assert any(part in row.reason for part in reason.split("|")), (name, row.reason)


def test_a_slight_crossing_is_scored_and_said() -> None:
    spur = box_mesh((8.5, -1.5, -1.5), (12.5, 1.5, 1.5))  # some voxels of it are in the ball
    comparison = compare(joined(BALL, spur), ball_truth())
    assert comparison.note.startswith("the predicted mesh intersects itself: its parts overlap in 0.")
    assert METRICS["dice"].of(comparison) < METRICS["dice"].of(compare(BALL, ball_truth()))


def test_a_million_faces_take_seconds() -> None:
    truth = ball_truth()
    mesh = fine_ball(10.0, 500)
    assert len(mesh.faces) == 1_000_000 and mesh.is_watertight
    started = time.process_time()
    comparison = compare(mesh, truth)
    assert time.process_time() - started < 20  # about 3 on one quiet core
    assert comparison.note == "the predicted mesh has 1,000,000 faces"
    assert METRICS["dice"].of(comparison) > 0.995
