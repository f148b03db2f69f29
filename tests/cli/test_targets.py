"""`sam3d-med targets` on a small prepared data set, with the tiny model."""

from pathlib import Path

import numpy as np
import pytest

from sam3d_objects.cli.main import main
from sam3d_objects.dataset import Manifest, PrepareOptions, prepare
from sam3d_objects.volume import Volume, write_nifti


@pytest.fixture(scope="module")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three people with an ellipsoid each."""
    source, out = tmp_path_factory.mktemp("scans"), tmp_path_factory.mktemp("prepared")
    grid = np.stack(np.meshgrid(*(np.arange(20),) * 3, indexing="ij"), axis=-1)
    for number in range(3):
        mask = (((grid - 9.5) / [8 - number, 6, 5]) ** 2).sum(axis=-1) < 1
        voxels = 100 * mask.astype(np.float32) + np.random.default_rng(number).normal(size=mask.shape)
        write_nifti(source / f"p{number}.nii.gz", Volume(voxels.astype(np.float32), np.diag([2.0, 2.0, 2.0, 1.0])))
        write_nifti(source / f"p{number}_label.nii.gz", Volume(mask.astype(np.uint8), np.diag([2.0, 2.0, 2.0, 1.0])))
    options = PrepareOptions(structures="egg=1", modality="mr", val_fraction=0.34, test_fraction=0.34, num_workers=0)
    prepare(source, out, options, show_progress=False)
    return out


def test_the_table_and_the_manifest_have_both_stages(data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["targets", "--data_root", str(data_root), "--variants", "1"]
    assert main([*words, "--stage", "structure", "--workers", "2"]) == 0
    assert main([*words, "--workers", "0"]) == 0
    shown = capsys.readouterr().out
    assert "latent targets by the encoder" in shown and shown.count("ASSD mm") == 3
    recorded = Manifest.load(data_root).targets
    for stage in ("structure", "latent"):
        assert len(recorded[stage].cases) == 3 and recorded[stage].base == "tiny"
        for figures in recorded[stage].cases.values():
            assert figures["egg"].assd_mm is not None and figures["egg"].assd_mm < 0.5
    assert min(case["egg"].iou or 0 for case in recorded["structure"].cases.values()) > 0.8


def test_shapes_under_the_bar_are_named_and_the_command_fails(
    data_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["targets", "--data_root", str(data_root), "--variants", "1", "--workers", "0"]
    assert main([*words, "--stage", "structure", "--target_iou_bar", "0.999"]) == 1
    assert "IoU under 1.00: p" in capsys.readouterr().err
    assert main([*words, "--stage", "latent", "--target_distance_bar", "1e-6"]) == 1
    assert "surface distance over 0.00 % of their size: p" in capsys.readouterr().err
    assert main([*words, "--stage", "structure", "--target_iou_bar", "0"]) == 0


def test_no_data_set_is_said_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["targets", "--data_root", str(tmp_path)]) == 1
    assert "not a prepared data set" in capsys.readouterr().err
