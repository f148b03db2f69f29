"""Extraction on grids small enough to work out by hand, its topology, and its gradients."""

import math

import pytest
import torch
from torch import Tensor

from sam3d_objects.mesh import Mesh
from sam3d_objects.model.flexicubes import Surface, extract_surface
from sam3d_objects.model.flexicubes.faces import fan_quads, quad_centres, split_quads
from tests.model.flexicubes.grids import cube_places, dense_cubes, dense_positions

# Two cubes a side: the vertex in the middle, number 13, is corner 7 - c of cube c' whose place has the bits zyx.
MIDDLE = 13


def extract(scalars: Tensor, resolution: int, training: bool = False, **weights: Tensor) -> Surface:
    return extract_surface(
        dense_positions(resolution),
        scalars,
        dense_cubes(resolution),
        cube_places(resolution),
        resolution,
        training=training,
        **weights,
    )


def one_inside() -> Tensor:
    scalars = torch.ones(27, dtype=torch.float64)
    scalars[MIDDLE] = -1
    return scalars


def as_mesh(surface: Surface) -> Mesh:
    return Mesh(surface.vertices.detach().numpy(), surface.faces.numpy())


def test_one_vertex_inside_gives_a_cube() -> None:
    surface = extract(one_inside(), 2)
    # Three crossings half way along edges of length 1/2: their mean is a third of a quarter away on each axis.
    assert torch.allclose(surface.vertices.abs(), torch.full((8, 3), 1 / 12, dtype=torch.float64))
    assert surface.faces.shape == (12, 3)
    mesh = as_mesh(surface)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(1 / 216)  # above 0: faces wind outward


def test_the_complement_winds_the_other_way() -> None:
    mesh = as_mesh(extract(-one_inside(), 2))
    assert mesh.volume == pytest.approx(-1 / 216)


def test_zero_counts_as_outside() -> None:
    scalars = one_inside()
    scalars[MIDDLE + 9] = 0
    mesh = as_mesh(extract(scalars, 2))
    assert mesh.is_watertight and mesh.volume > 0
    scalars[:] = 0
    assert len(extract(scalars, 2).faces) == 0


def test_in_training_quads_become_four_triangles_and_equal_distances_do_not_deviate() -> None:
    surface = extract(one_inside(), 2, training=True)
    assert surface.faces.shape == (24, 3) and surface.vertices.shape == (14, 3)
    centres = surface.vertices[8:].abs().sort(dim=1).values
    expected = torch.tensor([0, 0, 1 / 12], dtype=torch.float64)
    assert torch.allclose(centres, expected.expand(6, 3), atol=1e-9)
    assert as_mesh(surface).volume == pytest.approx(1 / 216)
    assert surface.deviation is not None and surface.deviation.shape == (24,)
    assert surface.deviation.abs().max() < 1e-12


def test_alpha_moves_crossings_along_their_edges() -> None:
    alpha = torch.zeros(8, 8, dtype=torch.float64)
    inner = [7, 3, 5, 1, 6, 2, 4, 0]  # the corner of each cube, in C order, that is the middle vertex
    alpha[range(8), inner] = math.atanh(0.5 / 0.99)  # 1.5: zero of -1.5 .. 1 is at 0.6
    vertices = extract(one_inside(), 2, alpha=alpha).vertices
    assert torch.allclose(vertices.abs(), torch.full((8, 3), 0.6 / 3 / 2, dtype=torch.float64))


def test_beta_weighs_the_crossings_of_a_dual_vertex() -> None:
    beta = torch.zeros(8, 12, dtype=torch.float64)
    beta[:, [0, 2, 4, 6]] = math.atanh(0.5 / 0.99)  # 1.5 on the edges along x
    vertices = extract(one_inside(), 2, beta=beta).vertices.abs()
    expected = torch.tensor([1.5, 1, 1], dtype=torch.float64) / 3.5 / 4
    assert torch.allclose(vertices, expected.expand(8, 3))


def test_weights_of_zero_are_the_defaults() -> None:
    generator = torch.Generator().manual_seed(1)
    scalars = torch.randn(5**3, generator=generator, dtype=torch.float64)
    zeros = {"beta": torch.zeros(64, 12), "alpha": torch.zeros(64, 8), "gamma": torch.zeros(64)}
    weighted = extract(scalars, 4, training=True, **{name: value.double() for name, value in zeros.items()})
    plain = extract(scalars, 4, training=True)
    assert torch.allclose(weighted.vertices, plain.vertices) and torch.equal(weighted.faces, plain.faces)


