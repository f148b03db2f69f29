"""The benchmark of mesh extraction, run on a small grid: its ways agree."""

from benchmarks.mesh_extraction import measure


def test_both_ways_extract_the_same_surface() -> None:
    active, dense = (measure(way, latent=8, radius=0.4, repeats=1) for way in ("active", "dense"))
    assert active["surface"] == dense["surface"]
    assert active["faces"] == dense["faces"] and int(active["faces"]) > 1000
    assert int(active["cubes"]) == 64 * int(active["voxels"])


def test_training_extracts_four_triangles_of_a_quad() -> None:
    inference, training = (measure(way, 4, 0.4, 1) for way in ("active", "active, forward + backward"))
    assert training["faces"] == 2 * int(inference["faces"])
