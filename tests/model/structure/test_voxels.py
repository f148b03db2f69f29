"""From occupancy to the voxels of the surface: golden coordinates and hand-worked solids."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sam3d_objects.model.structure.voxels import (
    MAX_VOXELS,
    crossed_coordinates,
    drop_interior,
    limit_count,
    occupied_coordinates,
    surface_coordinates,
)
from tests.model.golden import Golden, load_golden


@pytest.fixture(scope="module")
def golden(shared_reference: Path) -> Golden:
    return load_golden(shared_reference, "pose_and_coords")


def box(side: int, low: int = 0, batch: int = 0) -> Tensor:
    """All voxels of a cube, sorted."""
    places = torch.cartesian_prod(*[torch.arange(low, low + side)] * 3)
    return torch.cat([torch.full((len(places), 1), batch), places], dim=1).int()


def ball(resolution: int, radius: float) -> Tensor:
    """The filled share (1, 1, R, R, R) of a ball in the middle, to first order in the distance."""
    axis = torch.arange(resolution) + 0.5 - resolution / 2
    distance = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0)
    return (radius - distance + 0.5).clamp(0, 1)[None, None]


def test_golden_surface(golden: Golden) -> None:
    assert torch.equal(drop_interior(golden.inputs["coords"]), golden.outputs["prune"])


def test_golden_limit(golden: Golden) -> None:
    surface = golden.outputs["prune"]
    halved = limit_count(surface, 1000)
    assert halved.dtype == torch.int32 and torch.equal(halved, golden.outputs["downsample_max1000"])
    assert golden.outputs["downsample_max500_pre_randperm_note"].tolist() == [len(limit_count(surface, 500)), 2]


def test_each_sample_is_treated_alone(golden: Golden) -> None:
    one = golden.inputs["coords"]
    second = torch.cat([one[:, :1] + 1, one[:, 1:]], dim=1)
    small = box(3, batch=2)
    pruned = drop_interior(torch.cat([one, second, small]))
    prune = golden.outputs["prune"]
    assert pruned[:, 0].bincount().tolist() == [len(prune), len(prune), 26]
    assert torch.equal(pruned[len(prune) : 2 * len(prune), 1:], prune[:, 1:])
    limited = limit_count(pruned, 1000)
    expected = golden.outputs["downsample_max1000"]
    assert limited[:, 0].bincount().tolist() == [len(expected), len(expected), 26]
    assert torch.equal(limited[len(expected) : -26, 1:], expected[:, 1:])


def test_a_cube_keeps_its_shell_also_at_the_grid_s_rim() -> None:
    assert len(drop_interior(box(5))) == 5**3 - 3**3
    assert len(drop_interior(box(2, low=7))) == 8


def test_a_missing_corner_neighbour_keeps_a_voxel() -> None:
    without = box(3)[1:]
    assert [0, 1, 1, 1] in drop_interior(without).tolist()
    assert [0, 1, 1, 1] not in drop_interior(box(3)).tolist()


def test_halving_by_hand() -> None:
    # 0 ... 4 has its middle at 2 and goes to 1 ... 3: 0 -> 1, 1 -> 1.5 -> 2 (to even), 2 -> 2, 3 -> 2.5 -> 2, 4 -> 3.
    line = torch.tensor([[0, x, 5, 5] for x in range(5)], dtype=torch.int32)
    assert limit_count(line, 4).tolist() == [[0, 1, 5, 5], [0, 2, 5, 5], [0, 3, 5, 5]]
    assert torch.equal(limit_count(line, 5), line)


def test_what_is_still_too_much_is_cut_by_the_seed() -> None:
    def cut(seed: int) -> Tensor:
        return limit_count(box(20), 100, torch.Generator().manual_seed(seed))

    halved = {tuple(row) for row in limit_count(box(20), 1000).tolist()}
    assert len(halved) == 1000
    found = cut(1)
    assert len(found) == 100 and {tuple(row) for row in found.tolist()} <= halved
    assert found.tolist() == sorted(found.tolist())
    assert torch.equal(found, cut(1)) and not torch.equal(found, cut(2))


def test_the_release_s_bound() -> None:
    assert MAX_VOXELS == 42_000
    assert len(limit_count(drop_interior(box(64)))) == 64**3 - 62**3


def test_nothing_stays_nothing() -> None:
    nothing = torch.zeros(0, 4, dtype=torch.int32)
    for found in (drop_interior(nothing), limit_count(nothing), crossed_coordinates(torch.zeros(1, 1, 4, 4, 4))):
        assert found.shape == (0, 4) and found.dtype == torch.int32


def test_the_surface_of_a_ball_is_where_it_is() -> None:
    radius = 9.3
    found = crossed_coordinates(ball(24, radius))
    distance = (found[:, 1:] + 0.5 - 12).double().norm(dim=1)
    # A voxel that a sphere crosses has its centre within half a diagonal of it; the shares are to first order.
    assert float((distance - radius).abs().max()) < 3**0.5 / 2 + 0.05
    # Points of the sphere: nearly each lies in a voxel of the list.
    points = torch.nn.functional.normalize(torch.randn(2000, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    inside = {tuple(row) for row in found[:, 1:].tolist()}
    hit = [tuple(row) in inside for row in (points * radius + 12).floor().int().tolist()]
    assert sum(hit) > 0.97 * len(hit)
    assert len(found) < 2 * 4 * torch.pi * radius**2


def test_a_plane_between_two_voxels_centres() -> None:
    share = torch.zeros(1, 1, 8, 8, 8)
    share[:, :, :3] = 1
    share[:, :, 3] = 0.25  # filled by less than half, and yet the surface is inside it
    inner = crossed_coordinates(share)
    inner = inner[((inner[:, 2:] > 1) & (inner[:, 2:] < 6)).all(dim=1)]
    assert inner[:, 1].unique().tolist() == [0, 3]  # 0: the solid ends at the grid's rim


def test_a_lone_voxel_is_not_lost() -> None:
    share = torch.zeros(2, 1, 6, 6, 6)
    share[1, 0, 2, 3, 4] = 1
    assert crossed_coordinates(share).tolist() == [[1, 2, 3, 4]]


def test_logits_of_shells_and_of_solids() -> None:
    share = ball(16, 5.0)
    logits = torch.logit(share, eps=1e-6)
    assert torch.equal(surface_coordinates(logits, solid=True), crossed_coordinates(share))
    shell = surface_coordinates(logits.half(), solid=False)
    assert torch.equal(shell, drop_interior(occupied_coordinates(logits)))
    assert torch.equal(occupied_coordinates(logits), torch.argwhere(share[:, 0] > 0.5).int())
