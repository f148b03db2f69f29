"""The shapes of a stage: both sides, none twice, in object coordinates."""

from pathlib import Path

import pytest

from sam3d_objects.dataset import TS_SAM3D_Dataset
from sam3d_objects.training import ValidationSlices
from sam3d_objects.training.stages.shapes import StageShapes, patients_of, sample_name, shape_name


@pytest.fixture
def shapes(data_root: Path) -> StageShapes:
    train = TS_SAM3D_Dataset(data_root, "train", variants=2)
    return StageShapes(train, ValidationSlices(TS_SAM3D_Dataset(data_root, "val"), seed=0))


def test_training_organs_have_their_variants_and_validation_organs_are_as_they_are(shapes: StageShapes) -> None:
    assert len(shapes.keys) == 3 * 2 + 1 == len(set(shapes.keys))
    assert [variant for *_, variant in shapes.keys] == [0, 1, 0, 1, 0, 1, 0]
    assert patients_of(shapes.train).isdisjoint(case for case, *_ in shapes.keys[-1:])
    assert shape_name(shapes.keys[1]) == f"{shapes.keys[1][0]}/egg/1"


def test_a_shape_fills_its_unit_box_and_its_size_is_in_mm(shapes: StageShapes) -> None:
    for key in shapes.keys:
        low, high = shapes.mesh_object(key).bounds
        assert (high - low).max() == pytest.approx(1.0) and (low + high) == pytest.approx(0.0, abs=1e-9)
    key = shapes.keys[-1]
    assert shapes.validation is not None
    mesh = shapes.validation.dataset.geometry(*key)
    low_mm, high_mm = mesh.bounds
    assert shapes.size_mm(key) == pytest.approx((high_mm - low_mm).max())


def test_what_is_recorded_and_counted(shapes: StageShapes, data_root: Path) -> None:
    assert shapes.counts() == {
        "training": "3 patients, 3 organs, 9 slices an epoch",
        "validation": "1 patients, 1 organs, 6 slices an epoch",
    }
    assert shapes.record()["variants"] == 2 and shapes.record()["validation_slices"] == 6
    alone = StageShapes(shapes.train, None)
    assert list(alone.counts()) == ["training"] and alone.record()["validation_slices"] == 0
    sample = shapes.train.sample(*shapes.train.pairs[0], "axial", 12)
    assert sample_name(sample) == f"{sample.case}/egg/axial/12"


def test_training_patients_do_not_validate(data_root: Path) -> None:
    train = TS_SAM3D_Dataset(data_root, "train")
    with pytest.raises(ValueError, match="both in training and in validation: p"):
        StageShapes(train, ValidationSlices(train, seed=0))
