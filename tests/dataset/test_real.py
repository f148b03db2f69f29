"""A few real scans, where they lie beside the repository."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from sam3d_objects.dataset import PrepareOptions, TS_SAM3D_Dataset, prepare
from sam3d_objects.mesh import inside


@pytest.fixture(scope="module")
def hippocampi(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six hippocampi of four people, as the Decathlon ships them."""
    source = shared_data / "Task04_Hippocampus"
    folder = tmp_path_factory.mktemp("Task04")
    description = json.loads((source / "dataset.json").read_text())
    description["training"] = description["training"][:6]
    (folder / "dataset.json").write_text(json.dumps(description))
    for item in description["training"]:
        for path in item.values():
            (folder / path).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / path, folder / path)
    return folder


def test_hippocampi_from_files_to_samples(hippocampi: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    options = PrepareOptions(structures="hippocampus=1+2")
    manifest = prepare(hippocampi, tmp_path, options, say=lines.append, show_progress=False)
    assert any("hippocampus 2k-1 and 2k of the Decathlon are one person" in line for line in lines)
    patients = {case.id: case.patient for case in manifest.cases}
    assert patients["hippocampus_035"] == patients["hippocampus_036"]
    assert len(set(patients.values())) == 4
    assert manifest.modality == "mr"
    assert manifest.skipped == ()
    dataset = TS_SAM3D_Dataset(tmp_path, "train", variants=4)
    scores = []
    for sample in dataset:
        mesh = dataset.geometry(sample.case, sample.organ, sample.variant)
        mask = sample.slice.mask
        filled = inside(mesh, sample.slice.plane.affine, (*mask.shape, 1))[..., 0]
        scores.append(2 * (filled & mask).sum() / (filled.sum() + mask.sum()))
    assert min(scores) > 0.9
    assert np.mean(scores) > 0.95


def test_organs_that_touch_the_upper_end_of_the_ct_are_left_out(shared_data: Path, tmp_path: Path) -> None:
    manifest = prepare(shared_data / "totalsegmentator_sample", tmp_path, say=lambda line: None, show_progress=False)
    cut = {item.organ for item in manifest.skipped if item.reason == "cut"}
    assert cut == {"liver", "spleen", "stomach"}
    assert {"kidney_left", "kidney_right", "vertebrae_L1"} <= manifest.cases[0].organs.keys()
    assert manifest.cases[0].rounding == 0
    assert all("superior" in item.detail for item in manifest.skipped if item.reason == "cut")
