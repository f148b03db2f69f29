"""Cases and baselines of a prepared folder: test patients alone, native indices, nothing beyond the margin."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam3d_objects.dataset import Manifest, PreparedCase, PrepareOptions, prepare
from sam3d_objects.evaluation import evaluate, prepared_baselines, prepared_cases
from sam3d_objects.evaluation.workers import can_fork
from sam3d_objects.volume import Volume, read_label, read_nifti, slice_input
from tests.dataset.scans import write_totalsegmentator


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six cases of liver and gland; the scans are in raw/, the prepared ones in out/."""
    root = tmp_path_factory.mktemp("evaluation")
    write_totalsegmentator(root / "raw", 6)
    options = PrepareOptions(val_fraction=0.2, test_fraction=0.34, num_workers=0)
    prepare(root / "raw", root / "out", options, say=lambda line: None)
    return root


def test_six_slices_of_each_organ_of_the_test_patients(folder: Path) -> None:
    manifest = Manifest.load(folder / "out")
    cases = prepared_cases(folder / "out")
    test_patients = {patient for patient, side in manifest.split.items() if side == "test"}
    assert {case.patient for case in cases} == test_patients
    assert len(cases) == 6 * 2 * len(test_patients)
    kinds = [(case.plane, case.slice_kind) for case in cases if case.organ == "gland" and case.case == cases[0].case]
    planes = ("axial", "coronal", "sagittal")
    assert kinds == [(plane, kind) for plane in planes for kind in ("largest", "random")]
    assert [case.key for case in prepared_cases(folder / "out")] == [case.key for case in cases]
    assert [case.key for case in prepared_cases(folder / "out", seed=1)] != [case.key for case in cases]


def test_slices_are_those_of_the_native_scan(folder: Path) -> None:
    for case in prepared_cases(folder / "out", ["liver"]):
        raw = folder / "raw" / case.case
        label = read_label(raw / "segmentations" / "liver.nii.gz")
        native = slice_input(read_nifti(raw / "ct.nii.gz"), label, case.plane, case.slice_index)
        material = case.load()
        mask_mm = material.slice.plane.pixel_to_mm(np.argwhere(material.slice.mask))
        assert mask_mm == pytest.approx(native.plane.pixel_to_mm(np.argwhere(native.mask)), abs=1e-4)
        assert material.slice.plane.slice_index == case.slice_index
        assert material.truth.voxels == np.count_nonzero(label.voxels)
        assert material.truth.diagonal_mm == pytest.approx(label.diagonal_mm)


def test_predictors_see_nothing_beyond_the_margin(folder: Path) -> None:
    material = prepared_cases(folder / "out", ["liver"])[0].load()
    slice = material.slice
    near = np.zeros_like(slice.mask)
    marked = slice.plane.pixel_to_mm(np.argwhere(slice.mask))
    for row, col in np.ndindex(slice.mask.shape):
        pixel = slice.plane.pixel_to_mm([[row, col]])
        near[row, col] = np.linalg.norm(marked - pixel, axis=1).min() <= 3.0 + 1e-6
    assert (slice.valid <= near).all() and not slice.image[~near].any()


def test_a_real_field_of_view_stays_whole(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "cases").symlink_to(folder / "out" / "cases")
    replace(Manifest.load(folder / "out"), field_of_view="scan").save(tmp_path)
    whole, cut = prepared_cases(tmp_path)[0].load().slice, prepared_cases(folder / "out")[0].load().slice
    assert whole.valid.all() and whole.mask.size > cut.mask.size


def test_unknown_organs_and_splits_are_named(folder: Path) -> None:
    with pytest.raises(ValueError, match="Did you mean 'liver'"):
        prepared_cases(folder / "out", ["livr"])
    with pytest.raises(ValueError, match="expected a split"):
        prepared_cases(folder / "out", split="tset")


def test_baselines_are_fitted_on_training_patients_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[str] = set()
    box_mask = PreparedCase.box_mask

    def spy(self: PreparedCase, organ: str) -> Volume:
        read.add(self.id)
        return box_mask(self, organ)

    monkeypatch.setattr(PreparedCase, "box_mask", spy)
    baselines = prepared_baselines(folder / "out", ["extrusion"])
    assert read == {entry.id for entry in Manifest.load(folder / "out").of_split("train")}
    assert set(baselines["extrusion"]) == {"liver", "gland"}


def test_baselines_on_the_test_patients(folder: Path, tmp_path: Path) -> None:
    baselines = prepared_baselines(folder / "out", ["extrusion", "ellipsoid"], ["liver"])
    rows = evaluate(prepared_cases(folder / "out", ["liver"]), baselines, tmp_path)
    assert not any(row.failed for row in rows)
    dice = {name: np.mean([row.scores["dice"] for row in rows if row.system == name]) for name in baselines}
    assert min(dice.values()) > 0.6  # the organs are ellipsoids, half of the slices are off their middle


@pytest.mark.skipif(not can_fork(), reason="workers are forked, on Linux alone")
def test_workers_fit_what_one_process_fits(folder: Path) -> None:
    slice = prepared_cases(folder / "out", ["liver"])[0].load().slice
    here, forked = (
        prepared_baselines(folder / "out", ["ellipsoid", "extrusion"], workers=workers) for workers in (0, 2)
    )
    for name, organ in itertools.product(here, ("liver", "gland")):
        meshes = [fitted[name][organ](slice, 0) for fitted in (here, forked)]
        assert (meshes[0].vertices == meshes[1].vertices).all()
    assert list(forked) == ["ellipsoid", "extrusion"] and list(forked["extrusion"]) == list(here["extrusion"])
