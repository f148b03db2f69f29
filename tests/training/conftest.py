"""A prepared data set of six people with an ellipsoid each, and a base model small enough for tests."""

from pathlib import Path

import numpy as np
import pytest

from sam3d_objects.dataset import PrepareOptions, prepare
from sam3d_objects.model import SAM3DObjects
from sam3d_objects.volume import Volume, write_nifti
from tests.training.small_model import small_model


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder: 3 people train, 1 validates, 2 test."""
    source, out = tmp_path_factory.mktemp("scans"), tmp_path_factory.mktemp("prepared")
    generator = np.random.default_rng(0)
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    grid = np.stack(np.meshgrid(*(np.arange(24),) * 3, indexing="ij"), axis=-1)
    for number in range(6):
        radii, center = generator.uniform(4, 8, size=3), generator.uniform(11, 12, size=3)
        mask = (((grid - center) / radii) ** 2).sum(axis=-1) < 1
        voxels = (100 * mask + generator.normal(0, 5, size=mask.shape)).astype(np.float32)
        write_nifti(source / f"p{number}.nii.gz", Volume(voxels, affine))
        write_nifti(source / f"p{number}_label.nii.gz", Volume(mask.astype(np.uint8), affine))
    options = PrepareOptions(structures="egg=1", modality="mr", val_fraction=0.17, test_fraction=0.34, num_workers=0)
    prepare(source, out, options, show_progress=False)
    return out


@pytest.fixture
def model() -> SAM3DObjects:
    """A fresh model with seeded random weights."""
    return small_model()
