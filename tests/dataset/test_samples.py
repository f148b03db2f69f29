"""Samples: image, mask, geometry and frame agree for every plane and variant; only the seed decides."""

import copy
import pickle
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from sam3d_objects.arrays import AnyArray
from sam3d_objects.dataset import Augment, PrepareOptions, Sample, TS_SAM3D_Dataset, prepare
from sam3d_objects.dataset.case import PreparedCase
from sam3d_objects.mesh import ObjectFrame, inside
from sam3d_objects.volume import PLANES
from tests.dataset.scans import AFFINE, ellipsoid, write_scan


def dice(a: AnyArray, b: AnyArray) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def same(one: Sample, two: Sample) -> bool:
    arrays = [(s.image01, s.pointmap, s.slice.image, s.slice.mask, s.slice.plane.affine) for s in (one, two)]
    return all(np.array_equal(a, b, equal_nan=True) for a, b in zip(*arrays, strict=True)) and all(
        getattr(one, name) == getattr(two, name)
        for name in ("case", "patient", "organ", "plane_name", "slice_index", "variant")
    )


def test_items_are_cases_times_organs_times_planes(prepared: Path) -> None:
    dataset = TS_SAM3D_Dataset(prepared, "train")
    assert len(dataset) == len(dataset.pairs) * 3
    counts = Counter((sample.case, sample.plane_name) for sample in dataset)
    assert set(counts.values()) == {1}
    assert len(TS_SAM3D_Dataset(prepared, "train", planes=["axial"])) == len(dataset.pairs)
    with pytest.raises(IndexError):
        dataset[len(dataset)]


def test_the_sides_share_no_patient(prepared: Path) -> None:
    sides = [{s.patient for s in TS_SAM3D_Dataset(prepared, side)} for side in ("train", "val", "test")]
    assert all(sides)
    assert sum(map(len, sides)) == len(set.union(*sides)) == 5


@pytest.mark.parametrize("variant", range(5))
@pytest.mark.parametrize("plane_name", PLANES)
def test_image_mask_and_surface_stay_aligned(prepared: Path, variant: int, plane_name: str) -> None:
    dataset = TS_SAM3D_Dataset(prepared, "train", variants=5)
    case_id, organ = dataset.pairs[variant % len(dataset.pairs)]
    mesh = dataset.geometry(case_id, organ, variant)
    table = dataset._table(case_id, organ, variant, plane_name)
    assert table.first.slice_index is not None
    index = table.first.slice_index + int(table.areas.argmax())
    sample = dataset.sample(case_id, organ, plane_name, index, variant)
    mask = sample.slice.mask
    filled = inside(mesh, sample.slice.plane.affine, (*mask.shape, 1))[..., 0]
    assert dice(filled, mask) > 0.93
    # The organ is 100 brighter than the noise around it: the image moves with the mask.
    around = sample.slice.valid & ~mask
    assert sample.image01[mask].mean() > sample.image01[around].mean() + 0.4
    # So does what the network is to find.
    low, high = mesh.bounds
    np.testing.assert_allclose(sample.frame.center_mm, (low + high) / 2)
    assert sample.frame.size_mm == pytest.approx((high - low).max())
    points_mm = sample.camera.to_patient(sample.pointmap[mask])
    unit = sample.frame.to_object(points_mm)
    assert np.abs(unit).max() < 0.5 + 1.0 / sample.frame.size_mm


def test_variants_differ_and_variant_0_is_the_organ(prepared: Path) -> None:
    dataset = TS_SAM3D_Dataset(prepared, "train", variants=3)
    case_id, organ = dataset.pairs[0]
    sizes = [dataset.frame(case_id, organ, variant).size_mm for variant in range(3)]
    assert len({round(size, 3) for size in sizes}) == 3
    own = ObjectFrame.from_points(dataset.case(case_id).mesh(organ).vertices)
    assert sizes[0] == own.size_mm
    assert dataset.warp(case_id, organ, 0) is None
    other = TS_SAM3D_Dataset(prepared, "train", variants=3, seed=1)
    assert other.frame(case_id, organ, 1).size_mm != sizes[1]


