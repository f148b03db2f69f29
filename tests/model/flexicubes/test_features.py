"""From features to corner values and surfaces: averages worked by hand, the dense grid, bad input, gradients."""

import pytest
import torch
from torch import Tensor

from sam3d_objects.mesh import Mesh
from sam3d_objects.model.flexicubes import (
    FeatureLayout,
    Surface,
    corner_values,
    extract_surface,
    surface_from_features,
)
from sam3d_objects.model.flexicubes.corners import vertex_positions
from sam3d_objects.model.flexicubes.keys import linear_keys, places_of
from tests.model.flexicubes.grids import cube_places, dense_cubes, shell

TWO_CUBES = torch.tensor([[1, 0, 0], [0, 0, 0]])  # they share four vertices


def dense_surface(features: Tensor, places: Tensor, resolution: int, training: bool) -> Surface:
    """The surface by way of every cube of the grid."""
    corners = corner_values(features, places, resolution)
    assert corners.colour is not None
    count = (resolution + 1) ** 3
    fill = {"sdf": corners.sdf, "deform": corners.deform, "colour": corners.colour}
    dense = {name: value.new_zeros(count, *value.shape[1:]) for name, value in fill.items()}
    dense["sdf"] += 1
    for name, value in fill.items():
        dense[name][corners.keys] = value
    weights = features.new_zeros(resolution**3, 21)
    weights[linear_keys(places, resolution)] = corners.weights
    vertices = places_of(torch.arange(count), resolution + 1)
    return extract_surface(
        vertex_positions(vertices, dense["deform"], resolution),
        dense["sdf"],
        dense_cubes(resolution),
        cube_places(resolution),
        resolution,
        weights[:, :12],
        weights[:, 12:20],
        weights[:, 20],
        dense["colour"],
        training,
    )


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("radius", [0.2, 0.35, 0.6])  # the last leaves the grid on all sides
def test_active_cubes_give_the_surface_of_the_dense_grid(radius: float, training: bool) -> None:
    features, places = shell(12, radius, torch.Generator().manual_seed(0))
    found, _ = surface_from_features(features, places, 12, training)
    expected = dense_surface(features, places, 12, training)
    assert len(found.faces) > 400
    for name, value in vars(expected).items():
        assert (getattr(found, name) is None) == (value is None), name
        assert value is None or torch.equal(getattr(found, name), value), name


