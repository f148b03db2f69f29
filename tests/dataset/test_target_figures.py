"""What the manifest says of training targets: it comes back, is no part of the fingerprint, and is joined by maker."""

import json
from dataclasses import replace
from pathlib import Path

from sam3d_objects.dataset import Manifest
from sam3d_objects.dataset.target_figures import TargetFigures, TargetRecord

GOOD, NONE = TargetFigures(0.9, 0.25, 0.75), TargetFigures(None, None, None)


def record(case: str, figures: TargetFigures = GOOD, fingerprint: str = "a" * 64) -> TargetRecord:
    return TargetRecord("tiny", fingerprint, "encoder", {case: {"hippocampus": figures}})


def test_figures_come_back_and_leave_the_fingerprint_alone(prepared: Path, tmp_path: Path) -> None:
    manifest = Manifest.load(prepared)
    noted = manifest.with_targets("structure", record("c1")).with_targets("latent", record("c1", NONE))
    noted.save(tmp_path)
    loaded = Manifest.load(tmp_path)
    assert loaded == noted and loaded.fingerprint == manifest.fingerprint
    assert loaded.targets["latent"].cases["c1"]["hippocampus"] == NONE
    assert json.loads((tmp_path / "manifest.json").read_text())["targets"]["structure"]["base"] == "tiny"


def test_a_manifest_of_an_earlier_version_has_none(prepared: Path, tmp_path: Path) -> None:
    content = json.loads((prepared / "manifest.json").read_text())
    del content["targets"]
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    assert Manifest.load(tmp_path) == replace(Manifest.load(prepared), targets={})


def test_one_maker_s_figures_are_joined_and_another_s_replace_them(prepared: Path) -> None:
    manifest = Manifest.load(prepared).with_targets("structure", record("c1"))
    better = TargetFigures(0.95, 0.1, 0.2)
    joined = manifest.with_targets("structure", record("c2")).with_targets("structure", record("c1", better))
    assert joined.targets["structure"].cases == {"c1": {"hippocampus": better}, "c2": {"hippocampus": GOOD}}
    other = joined.with_targets("structure", record("c3", fingerprint="b" * 64))
    assert other.targets["structure"].cases == {"c3": {"hippocampus": GOOD}}
