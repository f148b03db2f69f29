"""The benchmark of round trips, on one known shape: exact grids are near it, and figures are in mm."""

from pathlib import Path

import pytest

from benchmarks.target_round_trips import Shape, Trip, ceilings, measure, table
from sam3d_objects.training.targets import SurfaceDistance
from sam3d_objects.training.targets import latent as latent_module
from tests.training.small_model import small_latent_stage, small_model
from tests.training.targets.solids import ellipsoid

SHAPE = Shape("p1/egg", "egg", ellipsoid(0.5, 0.4, 0.3), 40.0)


def test_finer_grids_allow_more() -> None:
    (coarse, near, overlap), (fine, nearer, none) = ceilings(SHAPE, small_model(), 64)
    assert (coarse, fine, none) == ("structure grid", "latent grid", None)
    assert nearer.mean < near.mean < 0.1 / 16 and overlap is not None and overlap > 0.95


def test_a_trip_is_in_mm_and_in_the_table() -> None:
    trip = Trip()
    trip.add(SHAPE, SurfaceDistance(0.01, 0.02), 1.0, 0.5)
    trip.add(SHAPE, SurfaceDistance(0.03, 0.04), 3.0, 0.7)
    means = trip.means()
    assert [means[name] for name in ("shapes", "assd_mm", "p95_mm", "seconds")] == pytest.approx([2, 0.8, 1.2, 2.0])
    assert "| structure | 2 | 0.600 | 0.8000 | 1.2000 | 2.0 |" in table("egg", {"structure": trip})


def test_every_way_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The surfaces of random weights are jagged, and slow to measure.
    monkeypatch.setattr(latent_module, "distance_between", lambda *_: SurfaceDistance(0.01, 0.02))
    model = small_model()
    model.latent = small_latent_stage()
    trips = measure([SHAPE, SHAPE], model, tmp_path, inversions=1, steps=1)
    assert {name: len(trip.seconds) for name, trip in trips.items()} == {
        "structure grid": 2,
        "latent grid": 2,
        "structure": 2,
        "latent encoder": 2,
        "inversion": 1,
    }