def test_nothing_but_seed_epoch_and_index_decides(prepared: Path) -> None:
    one = TS_SAM3D_Dataset(prepared, "train", variants=4, augment=Augment(), seed=7)
    two = copy.deepcopy(one)  # with nothing in its cache that the other filled
    forward = [one[number] for number in range(len(one))]
    backward = [two[number] for number in reversed(range(len(two)))][::-1]
    assert all(map(same, forward, backward))
    one.set_epoch(1)
    assert not any(map(same, forward, one))
    one.set_epoch(0)
    assert all(map(same, forward, one))
    assert {sample.variant for sample in forward} == {0, 1, 2, 3}


def test_only_augmentation_changes_the_image(prepared: Path) -> None:
    plain, changed = (TS_SAM3D_Dataset(prepared, "val", augment=augment) for augment in (None, Augment()))
    for one, two in zip(plain, changed, strict=True):
        np.testing.assert_array_equal(one.slice.mask, two.slice.mask)
        np.testing.assert_array_equal(one.pointmap, two.pointmap)
    assert any(not np.array_equal(a.image01, b.image01) for a, b in zip(plain, changed, strict=True))


def test_a_sample_is_well_formed(prepared: Path) -> None:
    for sample in TS_SAM3D_Dataset(prepared, "train", variants=3, augment=Augment(mask_probability=1)):
        shape = sample.slice.plane.shape
        assert sample.image01.shape == shape and sample.image01.dtype == np.float32
        assert 0 <= sample.image01.min() <= sample.image01.max() <= 1
        assert sample.pointmap.shape == (*shape, 3) and sample.pointmap.dtype == np.float32
        valid = np.isfinite(sample.pointmap).all(axis=-1)
        np.testing.assert_array_equal(valid, sample.slice.valid)
        assert not sample.image01[~valid].any()
        assert np.abs(sample.pointmap[valid][:, 2]).max() < 1e-4


def test_slices_of_at_least_a_quarter_are_all_drawn_and_no_other(prepared: Path) -> None:
    dataset = TS_SAM3D_Dataset(prepared, "val", planes=["axial"])
    table = dataset._table(*dataset.pairs[0], 0, "axial")
    assert table.first.slice_index is not None
    allowed = np.flatnonzero(table.areas >= table.areas.max() / 4) + table.first.slice_index
    seen = set()
    for epoch in range(120):
        dataset.set_epoch(epoch)
        seen.add(dataset[0].slice_index)
    assert seen == set(allowed.tolist())


def prepare_one(folder: Path, image: AnyArray, label: AnyArray, affine: AnyArray, **options: object) -> Path:
    write_scan(folder / "raw" / "x.nii.gz", image, affine)
    write_scan(folder / "raw" / "x_seg.nii.gz", label, affine)
    chosen = PrepareOptions(modality="mr", **options)  # type: ignore[arg-type]  # checked when made
    prepare(folder / "raw", folder / "out", chosen, say=lambda line: None, show_progress=False)
    return folder / "out"


def test_nothing_beyond_the_margin_is_seen(tmp_path: Path) -> None:
    """Trap 14: other voxels beyond 3 mm, and a scan that ends elsewhere, give the same samples."""
    shape = (40, 44, 40)
    mask = ellipsoid((19.5, 21.0, 20.0), shape=shape)
    image = np.random.default_rng(0).integers(0, 200, shape).astype(np.int16) + 100 * mask.astype(np.int16)
    # The margin, and what interpolation in a warped scan reaches beyond it.
    near = ndimage.distance_transform_edt(~mask, sampling=(1.0, 1.2, 1.5)) <= 6.0
    other = np.where(near, image, 1000).astype(np.int16)
    tight = tuple(slice(4, -5) for _ in shape)
    moved = AFFINE.copy()
    moved[:3, 3] += AFFINE[:3, :3] @ [4, 4, 4]
    roots = [
        prepare_one(tmp_path / "one", image, mask.astype(np.uint8), AFFINE),
        prepare_one(tmp_path / "two", other, mask.astype(np.uint8), AFFINE),
        prepare_one(tmp_path / "three", image[tight], mask[tight].astype(np.uint8), moved),
    ]
    sets = [TS_SAM3D_Dataset(root, "train", variants=3, augment=Augment()) for root in roots]
    variants = set()
    for epoch in range(4):
        for dataset in sets:
            dataset.set_epoch(epoch)
        for one, two, three in zip(*sets, strict=True):
            variants.add(one.variant)
            assert same(one, two)
            np.testing.assert_allclose(three.image01, one.image01, atol=1e-4)
            np.testing.assert_allclose(three.pointmap, one.pointmap, atol=1e-3)
            np.testing.assert_array_equal(three.slice.mask, one.slice.mask)
    assert variants == {0, 1, 2}


