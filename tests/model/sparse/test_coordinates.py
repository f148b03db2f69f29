"""Packed coordinates: their numbers, and each way in which they can be wrong."""

import pytest
import torch

from sam3d_objects.model.sparse import SparseGrid, check_coordinates, debug_mode
from sam3d_objects.model.sparse.coordinates import coordinates_of, linear_keys
from tests.model.sparse.shells import random_batch

RIGHT = [[0, 1, 2, 3], [0, 0, 0, 0], [1, 1, 2, 3]]


def test_keys_there_and_back() -> None:
    grid = random_batch(5)
    keys = linear_keys(grid.coordinates, (5, 6, 7))
    assert torch.equal(coordinates_of(keys, (5, 6, 7)), grid.coordinates)
    assert int(linear_keys(torch.tensor([[1, 2, 3, 4]]), (10, 10, 10))) == 1234
    assert int(linear_keys(torch.tensor([[7, 255, 255, 255]], dtype=torch.int32), (256,) * 3)) == 8 * 256**3 - 1


def test_right_coordinates_pass() -> None:
    check_coordinates(torch.tensor(RIGHT, dtype=torch.int32), batch=2, resolution=4)
    check_coordinates(torch.tensor([[2, 40, 0, 1]], dtype=torch.int32), batch=3)
    check_coordinates(torch.zeros(0, 4, dtype=torch.int32), batch=1, resolution=4)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*RIGHT, [2, 0, 0, 0]], r"row 3 of 4 is \[2, 0, 0, 0\]: sample must be from 0 to 1"),
        ([[-1, 0, 0, 0], *RIGHT], "row 0 of 4.*sample must be"),
        ([*RIGHT, [1, 0, 4, 0]], r"row 3 of 4 is \[1, 0, 4, 0\]: x, y, z must be from 0 to 3"),
        ([*RIGHT, [1, 0, 0, -1]], "row 3 of 4.*x, y, z must be"),
        ([*RIGHT, [0, 3, 3, 3]], r"row 3 of 4 is \[0, 3, 3, 3\]: voxels must be grouped by sample"),
        ([*RIGHT, [1, 0, 0, 0], [1, 1, 2, 3]], r"row 4 of 5 is \[1, 1, 2, 3\]: each voxel must be there once"),
    ],
)
def test_wrong_coordinates(rows: list[list[int]], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    coordinates = torch.tensor(rows, dtype=torch.int32)
    with pytest.raises(ValueError, match=message):
        check_coordinates(coordinates, batch=2, resolution=4)
    if "x, y, z" not in message:  # A grid does not know its resolution.
        monkeypatch.setenv("SAM3D_DEBUG", "1")
        with pytest.raises(ValueError, match=message):
            SparseGrid(coordinates, batch=2)


@pytest.mark.parametrize(
    "coordinates", [torch.zeros(3, 4, dtype=torch.int64), torch.zeros(3, 3, dtype=torch.int32), torch.zeros(4)]
)
def test_wrong_form(coordinates: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"must be int32 of shape \(N, 4\) = sample, x, y, z; got"):
        check_coordinates(coordinates, batch=1)


@pytest.mark.parametrize(("value", "expected"), [(None, False), ("", False), ("0", False), ("1", True)])
def test_debug_mode(value: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if value is None:
        monkeypatch.delenv("SAM3D_DEBUG", raising=False)
    else:
        monkeypatch.setenv("SAM3D_DEBUG", value)
    assert debug_mode() is expected


def test_a_grid_infers_its_samples_and_still_sees_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAM3D_DEBUG", "1")
    with pytest.raises(ValueError, match="grouped by sample"):
        SparseGrid(torch.tensor([[1, 0, 0, 0], [0, 0, 0, 0]], dtype=torch.int32))
    with pytest.raises(ValueError, match="sample must be from 0 to 0"):
        SparseGrid(torch.tensor([[-1, 0, 0, 0]], dtype=torch.int32))
    grid = SparseGrid(torch.tensor([[0, 0, 0, 32]], dtype=torch.int32))
    grid.check_within(33)
    with pytest.raises(ValueError, match="x, y, z must be from 0 to 31"):
        grid.check_within(32)
    monkeypatch.setenv("SAM3D_DEBUG", "0")
    grid.check_within(32)
