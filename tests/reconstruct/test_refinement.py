"""From a rough surface to the voxels of the latent stage, and back to a surface in the patient."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sam3d_objects.mesh import Mesh, ObjectFrame, occupancy_grid, surface_from_field
from sam3d_objects.model import SAM3DObjects, load_model
from sam3d_objects.model.flexicubes import Surface
from sam3d_objects.model.latent.voxels import latent_voxels
from sam3d_objects.reconstruct import refine
from sam3d_objects.reconstruct.refinement import noise_of_places
from tests.training.small_model import SIDE, small_latent_stage, small_model

INPUTS = ("image", "rgb_image", "mask", "rgb_image_mask")
SEMIAXES_MM = np.array([22.0, 12.0, 9.0])
CENTER_MM = np.array([5.0, -40.0, 70.0])


def ellipsoid(semiaxes_mm: np.ndarray = SEMIAXES_MM) -> Mesh:
    """A closed ellipsoid in patient mm."""
    side = 40
    affine = np.diag([*(2.4 * semiaxes_mm / side), 1.0])
    affine[:3, 3] = CENTER_MM - 1.2 * semiaxes_mm + 1.2 * semiaxes_mm / side
    axis = (np.arange(side) + 0.5) * 2.4 / side - 1.2
    radius = np.sqrt(np.square(np.meshgrid(axis, axis, axis, indexing="ij")).sum(axis=0))
    return surface_from_field(2.0 - radius, 1.0, affine)


def grey_inputs(side: int) -> dict[str, Tensor]:
    """A slice that shows nothing."""
    return {name: torch.full((1 if "mask" in name else 3, side, side), 0.5) for name in INPUTS}


def in_its_box(mesh: Mesh) -> Mesh:
    return Mesh(ObjectFrame.from_points(mesh.vertices).to_object(mesh.vertices), mesh.faces)


def voxels_of(mesh: Mesh, occupancy: str) -> tuple[Tensor, Tensor]:
    """The voxels of a mesh on the 32^3 grid over its box."""
    shares, touched = (occupancy_grid(in_its_box(mesh), 32, kind) for kind in ("solid", "surface"))
    return latent_voxels(shares, touched, occupancy)


@pytest.mark.parametrize("occupancy", ["solid", "surface"])
def test_the_voxels_are_a_shell_around_the_interior(occupancy: str) -> None:
    coordinates, interior = voxels_of(ellipsoid(), occupancy)
    shell = torch.zeros(32, 32, 32, dtype=torch.bool)
    shell[tuple(coordinates[:, 1:].long().T)] = True
    assert shell.any() and interior.any() and not (shell & interior[0]).any()
    # No step along an axis leads from the interior to what is neither.
    outside = ~shell & ~interior[0]
    for axis in range(3):
        for step in (1, -1):
            assert not (interior[0] & outside.roll(step, axis)).any()


def test_a_sheet_thinner_than_a_voxel_has_voxels() -> None:
    coordinates, interior = voxels_of(ellipsoid(np.array([20.0, 20.0, 0.2])), "solid")
    assert not interior.any()
    assert len(coordinates) > 0.6 * np.pi * 16**2  # about the disc's own area


def test_one_voxel_more_leaves_the_others_their_noise() -> None:
    coordinates, _ = voxels_of(ellipsoid(), "solid")
    noise = noise_of_places(coordinates, 32, 8, seed=3)
    assert noise.shape == (len(coordinates), 8) and abs(float(noise.std()) - 1) < 0.05
    assert torch.equal(noise_of_places(coordinates[1:], 32, 8, seed=3), noise[1:])
    assert not torch.equal(noise_of_places(coordinates, 32, 8, seed=4), noise)


@dataclass
class Given:
    """What the stand-in for the mesh decoder was asked."""

    coordinates: Tensor | None = None


def test_the_surface_comes_back_to_where_the_rough_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model("solid")
    model.latent = small_latent_stage()
    given, rough = Given(), ellipsoid()

    def decode(latents: Tensor, grid: Any, interior: Tensor) -> list[Surface]:
        given.coordinates = grid.coordinates
        unit = in_its_box(rough)
        return [Surface(torch.from_numpy(unit.vertices).float(), torch.from_numpy(unit.faces))]

    monkeypatch.setattr(model.latent, "decode", decode)
    inputs = grey_inputs(28)
    refined = refine(model, rough, inputs, seed=0)
    assert given.coordinates is not None and int(given.coordinates[:, 1:].max()) < SIDE
    np.testing.assert_allclose(refined.bounds, rough.bounds, atol=1e-4)
    assert refined.volume == pytest.approx(rough.volume, rel=1e-4)


def test_no_surface_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model("solid")
    model.latent = small_latent_stage()
    nothing = Surface(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64))
    monkeypatch.setattr(model.latent, "decode", lambda *_: [nothing])
    inputs = grey_inputs(28)
    with pytest.raises(ValueError, match=r"no surface of \d+ voxels.*--stages structure"):
        refine(model, ellipsoid(), inputs, seed=0)


@pytest.fixture(scope="module")
def tiny() -> SAM3DObjects:
    return load_model("tiny")


@pytest.mark.parametrize("seed", [0, 1])
def test_the_tiny_model_keeps_a_smooth_solid(tiny: SAM3DObjects, seed: int) -> None:
    rough = ellipsoid()
    size = tiny.settings.image_size
    inputs = {
        name: torch.full((3 if "image" in name and "mask" not in name else 1, size, size), 0.5) for name in INPUTS
    }
    refined = refine(tiny, rough, inputs, seed)
    assert refined.is_watertight
    assert refined.volume == pytest.approx(rough.volume, rel=0.06)
    np.testing.assert_allclose(refined.bounds, rough.bounds, atol=44 / 32)  # a voxel
