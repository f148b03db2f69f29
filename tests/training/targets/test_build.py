"""Targets of a whole data set: all patients, with figures in the manifest, in several processes, made once."""

import shutil
from pathlib import Path

import pytest

from sam3d_objects.dataset import Manifest, TS_SAM3D_Dataset
from sam3d_objects.training.stages.shapes import StageShapes
from sam3d_objects.training.targets import (
    StructureTargets,
    SurfaceDistance,
    TargetRequest,
    build_targets,
    figure_table,
    structure_targets,
)
from sam3d_objects.training.targets import build as build_module
from sam3d_objects.training.targets import latent as latent_module
from tests.training.small_model import small_latent_stage, small_model


@pytest.fixture
def own_data(data_root: Path, tmp_path: Path) -> Path:
    """A copy that may be written to."""
    return shutil.copytree(data_root, tmp_path / "data", ignore=shutil.ignore_patterns("targets"))


@pytest.fixture(autouse=True)
def small_bases(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(base: str, **_: object) -> object:
        model = small_model()
        model.latent = small_latent_stage()
        return model

    monkeypatch.setattr(build_module, "load_model", load)
    build_module._workshop.cache_clear()
    build_module._dataset.cache_clear()


def test_every_patient_is_in_the_manifest_in_mm(own_data: Path) -> None:
    made = build_targets(TargetRequest(own_data, "structure", variants=2), workers=0, show_progress=False)
    sides = Manifest.load(own_data).split.values()
    assert len(made) == 6 + sum(side == "train" for side in sides)  # each organ, and the training ones' warps
    record = Manifest.load(own_data).targets["structure"]
    assert (record.base, record.source, len(record.cases)) == ("small", "encoder", 6)
    for shape in made:
        case, organ, variant = shape.key
        if variant == 0:
            assert record.cases[case][organ] == shape.figures
            size_mm = TS_SAM3D_Dataset(own_data, Manifest.load(own_data).split[case]).frame(case, organ).size_mm
            if shape.figures.assd_mm is not None:
                assert shape.figures.assd_mm == pytest.approx(shape.distance_share * size_mm)


def test_a_stage_finds_what_was_built_and_again_nothing_is_made(
    own_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = TargetRequest(own_data, "structure", variants=2)
    made = build_targets(request, workers=0, show_progress=False)
    manifest = (own_data / "manifest.json").read_bytes()
    files = sorted((own_data / "targets").iterdir())
    model = small_model()
    maker = StructureTargets(model, own_data / "targets")
    monkeypatch.setattr(maker, "_make", lambda meshes: pytest.fail("made again") if meshes else [])
    shapes = StageShapes(TS_SAM3D_Dataset(own_data, "train", variants=2), None)
    said: list[str] = []
    targets = structure_targets(model, maker, shapes, 0.0, said.append)
    figures = {shape.key: shape.figures for shape in made}
    assert {key: target.iou for key, target in targets.items()} == {key: figures[key].iou for key in shapes.keys}
    assert "IoU" in said[-1] and " mm" in said[-1]
    build_targets(request, workers=0, show_progress=False)
    assert sorted((own_data / "targets").iterdir()) == files
    assert (own_data / "manifest.json").read_bytes() == manifest


def test_latents_have_distances_and_no_overlap(own_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The surfaces of random weights are jagged, and slow to measure.
    monkeypatch.setattr(latent_module, "distance_between", lambda *_: SurfaceDistance(0.01, 0.02))
    made = build_targets(TargetRequest(own_data, "latent"), workers=0, show_progress=False)
    record = Manifest.load(own_data).targets["latent"]
    assert len(made) == len(record.cases) == 6 and record.fingerprint == "1" * 64
    assert all(shape.figures.iou is None and shape.distance_share == 0.01 for shape in made)
    assert all(shape.figures.p95_mm == pytest.approx(2 * (shape.figures.assd_mm or 0)) for shape in made)
    table = figure_table({shape.key: shape.figures for shape in made}).splitlines()
    assert table[0].split()[:4] == ["structure", "shapes", "IoU", "least"]
    assert table[1].split()[:4] == ["egg", "6", "-", "-"]


def test_an_unknown_structure_is_named(own_data: Path) -> None:
    with pytest.raises(ValueError, match=r"no organ 'eg'; there are egg. Did you mean 'egg'"):
        build_targets(TargetRequest(own_data, "structure", organs=("eg",)), workers=0)
