import numpy as np
import pytest

from sam3d_objects.volume import box_of


def test_the_smallest_box_of_two_voxels() -> None:
    mask = np.zeros((6, 7, 8), dtype=bool)
    mask[1, 6, 3] = mask[4, 2, 3] = True
    assert box_of(mask) == (slice(1, 5), slice(2, 7), slice(3, 4))


def test_any_mask_s_box_holds_it_and_is_tight() -> None:
    generator = np.random.default_rng(0)
    for _ in range(50):
        mask = generator.random((5, 6, 7)) < 0.02
        if not mask.any():
            continue
        box = box_of(mask)
        assert mask[box].sum() == mask.sum()
        where = np.argwhere(mask)
        assert [side.start for side in box] == where.min(axis=0).tolist()
        assert [side.stop - 1 for side in box] == where.max(axis=0).tolist()


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least one voxel.*\(2, 3, 4\)"):
        box_of(np.zeros((2, 3, 4), dtype=bool))
