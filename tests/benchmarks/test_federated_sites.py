"""The experiment's own arithmetic: patients are dealt out once each, and gaps are paired."""

import dataclasses
from pathlib import Path

import pytest

from benchmarks.federated_sites import arguments, compare, deal_out, markdown, of_sites
from sam3d_objects.config import TrainOptions
from sam3d_objects.dataset import Manifest
from sam3d_objects.dataset.manifest import CaseEntry

EYE = tuple(tuple(float(i == j) for j in range(4)) for i in range(4))


def written(folder: Path, patients: int) -> Manifest:
    """A manifest of patients with two cases each, and a validation patient."""
    names = [f"p{number}" for number in range(patients)]
    cases = tuple(
        CaseEntry(f"{patient}_{n}", patient, {}, (1, 1, 1), EYE, (0, 0, 0), (1, 1, 1), 0.0, {})
        for patient in [*names, "judge"]
        for n in range(2)
    )
    manifest = Manifest(
        "mr", (0.0, 1.0), (0.5, 99.5), "scan", 0.0, {"liver": (1,)}, "folder", "x", None, "by name", cases, (),
        dict.fromkeys(names, "train") | {"judge": "val"},
    )  # fmt: skip
    for case in cases:
        (folder / "cases" / case.id).mkdir(parents=True)
    manifest.save(folder)
    return manifest


def test_every_training_patient_is_at_one_site_and_nobody_else_is(tmp_path: Path) -> None:
    manifest = written(tmp_path / "all", 7)
    sites = [Manifest.load(folder) for folder in deal_out(tmp_path / "all", tmp_path / "out", 3, seed=0).values()]
    assert sorted(patient for site in sites for patient in site.split) == [f"p{n}" for n in range(7)]
    assert [len(site.split) for site in sites] == [3, 2, 2]
    assert all(side == "train" for site in sites for side in site.split.values())
    for site in sites:
        assert {case.patient for case in site.cases} == set(site.split)
        assert dataclasses.replace(site, cases=(), split={}) == dataclasses.replace(manifest, cases=(), split={})
    again = deal_out(tmp_path / "all", tmp_path / "out", 3, seed=0)
    assert [Manifest.load(folder) for folder in again.values()] == sites


def test_more_sites_than_patients_are_refused(tmp_path: Path) -> None:
    written(tmp_path / "all", 2)
    with pytest.raises(ValueError, match="3 sites need a training patient each"):
        deal_out(tmp_path / "all", tmp_path / "out", 3, seed=0)


def test_gaps_are_between_the_same_slices_each_system_at_its_best_threshold() -> None:
    results = {
        "pooled": {"dice": [[0.2, 0.5, 0.1], [0.2, 0.7, 0.1]], "cost": {"steps": 10}},
        "svd": {
            "dice": [[0.49, 0.0, 0.1], [0.69, 0.0, 0.1]],
            "cost": {"steps": 9, "samples": 40, "bytes_up": 5000, "bytes_down": 6},
        },
    }
    rows = compare(results, seed=0)
    assert rows["pooled"] == {"dice": 60.0, "gap": 0.0, "low": 0.0, "high": 0.0}
    assert rows["svd"] == {"dice": 59.0, "gap": -1.0, "low": -1.0, "high": -1.0}
    text = markdown(results, {"model": 1234567}, seed=0)
    assert "| svd | 59.00 | -1.00 (-1.00 to -1.00) | 9 | 40 | 5,000 + 6 |" in text
    assert "model 1,234,567" in text


def test_a_site_takes_its_part_of_a_batch_at_a_higher_rate() -> None:
    options = TrainOptions().of_stage("structure")
    assert options.lr is not None
    assert of_sites(options, 4, "shared").lr == pytest.approx(2 * options.lr)
    assert [of_sites(options, sites, "shared").batch_size for sites in (1, 3, 40)] == [16, 5, 1]
    assert of_sites(options, 3, "whole") == options


def test_the_command_line_reads() -> None:
    asked = arguments(["--data_root", "x", "--out", "y", "--rules", "svd"])
    assert (asked.sites, asked.rules) == (3, ["svd"])
