"""The manifest comes back as it was written, and a foreign or changed one is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sam3d_objects.dataset import Manifest


def test_it_comes_back_and_knows_its_sides(prepared: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(prepared)
    manifest.save(tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == (prepared / "manifest.json").read_bytes()
    sides = [manifest.of_split(side) for side in ("train", "val", "test")]
    assert sum(map(len, sides)) == len(manifest.cases) == 10
    assert manifest.case("hippocampus_003").patient == "hippocampus_3+4"
    assert manifest.intensity.modality == "mr"
    with pytest.raises(ValueError, match="no case 'x' among the 10"):
        manifest.case("x")


def test_the_fingerprint_follows_the_contents_and_not_the_place(prepared: Path) -> None:
    manifest = Manifest.load(prepared)
    assert replace(manifest, source="/elsewhere").fingerprint == manifest.fingerprint
    assert replace(manifest, margin_mm=4.0).fingerprint != manifest.fingerprint
    assert replace(manifest, cases=manifest.cases[1:]).fingerprint != manifest.fingerprint


def test_an_empty_side_is_an_error_with_the_counts(prepared: Path) -> None:
    manifest = Manifest.load(prepared)
    alone = replace(manifest, split=dict.fromkeys(manifest.split, "train"))
    with pytest.raises(ValueError, match=r"val split has no patients \(patients: \{'train': 5, 'val': 0"):
        alone.of_split("val")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "expected a manifest of format 1"),
        ({"extra": 1}, r"unknown \['extra'\]"),
        ({"margin_mm": 5.0}, "was changed after it was written"),
    ],
)
def test_foreign_and_changed_manifests_are_refused(
    prepared: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    content = json.loads((prepared / "manifest.json").read_text())
    (tmp_path / "manifest.json").write_text(json.dumps(content | change))
    with pytest.raises(ValueError, match=message):
        Manifest.load(tmp_path)


def test_a_half_written_manifest_is_named(prepared: Path, tmp_path: Path) -> None:
    text = (prepared / "manifest.json").read_text()
    (tmp_path / "manifest.json").write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match=r"manifest\.json is not valid JSON"):
        Manifest.load(tmp_path)