@pytest.mark.parametrize("seed", range(3))
def test_scattered_cubes_give_the_surface_of_the_dense_grid(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    places = cube_places(7)[torch.randperm(7**3, generator=generator)[:90]]
    features = torch.randn(90, 101, generator=generator, dtype=torch.float64)
    found, _ = surface_from_features(features, places, 7)
    expected = dense_surface(features, places, 7, training=False)
    assert torch.equal(found.vertices, expected.vertices) and torch.equal(found.faces, expected.faces)


def test_the_order_of_the_cubes_does_not_matter() -> None:
    features, places = shell(10, 0.3, torch.Generator().manual_seed(1))
    order = torch.argsort(linear_keys(places, 10))
    one, _ = surface_from_features(features, places.to(torch.int32), 10)
    two, _ = surface_from_features(features[order], places[order], 10)
    assert torch.equal(one.faces, two.faces)
    assert torch.allclose(one.vertices, two.vertices, rtol=0, atol=1e-12)


def test_a_shell_has_two_closed_walls() -> None:
    features, places = shell(12, 0.3, torch.Generator().manual_seed(2))
    surface, _ = surface_from_features(features, places, 12)
    mesh = Mesh(surface.vertices.numpy(), surface.faces.numpy())
    assert mesh.is_watertight
    assert mesh.bounds.min() < -0.25 and mesh.bounds.max() > 0.25


def test_corner_values_by_hand() -> None:
    features = torch.zeros(2, 101)
    features[:, :8] = torch.arange(16.0).reshape(2, 8)
    features[0, 8:11] = torch.tensor([1.0, 2, 3])  # deform of corner 0 of cube (1, 0, 0)
    features[1, 53 + 6 : 53 + 12] = 4.0  # colour of corner 1 of cube (0, 0, 0), the same vertex
    corners = corner_values(features, TWO_CUBES, 4)
    assert corners.vertices.tolist() == [[x, y, z] for x in range(3) for y in (0, 1) for z in (0, 1)]
    # Corner numbers have x fastest. Cube (0, 0, 0) says 8 + corner, cube (1, 0, 0) says corner.
    own = [8.0, 12, 10, 14]
    shared = [(9 + 0) / 2, (13 + 4) / 2, (11 + 2) / 2, (15 + 6) / 2]
    assert torch.allclose(corners.sdf, torch.tensor([*own, *shared, 1, 5, 3, 7]) - 1 / 4)
    assert corners.deform[4].tolist() == [0.5, 1.0, 1.5]
    assert corners.colour is not None and corners.colour[4].tolist() == [2.0] * 6
    expected = torch.tensor([0.25, 0, 0]) - 0.5 + torch.tanh(torch.tensor([0.5, 1.0, 1.5])) / 8
    assert torch.allclose(corners.positions[4], expected)
    assert corners.disagreement is None


def test_disagreement_is_the_mean_square_from_the_corner_average() -> None:
    features = torch.zeros(2, 53)
    features[1, 0:8] = 1.0
    found = corner_values(features, TWO_CUBES, 4, with_disagreement=True).disagreement
    # Four shared vertices, two cubes, each 1/2 from the average; of 2 x 8 x 4 values.
    assert found is not None and found.item() == pytest.approx(8 * 0.25 / 64)


def test_the_regulariser_of_no_surface_is_the_cubes_own() -> None:
    features = torch.zeros(2, 53)
    features[:, :8] = 2.0
    features[:, 32:52] = -3.0
    surface, regulariser = surface_from_features(features, TWO_CUBES, 4, training=True)
    assert len(surface.faces) == 0
    assert regulariser is not None and regulariser.item() == pytest.approx(0.2 * 3)


@pytest.mark.parametrize("training", [False, True])
def test_no_cubes_give_no_surface(training: bool) -> None:
    features = torch.zeros(0, 101, requires_grad=True)
    surface, regulariser = surface_from_features(features, torch.zeros(0, 3, dtype=torch.int32), 8, training)
    assert surface.vertices.shape == (0, 3) and surface.faces.shape == (0, 3)
    if regulariser is not None:
        regulariser.backward()
        assert regulariser.item() == 0


def test_gradients_are_finite_differences() -> None:
    features, places = shell(5, 0.3, torch.Generator().manual_seed(3))

    def values(given: Tensor) -> tuple[Tensor, ...]:
        surface, regulariser = surface_from_features(given, places, 5, training=True)
        assert surface.attributes is not None and regulariser is not None
        return surface.vertices, surface.attributes, regulariser, corner_values(given, places, 5).sdf

    assert torch.autograd.gradcheck(values, (features.requires_grad_(),), fast_mode=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_features_are_read_in_float32(dtype: torch.dtype) -> None:
    features, places = shell(8, 0.3, torch.Generator().manual_seed(4))
    half = features.to(dtype).requires_grad_()
    surface, regulariser = surface_from_features(half, places, 8, training=True)
    expected, _ = surface_from_features(half.detach().float(), places, 8, training=True)
    assert torch.equal(surface.vertices, expected.vertices) and surface.vertices.dtype == torch.float32
    assert regulariser is not None
    regulariser.backward()
    assert half.grad is not None and half.grad.dtype == dtype and bool(half.grad.isfinite().all())


def test_the_features_stay_as_they_are() -> None:
    features, places = shell(8, 0.3, torch.Generator().manual_seed(5))
    before = features.clone()
    surface_from_features(features, places, 8, training=True)
    assert torch.equal(features, before)


def test_layouts() -> None:
    assert FeatureLayout.of(101) == FeatureLayout(colour=True)
    assert FeatureLayout.of(53) == FeatureLayout(colour=False)
    with pytest.raises(ValueError, match="101 channels, or 53 without colour; got 100"):
        FeatureLayout.of(100)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        (torch.tensor([[0, 0, 0], [0, 0, 4]]), r"0\.\.3, row 1 is \[0, 0, 4\]"),
        (torch.tensor([[0, -1, 0], [0, 0, 3]]), r"0\.\.3, row 0 is \[0, -1, 0\]"),
        (torch.tensor([[1, 2, 3], [1, 2, 3]]), r"each coordinate once, \[1, 2, 3\]"),
        (torch.tensor([[0, 1, 2, 3], [0, 1, 2, 2]]), r"\(2, 3\).*got torch.int64 \(2, 4\)"),
        (torch.tensor([[1.0, 2, 3], [1, 2, 2]]), r"integer coordinates.*got torch.float32"),
    ],
)
def test_bad_coordinates(places: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        surface_from_features(torch.zeros(2, 101), places, 4)
