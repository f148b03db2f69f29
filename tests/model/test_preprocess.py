"""Preprocessing and the pointmap's normalisation: golden values, hand-worked boxes, bad input."""

from pathlib import Path

import pytest
import torch

from sam3d_objects.model.preprocess import (
    condition_inputs,
    crop,
    mask_box,
    normalise_pointmap,
    pad_to_square,
    pointmap_statistics,
    resize_pointmap,
)
from tests.model.golden import Golden, assert_parity, load_golden, under

CASES = ["wide", "tall", "pm_other_res"]
SIDE = 56


@pytest.fixture(scope="module")
def golden(shared_reference: Path) -> Golden:
    return load_golden(shared_reference, "preprocess")


@pytest.mark.parametrize("case", CASES)
def test_structure_inputs(golden: Golden, case: str) -> None:
    given, expected = under(golden.inputs, f"{case}."), under(golden.outputs, f"{case}.ss.")
    found, statistics = condition_inputs(given["image"], given["mask"], given["pointmap"], SIDE)
    assert statistics is not None
    for name, value in found.items():
        assert_parity(value, expected[name], name)
    for prefix in ("", "rgb_"):
        assert_parity(statistics.shift, expected[f"{prefix}pointmap_shift"], "shift")
        assert_parity(torch.full((3,), statistics.scale), expected[f"{prefix}pointmap_scale"], "scale")


@pytest.mark.parametrize("case", CASES)
def test_latent_inputs_have_no_pointmap(golden: Golden, case: str) -> None:
    given, expected = under(golden.inputs, f"{case}."), under(golden.outputs, f"{case}.slat.")
    found, statistics = condition_inputs(given["image"], given["mask"], None, SIDE)
    assert statistics is None
    assert set(found) == set(expected)
    for name, value in found.items():
        assert_parity(value, expected[name], name)


@pytest.mark.parametrize("case", CASES)
def test_crops(golden: Golden, case: str) -> None:
    given, expected = under(golden.inputs, f"{case}."), under(golden.outputs, f"{case}.crop.")
    box = mask_box(given["mask"])
    assert list(box) == golden.outputs[f"{case}.bbox"].tolist()
    for name, value in expected.items():
        assert_parity(crop(given[name], box), value, name)


def test_statistics_of_a_scene(shared_reference: Path) -> None:
    golden = load_golden(shared_reference, "ssi_normalizer")
    points = golden.inputs["pointmap"]
    statistics = pointmap_statistics(points, golden.inputs["mask"])
    assert_parity(statistics.shift, golden.outputs["scene.shift"], "shift")
    assert_parity(torch.full((3,), statistics.scale), golden.outputs["scene.scale"], "scale")
    normalised = normalise_pointmap(points, statistics)
    assert_parity(normalised, golden.outputs["scene.pointmap"], "normalised")
    back = normalised * statistics.scale + statistics.shift[:, None, None]
    assert_parity(back, golden.outputs["scene.denorm"], "there and back")


def test_statistics_by_hand() -> None:
    # Points (x, 0, 0) with x = 0, 1, ..., 5; the mask holds 1, 2, 4, 5: the lower median is 2.
    points = torch.zeros(3, 1, 6)
    points[0, 0] = torch.arange(6.0)
    mask = torch.tensor([[[0.0, 1, 1, 0, 1, 1]]])
    statistics = pointmap_statistics(points, mask)
    assert statistics.shift.tolist() == [2.0, 0.0, 0.0]
    assert statistics.scale == 1.0  # of |x - 2| = 2, 1, 0, 1, 2, 3 the lower median
    points[:, 0, 5] = torch.nan  # ignored by both: shift of 1, 2, 4, scale of 2, 1, 0, 1, 2
    statistics = pointmap_statistics(points, mask)
    assert (float(statistics.shift[0]), statistics.scale) == (2.0, 1.0)


def test_statistics_that_cannot_be() -> None:
    points, mask = torch.randn(3, 4, 4), torch.zeros(1, 4, 4)
    mask[0, 1, 1] = 1
    with pytest.raises(ValueError, match="covers 0 points"):
        pointmap_statistics(points, torch.zeros(1, 4, 4))
    nowhere = points.clone()
    nowhere[:, 1, 1] = torch.nan
    with pytest.raises(ValueError, match="none of them finite: is the mask inside the scan"):
        pointmap_statistics(nowhere, mask)
    with pytest.raises(ValueError, match=r"must be positive, got 0\.0: do all points coincide"):
        pointmap_statistics(torch.ones(3, 4, 4), mask)


def test_box_by_hand() -> None:
    mask = torch.zeros(1, 20, 30)
    mask[0, 5:11, 8:19] = 1  # rows 5 to 10, columns 8 to 18: centre (13, 7.5), side 1.2 * 10
    assert mask_box(mask) == (7, 1, 19, 13)
    mask[0, 5:11, 0] = 1  # columns 0 to 18: centre 9, side 21.6: -1.8 becomes -1, and 7.5 - 10.8 = -3.3 becomes -3
    assert mask_box(mask) == (-1, -3, 19, 18)
    one = torch.zeros(1, 9, 9)
    one[0, 4, 6] = 1
    assert mask_box(one) == (6, 4, 7, 5)
    with pytest.raises(ValueError, match="empty; mark the organ"):
        mask_box(torch.zeros(1, 9, 9))


def test_what_lies_outside_a_crop_is_zero() -> None:
    image = torch.arange(6.0).reshape(1, 2, 3) + 1
    assert crop(image, (-1, 0, 2, 3))[0].tolist() == [[0, 1, 2], [0, 4, 5], [0, 0, 0]]
    assert crop(image, (1, 1, 2, 2))[0].tolist() == [[5]]


def test_odd_padding_comes_last() -> None:
    padded = pad_to_square(torch.ones(1, 1, 4))[0]
    assert padded.tolist() == [[0] * 4, [1] * 4, [0] * 4, [0] * 4]
    assert pad_to_square(torch.ones(1, 4, 1))[0, 0].tolist() == [0, 1, 0, 0]


def test_resized_pointmap_keeps_its_holes() -> None:
    points = torch.ones(3, 2, 2)
    points[:, 0, 0] = torch.nan
    resized = resize_pointmap(points, (4, 4))
    assert torch.equal(resized[0].isnan(), torch.tensor([[1, 1, 0, 0]] * 2 + [[0] * 4] * 2, dtype=torch.bool))
    assert float(resized[0, 0, 2]) == 0.75  # a quarter of the hole, which counts as 0
    assert resize_pointmap(points, (2, 2)) is points


def test_one_masked_pixel_at_the_border() -> None:
    image, mask, points = torch.rand(3, 9, 7), torch.zeros(1, 9, 7), torch.randn(3, 9, 7)
    mask[0, 8, 6] = 1
    found, _ = condition_inputs(image, mask, points, 14)
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        **dict.fromkeys(("image", "rgb_image", "pointmap", "rgb_pointmap"), (3, 14, 14)),
        **dict.fromkeys(("mask", "rgb_image_mask"), (1, 14, 14)),
    }
    torch.testing.assert_close(found["image"], image[:, 8:, 6:].expand(3, 14, 14))
    assert found["mask"].min() == 1
