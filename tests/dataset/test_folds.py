"""Folds: every patient tests once, every fold is a data set, nothing is copied that can be linked."""

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam3d_objects.cli.main import main
from sam3d_objects.dataset import Manifest, PreparedCase, TS_SAM3D_Dataset
from sam3d_objects.dataset.folds import FoldOptions, fold_splits, make_folds, share

Lines = list[str]


def made(data_root: Path, out: Path, folds: int = 5, seed: int = 0, lines: Lines | None = None) -> list[Manifest]:
    options = FoldOptions(folds, val_fraction=0.25, seed=seed)
    say = (lines if lines is not None else []).append
    return [Manifest.load(fold) for fold in make_folds(data_root, out, options, say)]


@settings(deadline=None)
@given(st.sets(st.text(min_size=1, max_size=5), min_size=2, max_size=40), st.integers(2, 6), st.floats(0, 0.5))
def test_every_patient_tests_exactly_once(patients: set[str], folds: int, val_fraction: float) -> None:
    options = FoldOptions(folds, val_fraction, seed=1)
    if len(patients) < folds:
        with pytest.raises(ValueError, match="ask for fewer"):
            fold_splits(patients, options)
        return
    splits = fold_splits(patients, options)
    tests = Counter(name for split in splits for name, side in split.items() if side == "test")
    assert tests == dict.fromkeys(patients, 1)
    sizes = [sum(side == "test" for side in split.values()) for split in splits]
    assert max(sizes) - min(sizes) <= 1
    assert all(split.keys() == patients and "train" in split.values() for split in splits)
    assert splits == fold_splits(sorted(patients, reverse=True) * 2, options)


def test_another_seed_gives_other_folds_and_validation_changes_with_the_fold() -> None:
    patients = [f"p{number}" for number in range(40)]
    one, other = (fold_splits(patients, FoldOptions(4, 0.2, seed)) for seed in (0, 1))
    assert one != other
    validating = [frozenset(name for name, side in split.items() if side == "val") for split in one]
    assert {len(names) for names in validating} == {6} and len(set(validating)) == 4


def test_each_fold_is_a_data_set_of_its_own(prepared: Path, tmp_path: Path) -> None:
    whole, lines = Manifest.load(prepared), list[str]()
    manifests = made(prepared, tmp_path / "folds", lines=lines)
    assert len({manifest.fingerprint for manifest in manifests}) == 5
    tested = [case.id for manifest in manifests for case in manifest.of_split("test")]
    assert sorted(tested) == [case.id for case in whole.cases], "the two sides of a person stay together"
    for number, manifest in enumerate(manifests):
        root = tmp_path / "folds" / f"fold{number}"
        samples = TS_SAM3D_Dataset(root, "train")
        assert {samples[0].patient} <= {name for name, side in manifest.split.items() if side == "train"}
        case = manifest.of_split("test")[0]
        np.testing.assert_array_equal(
            PreparedCase(root, case).native_label("organ").voxels,
            PreparedCase(prepared, case).native_label("organ").voxels,
        )
    assert lines[0] == f"{tmp_path / 'folds' / 'fold0'}: patients: 3 train, 1 val, 1 test"


def test_cases_and_targets_are_links_that_survive_a_move(prepared: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    shutil.copytree(prepared, tmp_path / "home" / "data")
    made(tmp_path / "home" / "data", tmp_path / "home" / "folds")
    os.replace(tmp_path / "home", tmp_path / "moved")
    fold = tmp_path / "moved" / "folds" / "fold0"
    assert len(list(fold.glob("cases/*/volume.npz"))) == 10
    (fold / "targets" / "one").write_text("target")
    assert (tmp_path / "moved" / "folds" / "fold3" / "targets" / "one").read_text() == "target"
    links = [path for path in (fold / "targets", *(fold / "cases").iterdir()) if path.is_symlink()]
    assert len(links) == 11 and not any(os.path.isabs(os.readlink(link)) for link in links)


def test_it_may_be_killed_and_called_again_but_not_for_other_folds(prepared: Path, tmp_path: Path) -> None:
    first = made(prepared, tmp_path)
    (tmp_path / "fold2" / "manifest.json").unlink()
    (tmp_path / "fold2" / "cases" / "hippocampus_001").unlink()
    assert made(prepared, tmp_path) == first
    for folds, seed in ((4, 0), (5, 1)):
        with pytest.raises(ValueError, match="other options; choose another folder"):
            made(prepared, tmp_path, folds, seed)
    assert [Manifest.load(tmp_path / f"fold{number}") for number in range(5)] == first


@pytest.mark.parametrize("hard_links", [True, False])
def test_without_symbolic_links_files_are_linked_or_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard_links: bool
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError("links are not supported here")

    (tmp_path / "source" / "deep").mkdir(parents=True)
    (tmp_path / "source" / "deep" / "file").write_text("content")
    monkeypatch.setattr(Path, "symlink_to", refuse)
    if not hard_links:
        monkeypatch.setattr(os, "link", refuse)
    share(tmp_path / "source", tmp_path / "fold" / "copy")
    copied = tmp_path / "fold" / "copy" / "deep" / "file"
    assert copied.read_text() == "content"
    assert copied.samefile(tmp_path / "source" / "deep" / "file") == hard_links
    assert not (tmp_path / "fold" / "copy").is_symlink()


@pytest.mark.parametrize(("values", "message"), [((1, 0.1), "folds must be"), ((5, 1.0), "val_fraction must be")])
def test_options_are_checked(values: tuple[int, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FoldOptions(*values)


def test_the_command(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["folds", "--data_root", str(prepared), "--out", str(tmp_path), "--folds", "3", "--val_fraction", "0"]
    assert main(words) == 0
    assert "CAUTION: no patient is left for val" in capsys.readouterr().out
    sides = [Counter(Manifest.load(tmp_path / f"fold{number}").split.values()) for number in range(3)]
    assert sides == [{"train": 3, "test": 2}, {"train": 3, "test": 2}, {"train": 4, "test": 1}]