def test_scan_shows_the_whole_slice_with_the_scans_own_percentiles(tmp_path: Path) -> None:
    mask = ellipsoid()
    image = np.random.default_rng(0).integers(0, 1000, mask.shape).astype(np.int16)
    root = prepare_one(tmp_path, image, mask.astype(np.uint8), AFFINE, field_of_view="scan")
    dataset = TS_SAM3D_Dataset(root, "train", variants=2)
    sample = dataset.sample("x", "1", "axial", 11)
    assert sample.slice.plane.shape == (30, 26)
    low, high = np.percentile(image, (0.5, 99.5))
    expected = np.clip((sample.slice.image - low) / (high - low), 0, 1)
    np.testing.assert_allclose(sample.image01, expected, atol=1e-5)
    warped = dataset.sample("x", "1", "axial", 11, variant=1)
    assert min(warped.slice.plane.shape) >= 26
    assert 0.5 < warped.slice.valid.mean() < 1


def test_a_mirror_needs_permission(prepared: Path) -> None:
    plain, mirrored = (TS_SAM3D_Dataset(prepared, "train", allow_mirror=allowed) for allowed in (False, True))

    def signs(dataset: TS_SAM3D_Dataset) -> set[float]:
        warps = [dataset.warp(*pair, variant) for pair in dataset.pairs for variant in range(1, 6)]
        return {float(np.sign(np.linalg.det(warp[:3, :3]))) for warp in warps if warp is not None}

    assert signs(plain) == {1.0}
    assert signs(mirrored) == {1.0, -1.0}
    for pair in mirrored.pairs:
        for variant in range(1, 6):
            assert mirrored.geometry(*pair, variant).volume > 0


def test_a_small_cache_gives_the_same_samples(prepared: Path) -> None:
    small = TS_SAM3D_Dataset(prepared, "train", cache_bytes=1)
    assert all(map(same, small, TS_SAM3D_Dataset(prepared, "train")))
    assert len(small._cases._cases) == 1


def test_what_does_not_exist_is_named(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no organ 'liver'; there are organ"):
        TS_SAM3D_Dataset(prepared, organs=["liver"])
    with pytest.raises(ValueError, match="Did you mean 'sagittal'"):
        TS_SAM3D_Dataset(prepared, planes=["saggital"])
    with pytest.raises(ValueError, match="expected a split of train, val, test"):
        TS_SAM3D_Dataset(prepared, "training")
    with pytest.raises(ValueError, match="not a prepared data set"):
        TS_SAM3D_Dataset(tmp_path)
    with pytest.raises(ValueError, match="variants must be at least 1"):
        TS_SAM3D_Dataset(prepared, variants=0)
    with pytest.raises(ValueError, match="no case 'x' in this split"):
        TS_SAM3D_Dataset(prepared).case("x")


def test_the_names_of_a_sample_are_fixed() -> None:
    assert [field.name for field in fields(Sample)] == [
        "case",
        "patient",
        "organ",
        "plane_name",
        "slice_index",
        "variant",
        "slice",
        "image01",
        "camera",
        "pointmap",
        "frame",
    ]


def test_cases_are_asked_for_by_several_threads_with_room_for_one(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = TS_SAM3D_Dataset(prepared, "train", cache_bytes=1)
    ids = sorted({case for case, _ in dataset.pairs})
    assert len(ids) > 1

    def size(_case: PreparedCase) -> int:
        time.sleep(1e-4)  # the others go on meanwhile, and drop what this one has just put there
        return 100

    monkeypatch.setattr(PreparedCase, "nbytes", property(size))
    with ThreadPoolExecutor(4) as pool:
        cases = list(pool.map(dataset.case, ids * 25))
    assert [case.id for case in cases] == ids * 25
    assert dataset._cases._bytes == 100


def test_a_data_set_can_be_sent_to_another_process(prepared: Path) -> None:
    dataset = TS_SAM3D_Dataset(prepared, "train")
    first = dataset[0]
    assert same(pickle.loads(pickle.dumps(dataset))[0], first)
