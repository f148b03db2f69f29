"""The grid, its neighbours, and coarser and finer ones."""

from pathlib import Path

import pytest
import torch

from sam3d_objects.model.sparse import SparseGrid, SparseTensor, downsample, subdivide, upsample
from tests.model.golden import assert_parity, load_golden
from tests.model.sparse.shells import packed, random_batch


def test_counts_offsets_and_an_empty_sample() -> None:
    grid = packed(torch.tensor([[0, 0, 1], [5, 0, 0]]), torch.zeros(0, 3), torch.tensor([[1, 2, 3]]), torch.zeros(0, 3))
    assert (grid.batch, grid.counts, grid.offsets, len(grid)) == (4, [2, 0, 1, 0], [0, 2, 2, 3, 3], 3)
    assert grid.extent == (6, 3, 4)
    assert SparseGrid(grid.coordinates).batch == 3, "without a count, the last sample that has a voxel is the last"
    assert grid.to("cpu") is grid and grid.device == torch.device("cpu")


def test_no_voxels_at_all() -> None:
    nothing = torch.zeros(0, 4, dtype=torch.int32)
    with pytest.raises(ValueError, match="no voxel in the whole batch"):
        SparseGrid(nothing)
    grid = SparseGrid(nothing, batch=2)
    assert grid.counts == [0, 0] and grid.neighbours.pairs == 0 and len(grid.windows(8, 4).rows) == 0
    assert len(grid.downsampled()[0]) == len(grid.subdivided()) == 0


def test_derived_things_are_made_once() -> None:
    grid = random_batch()
    assert grid.neighbours is grid.neighbours
    assert grid.windows(4, 2) is grid.windows(4, 2) and grid.windows(4, 2) is not grid.windows(4, 0)
    assert grid.downsampled()[0] is grid.downsampled()[0]
    assert grid.subdivided() is grid.subdivided()


def test_neighbours_are_those_of_a_loop_over_all_pairs() -> None:
    torch.manual_seed(0)
    grid = random_batch(5)
    places = grid.coordinates.tolist()
    expected = {}
    for target, (sample, *place) in enumerate(places):
        for source, (other, *there) in enumerate(places):
            step = [b - a for a, b in zip(place, there, strict=True)]
            if sample == other and source != target and max(map(abs, step)) <= 1:
                expected[source, target] = 9 * step[0] + 3 * step[1] + step[2] + 13
    found = {
        (int(source), int(target)): tap
        for tap, sources, targets in grid.neighbours.taps(rows=4)
        for source, target in zip(sources, targets, strict=True)
    }
    assert found == expected and grid.neighbours.pairs == len(expected)
    assert grid.neighbours.nbytes == len(expected) * 4, "two int32 for two mirrored pairs"


def test_rows_do_not_wrap_around() -> None:
    # Ends of rows and of samples, where consecutive numbers are not neighbours.
    grid = packed(torch.tensor([[0, 0, 3], [0, 1, 0], [3, 3, 3]]), torch.tensor([[0, 0, 0], [2, 3, 0]]))
    assert grid.neighbours.pairs == 0


def test_downsampling_by_hand() -> None:
    grid = packed(torch.tensor([[2, 0, 0], [0, 0, 1], [1, 1, 0]]), torch.tensor([[3, 1, 0]]))
    x = SparseTensor(torch.tensor([[1.0], [2.0], [4.0], [8.0]]), grid)
    coarse = downsample(x)
    assert coarse.grid.coordinates.tolist() == [[0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 0, 0]]
    torch.testing.assert_close(coarse.features, torch.tensor([[6 / 3], [1 / 2], [8 / 2]]))
    torch.testing.assert_close(upsample(coarse, grid).features, torch.tensor([[0.5], [2.0], [2.0], [4.0]]))
    with pytest.raises(AssertionError):
        upsample(coarse, random_batch())


def test_downsampling_undoes_subdividing() -> None:
    grid = random_batch(5, shuffled=False)
    x = SparseTensor(torch.randn(len(grid), 3, dtype=torch.float64), grid)
    back = downsample(subdivide(x))
    assert torch.equal(back.grid.coordinates, grid.coordinates)
    torch.testing.assert_close(back.features * 9 / 8, x.features)


def test_half_precision_sums_in_float32() -> None:
    grid = packed(torch.tensor([[0, 0, 0], [0, 0, 1]]))
    x = SparseTensor(torch.tensor([[256.0], [1.0]], dtype=torch.bfloat16), grid)
    assert downsample(x).features.tolist() == [[85.5]], "257 / 3 to the nearest bfloat16; 256 + 1 is 256 in it"


def test_golden_resampling(shared_reference: Path) -> None:
    golden = load_golden(shared_reference, "slat_flow")
    for double in (False, True):
        features = golden.inputs["batch2_x"].double() if double else golden.inputs["batch2_x"]
        x = SparseTensor(features, SparseGrid(golden.inputs["batch2_coords"]))
        coarse = downsample(x)
        assert torch.equal(coarse.grid.coordinates, golden.outputs["down_coords"])
        assert_parity(coarse.features, golden.outputs["down_feats"])
        assert_parity(upsample(coarse, x.grid).features, golden.outputs["up_feats"])
        five = subdivide(SparseTensor(features[:5], SparseGrid(x.grid.coordinates[:5])))
        assert torch.equal(five.grid.coordinates, golden.outputs["subdivide_coords"])
        assert_parity(five.features, golden.outputs["subdivide_feats"])
