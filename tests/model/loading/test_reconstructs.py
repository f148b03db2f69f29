"""A folder like the release, at small width, goes the whole way: picture or slice in, surface out."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from sam3d_objects.adapter import InferenceContract
from sam3d_objects.model import SAM3DObjects
from sam3d_objects.model.pipeline import Generated, generate
from sam3d_objects.reconstruct import Reconstructor
from sam3d_objects.volume import Volume, slice_input

# Random weights make foam of half a million voxels; so many of its most occupied ones are left.
VOXELS = 100
SIDE = 48


def picture() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A grey gradient, a disc on it, and a plane as pointmap."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    mask = ((rows - 22) ** 2 + (columns - 26) ** 2 < 14**2).float()
    points = torch.stack([24.0 - columns, 24.0 - rows, torch.zeros(SIDE, SIDE)])
    return (columns / SIDE).expand(3, -1, -1), mask[None], points


def thinned(model: SAM3DObjects) -> SAM3DObjects:
    """Lower the structure decoder's last bias until few voxels are left."""
    tokens = torch.randn(1, model.settings.token_count, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model.decode_structure(tokens.to(next(model.structure_decoder.parameters()).dtype))
        last = model.structure_decoder.out_layer[2]
        assert isinstance(last, torch.nn.Conv3d) and last.bias is not None
        last.bias -= logits.flatten().topk(VOXELS).values[-1].to(last.bias)
    return model


@pytest.fixture
def model(release: Path) -> Iterator[SAM3DObjects]:
    yield thinned(SAM3DObjects.from_pretrained(release))


def quick(model: SAM3DObjects) -> Generated:
    return generate(model, *picture(), structure_steps=2, latent_steps=2)


def test_a_picture(model: SAM3DObjects) -> None:
    made = quick(model)
    assert len(made.coordinates) > 0 and int(made.coordinates[:, 1:].max()) < 64
    assert made.latents.shape == (len(made.coordinates), 8) and made.latents.isfinite().all()
    assert len(made.surface.faces) > 0 and made.surface.vertices.abs().max() <= 0.5 + 1 / 256
    assert made.surface.attributes is not None and made.surface.attributes.shape[1] == 6
    assert made.pose is not None and made.pose.size > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("offload", [False, True])
def test_half_precision_and_offload(release: Path, dtype: torch.dtype, offload: bool) -> None:
    model = thinned(SAM3DObjects.from_pretrained(release, dtype=dtype, offload=offload))
    made = quick(model)
    assert made.latents.isfinite().all() and made.surface.vertices.dtype == torch.float32
    assert {value.device.type for value in model.state_dict().values()} == {"cpu"}


def test_a_slice_of_a_scan(model: SAM3DObjects) -> None:
    axis = np.arange(40) - 20
    ball = np.square(np.meshgrid(axis, axis, axis, indexing="ij")).sum(axis=0) < 12**2
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    slice = slice_input(Volume(ball.astype(np.float32), affine), Volume(ball, affine), "axial", 20)
    contract = InferenceContract(
        field_of_view="mask_margin", modality="mr", steps=1, samples=1, threshold=0.3, fit=False
    )
    mesh = Reconstructor(model, contract)(slice, 0)
    assert len(mesh.faces) > 0 and np.isfinite(mesh.vertices).all() and mesh.is_watertight
