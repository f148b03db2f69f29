"""FlexiCubes and what leads from features to it, against the golden vectors."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sam3d_objects.model.flexicubes import Surface, corner_values, extract_surface, surface_from_features
from tests.model.flexicubes.grids import cube_places, matched
from tests.model.golden import Golden, assert_parity, load_golden

RESOLUTION = 24
GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))
DEVICES = pytest.mark.parametrize("device", ["cpu", GPU])
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@pytest.fixture(scope="module")
def golden(shared_reference: Path) -> Golden:
    return load_golden(shared_reference, "flexicubes")


@pytest.fixture(scope="module")
def features_golden(shared_reference: Path) -> Golden:
    return load_golden(shared_reference, "features2mesh")


def assert_surface(found: Surface, expected: dict[str, Tensor | None]) -> None:
    """Compare with vertices, faces, attributes and (in any order) deviation."""
    vertices, faces = expected["vertices"], expected["faces"]
    assert vertices is not None and faces is not None
    match = matched(found.vertices.cpu(), found.faces.cpu(), vertices, faces)
    assert_parity(found.vertices.cpu(), vertices[match], "vertices")
    attributes, deviation = expected.get("attributes"), expected.get("deviation")
    if attributes is not None:
        assert found.attributes is not None
        assert_parity(found.attributes.cpu(), attributes[match], "attributes")
    if deviation is not None:
        assert found.deviation is not None
        assert_parity(found.deviation.sort().values.cpu(), deviation.sort().values, "deviation")


@DEVICES
@DTYPES
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("case", ["sphere_default", "sphere_weighted", "random_sdf"])
def test_extraction(golden: Golden, case: str, training: bool, dtype: torch.dtype, device: str) -> None:
    given = {name: value.to(device, dtype) for name, value in golden.inputs.items()}
    random = case == "random_sdf"
    resolution = 8 if random else 16
    weights = {"beta": "beta", "alpha": "alpha", "gamma": "gamma_f", "attributes": "colors"}
    surface = extract_surface(
        given["pos_random" if random else "dpos" if case == "sphere_weighted" else "pos"],
        given["sdf_random" if random else "sdf_sphere"],
        golden.inputs["cube_random" if random else "cube"].to(device, torch.int64),
        cube_places(resolution).to(device),
        resolution,
        training=training,
        **({name: given[key] for name, key in weights.items()} if case == "sphere_weighted" else {}),
    )
    assert surface.vertices.dtype == dtype
    stored = golden.outputs
    if random and training:  # only the deviation is stored
        assert surface.deviation is not None
        assert_parity(surface.deviation.sort().values.cpu(), stored["random_sdf.L_dev"].sort().values, "deviation")
        return
    prefix = f"{case}_train." if training else f"{case}."
    expected: dict[str, Tensor | None] = {name: stored[prefix + name] for name in ("vertices", "faces")}
    expected["attributes"] = stored.get(prefix + "colors")
    expected["deviation"] = stored[prefix + "L_dev"] if training else None
    assert_surface(surface, expected)
    assert (surface.deviation is None) != training
    assert (surface.attributes is None) == (case != "sphere_weighted")


@DEVICES
@DTYPES
def test_corner_values(features_golden: Golden, dtype: torch.dtype, device: str) -> None:
    features, places = features_golden.inputs["feats"].to(device, dtype), features_golden.inputs["coords"][:, 1:]
    corners = corner_values(features, places.to(device), RESOLUTION)
    assert_parity(corners.sdf.cpu(), features_golden.outputs["tsdf_s"], "sdf")
    assert_parity(corners.positions.cpu(), features_golden.outputs["tsdf_v"], "positions")


@DEVICES
@DTYPES
@pytest.mark.parametrize("training", [False, True])
def test_surface_from_features(features_golden: Golden, training: bool, dtype: torch.dtype, device: str) -> None:
    features, places = features_golden.inputs["feats"].to(device, dtype), features_golden.inputs["coords"][:, 1:]
    surface, regulariser = surface_from_features(features, places.to(device), RESOLUTION, training=training)
    stored, prefix = features_golden.outputs, "train_" if training else ""
    expected: dict[str, Tensor | None] = {name: stored[prefix + name] for name in ("vertices", "faces")}
    assert_surface(surface, expected | {"attributes": stored[f"{prefix}vertex_attrs"]})
    assert (regulariser is None) != training
    if regulariser is not None:
        assert_parity(regulariser.cpu()[None], stored["reg_loss"], "regulariser")


@DTYPES
def test_decoded_features(shared_reference: Path, dtype: torch.dtype) -> None:
    stored = load_golden(shared_reference, "slat_decoder_mesh").outputs
    features, places = stored["features101"].to(dtype), stored["features101_coords"][:, 1:]
    surface, _ = surface_from_features(features, places, 32)
    assert_surface(
        surface, {"vertices": stored["vertices"], "faces": stored["faces"], "attributes": stored["vertex_attrs"]}
    )


def test_without_colour_the_surface_is_the_same(features_golden: Golden) -> None:
    features, places = features_golden.inputs["feats"], features_golden.inputs["coords"][:, 1:]
    coloured, _ = surface_from_features(features, places, RESOLUTION)
    plain, _ = surface_from_features(features[:, :53], places, RESOLUTION)
    assert plain.attributes is None
    assert torch.equal(plain.vertices, coloured.vertices) and torch.equal(plain.faces, coloured.faces)
