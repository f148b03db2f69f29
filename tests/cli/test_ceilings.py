"""The ceiling of a model's encoder and decoder is what they give back of the truth."""

from dataclasses import replace

import numpy as np
import pytest
from torch import Tensor

from sam3d_objects.cli.systems import encode_and_decode
from sam3d_objects.model import SAM3DObjects, load_model
from tests.evaluation.solids import ball_truth


@pytest.fixture(scope="module")
def model() -> SAM3DObjects:
    return load_model("tiny", stages=("structure",))


def test_the_tiny_model_gives_a_ball_back(model: SAM3DObjects) -> None:
    truth = ball_truth(10.0)
    mesh = encode_and_decode(model).mesh(truth)
    voxel_mm = 20 / model.settings.resolution
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 10).mean() < voxel_mm


def test_a_model_of_surface_voxels_gives_a_solid(model: SAM3DObjects) -> None:
    """Such a model is given a shell, and what it answers is filled before it is a solid."""

    class Perfect:
        """Gives back what it is given, as logits."""

        settings, device = replace(model.settings, occupancy="surface"), model.device

        def encode_structure(self, occupancy: Tensor) -> Tensor:
            middle = occupancy.shape[-1] // 2
            assert occupancy[0, 0, middle, middle, middle] == 0
            return occupancy

        def decode_structure(self, tokens: Tensor) -> Tensor:
            return tokens - 0.5

    truth = ball_truth(10.0)
    mesh = encode_and_decode(Perfect()).mesh(truth)  # type: ignore[arg-type]  # a stand-in
    voxel_mm = 20 / model.settings.resolution
    assert mesh.volume == pytest.approx(truth.mesh.volume, rel=3 * voxel_mm / 10)
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 10).max() < 2 * voxel_mm