def test_attributes_pass_a_sigmoid_and_follow_the_positions() -> None:
    generator = torch.Generator().manual_seed(2)
    scalars = torch.randn(5**3, generator=generator, dtype=torch.float64)
    beta = torch.randn(64, 12, generator=generator, dtype=torch.float64)
    alpha = torch.randn(64, 8, generator=generator, dtype=torch.float64)
    # Attributes whose sigmoids are the positions, shifted into (0, 1).
    attributes = torch.logit(dense_positions(4) * 0.9 + 0.5)
    for training in (False, True):
        surface = extract(scalars, 4, training, beta=beta, alpha=alpha, attributes=attributes)
        assert surface.attributes is not None
        # The released centre divides by a sum with 1e-8, and so misses a mean by as much.
        assert torch.allclose(surface.attributes, surface.vertices * 0.9 + 0.5, atol=1e-7)


def test_quads_split_along_the_larger_product_of_gamma() -> None:
    corners = torch.tensor([[0, 1, 2, 3]])
    first = split_quads(corners, torch.tensor([1.0, 0.5, 1.0, 0.5]))
    second = split_quads(corners, torch.tensor([0.5, 1.0, 0.5, 1.0]))
    assert first.tolist() == [[0, 1, 2], [0, 2, 3]]
    assert second.tolist() == [[0, 1, 3], [3, 1, 2]]
    assert split_quads(corners, torch.ones(4)).tolist() == second.tolist()
    assert fan_quads(corners, 4).tolist() == [[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]]


def test_the_centre_of_a_quad_leans_to_the_diagonal_that_splits_it() -> None:
    values = torch.tensor([[0.0], [1.0], [4.0], [3.0]])  # the diagonals' middles are both 2
    corners = torch.tensor([[0, 1, 2, 3]])
    assert quad_centres(values, corners, torch.ones(4)).item() == pytest.approx(2)
    values[2] = 8.0  # the first diagonal's middle is 4
    gamma = torch.tensor([0.75, 0.5, 1.0, 0.5])  # products 0.75 and 0.25
    assert quad_centres(values, corners, gamma).item() == pytest.approx(0.75 * 4 + 0.25 * 2)


@pytest.mark.parametrize("seed", range(4))
def test_noise_gives_a_closed_manifold(seed: int) -> None:
    resolution = 8
    scalars = torch.randn((resolution + 1,) * 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    border = torch.ones_like(scalars, dtype=torch.bool)
    border[1:-1, 1:-1, 1:-1] = False
    surface = extract(torch.where(border, 1, scalars).flatten(), resolution, training=True)
    start, end = surface.faces.flatten(), surface.faces.roll(-1, dims=1).flatten()
    edges = torch.stack([start, end], dim=1)
    assert len(edges.unique(dim=0)) == len(edges), "an edge belongs to more than two faces"
    assert as_mesh(surface).is_watertight
    assert as_mesh(surface).volume > 0


def test_a_subset_of_the_cubes_gives_the_quads_whose_four_cubes_it_has() -> None:
    kept = torch.tensor([place[2] == 0 for place in cube_places(2).tolist()])  # the lower four
    surface = extract_surface(dense_positions(2), one_inside(), dense_cubes(2)[kept], cube_places(2)[kept], 2)
    assert len(surface.vertices) == 4 and len(surface.faces) == 2  # the side that looks down
    assert (as_mesh(surface).cross[:, 2] < 0).all()


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize("training", [False, True])
def test_nothing_crosses(sign: float, training: bool) -> None:
    attributes = torch.zeros(27, 6, dtype=torch.float64)
    surface = extract(sign * torch.ones(27, dtype=torch.float64), 2, training, attributes=attributes)
    assert surface.vertices.shape == (0, 3) and surface.faces.shape == (0, 3)
    assert surface.attributes is not None and surface.attributes.shape == (0, 6)
    assert (surface.deviation is not None) == training


def test_gradients_are_finite_differences() -> None:
    resolution, generator = 3, torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)

    inputs = (dense_positions(resolution).requires_grad_(), draw(64), draw(27, 12), draw(27, 8), draw(27), draw(64, 2))

    def extracted(positions: Tensor, scalars: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        beta, alpha, gamma, attributes = rest
        surface = extract_surface(
            positions,
            scalars,
            dense_cubes(resolution),
            cube_places(resolution),
            resolution,
            beta,
            alpha,
            gamma,
            attributes,
            training=True,
        )
        assert surface.attributes is not None and surface.deviation is not None
        return surface.vertices, surface.attributes, surface.deviation

    assert torch.autograd.gradcheck(extracted, inputs, fast_mode=True)
