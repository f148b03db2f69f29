"""Photometric changes: drawn once, applied without chance, blind to what is not valid."""

import numpy as np
import pytest

from sam3d_objects.dataset.augment import Augment, Photometric, grow_mask

SHAPE = (20, 30)
NONE = Photometric(1.0, 1.0, 0.0, np.zeros(SHAPE, np.float32), 0.0, np.zeros(5))
RNG = np.random.default_rng(0)
IMAGE = RNG.uniform(0, 1, SHAPE).astype(np.float32)
VALID = np.ones(SHAPE, dtype=bool)
VALID[:, :4] = False


def test_no_change_is_no_change() -> None:
    np.testing.assert_allclose(NONE.apply(IMAGE, VALID), np.where(VALID, IMAGE, 0), atol=1e-7)
    off = Augment(probability=0).draw(np.random.default_rng(1), SHAPE)
    np.testing.assert_allclose(off.apply(IMAGE, VALID), np.where(VALID, IMAGE, 0), atol=1e-7)


@pytest.mark.parametrize("seed", range(8))
def test_the_result_stays_in_range_and_ignores_what_is_not_valid(seed: int) -> None:
    change = Augment(probability=1).draw(np.random.default_rng(seed), SHAPE)
    result = change.apply(np.where(VALID, IMAGE, 0), VALID)
    assert result.dtype == np.float32
    assert 0 <= result.min() <= result.max() <= 1
    assert not result[~VALID].any()
    assert np.abs(result - IMAGE)[VALID].max() > 0.02
    np.testing.assert_array_equal(change.apply(np.where(VALID, IMAGE, 0.9), VALID), result)


def test_the_same_seed_draws_the_same_change() -> None:
    one, two = (Augment().draw(np.random.default_rng(5), SHAPE) for _ in range(2))
    np.testing.assert_array_equal(one.apply(IMAGE, VALID), two.apply(IMAGE, VALID))


def test_gamma_contrast_and_brightness_by_hand() -> None:
    image = np.array([[0.25, 0.75]], dtype=np.float32)
    valid = np.ones((1, 2), dtype=bool)
    grain = np.zeros((1, 2), np.float32)
    # About the mean 0.5: 0.5 -+ 0.25 * 1.2 = 0.2, 0.8; plus 0.1 = 0.3, 0.9; squared = 0.09, 0.81.
    change = Photometric(2.0, 1.2, 0.1, grain, 0.0, np.zeros(5))
    np.testing.assert_allclose(change.apply(image, valid), [[0.09, 0.81]], atol=1e-6)


def test_a_blur_keeps_a_constant_image_up_to_the_border_of_what_is_valid() -> None:
    constant = np.where(VALID, np.float32(0.4), 0)
    change = Photometric(1.0, 1.0, 0.0, NONE.noise, 0.8, NONE.bias)
    np.testing.assert_allclose(change.apply(constant, VALID)[VALID], 0.4, atol=1e-5)


def test_nothing_valid_gives_zeros() -> None:
    change = Augment(probability=1).draw(np.random.default_rng(0), SHAPE)
    assert not change.apply(IMAGE, np.zeros(SHAPE, dtype=bool)).any()


def test_masks_grow_and_shrink_within_what_is_valid_and_never_vanish() -> None:
    mask = np.zeros(SHAPE, dtype=bool)
    mask[8:11, 4:7] = True
    assert grow_mask(mask, VALID, 0) is mask
    assert grow_mask(mask, VALID, 1).sum() == 9 + 3 * 3  # a cross around 3 x 3, without the side that is not valid
    assert grow_mask(mask, VALID, -1).sum() == 1
    point = np.zeros(SHAPE, dtype=bool)
    point[10, 10] = True
    np.testing.assert_array_equal(grow_mask(point, VALID, -1), point)


def test_masks_stay_by_default_and_change_on_request() -> None:
    draws = {Augment().draw_mask(np.random.default_rng(seed)) for seed in range(50)}
    assert draws == {0}
    assert {Augment(mask_probability=1).draw_mask(np.random.default_rng(s)) for s in range(50)} == {-1, 1}


@pytest.mark.parametrize(
    "values", [{"probability": 1.5}, {"gamma": (0.0, 1.0)}, {"contrast": (1.2, 0.8)}, {"noise": -0.1}]
)
def test_ranges_are_checked(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"augment.{next(iter(values))} must"):
        Augment(**values)  # type: ignore[arg-type]  # that is the test
