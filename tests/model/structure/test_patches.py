"""Latent cubes and shape tokens."""

import pytest
import torch

from sam3d_objects.model.structure.patches import patchify, unpatchify
from sam3d_objects.model.structure.settings import StructureSettings
from sam3d_objects.model.structure.vae import pixel_shuffle_3d, tokens_to_cube


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_there_and_back(patch: int) -> None:
    cube = torch.randn(2, 3, 8, 8, 8)
    tokens = patchify(cube, patch)
    assert tokens.shape == (2, (8 // patch) ** 3, 3 * patch**3)
    assert torch.equal(unpatchify(tokens, patch), cube)


def test_order_of_tokens_and_of_channels() -> None:
    x, y, z = torch.meshgrid(torch.arange(4), torch.arange(4), torch.arange(4), indexing="ij")
    cube = torch.stack([x, y, z])[None].float()  # channel c holds the coordinate along axis c
    tokens = patchify(cube, 2)
    assert tokens[0, 1].unflatten(0, (3, 8))[2].tolist() == [2, 3] * 4, "the second token is the next along z"
    assert tokens[0, 4].unflatten(0, (3, 8))[0].tolist() == [2] * 4 + [3] * 4, "the fifth is the next along x"
    plain = patchify(cube, 1)[0]
    assert plain[1].tolist() == [0, 0, 1] and plain[16].tolist() == [1, 0, 0]


def test_pixel_shuffle_by_hand() -> None:
    x = torch.arange(16.0).reshape(1, 16, 1, 1, 1)  # two channels of 2 x 2 x 2
    out = pixel_shuffle_3d(x, 2)
    assert out.shape == (1, 2, 2, 2, 2)
    assert torch.equal(out.flatten(), x.flatten())


def test_tokens_that_fill_no_cube() -> None:
    with pytest.raises(AssertionError, match="9 tokens"):
        tokens_to_cube(torch.zeros(1, 9, 2))


def test_settings_of_the_release_and_of_a_patched_model() -> None:
    release = StructureSettings()
    assert (release.token_count, release.token_channels) == (4096, 8)
    patched = StructureSettings(resolution=32, latent_side=8, patch=2)
    assert (patched.token_count, patched.token_channels) == (64, 64)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"resolution": 60}, "resolution 60 must be a multiple of latent_side 16"),
        ({"patch": 3}, "patch 3"),
        ({"occupancy": "shell"}, "occupancy must be one of"),
        ({"plane_cue": "red"}, "plane_cue must be one of"),
        ({"pose_mean": {"scale": (0.0,)}}, r"pose_mean has \['scale'\], but pose_std has \[\]"),
    ],
)
def test_settings_that_do_not_fit(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StructureSettings(**wrong)  # type: ignore[arg-type]  # The values are wrong on purpose.
