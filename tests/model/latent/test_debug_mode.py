"""In debug mode every network refuses voxels beyond its grid."""

import pytest
import torch

from sam3d_objects.model.sparse import SparseGrid, SparseTensor
from tests.training.small_model import SIDE, WIDTH, small_latent_stage


@pytest.mark.parametrize("network", ["encoder", "mesh_decoder", "flow"])
def test_a_voxel_beyond_the_grid(network: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = small_latent_stage()
    coordinates = torch.tensor([[0, 0, 0, 0], [0, 1, 2, SIDE]], dtype=torch.int32)
    x = SparseTensor(torch.zeros(2, 27 if network == "encoder" else 8), SparseGrid(coordinates))
    more = (torch.ones(1), torch.zeros(1, 3, WIDTH)) if network == "flow" else ()
    monkeypatch.setenv("SAM3D_DEBUG", "1")
    with pytest.raises(ValueError, match=rf"row 1 of 2 is \[0, 1, 2, {SIDE}\]: x, y, z must be from 0 to {SIDE - 1}"):
        getattr(stage, network)(x, *more)
