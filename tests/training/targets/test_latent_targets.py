"""Latent targets: who makes them, that they are made once, and that they decode to the shape."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sam3d_objects.mesh import occupancy_grid, signed_distance
from sam3d_objects.model import SAM3DObjects, load_model
from sam3d_objects.model.latent.features import distance_features, voxel_points
from sam3d_objects.model.latent.voxels import latent_voxels
from sam3d_objects.model.loading import AbsentModule
from sam3d_objects.model.sparse import SparseGrid, SparseTensor
from sam3d_objects.training.targets import InversionOptions, LatentTargets, SurfaceDistance, resolve_source
from sam3d_objects.training.targets import latent as latent_module
from tests.training.small_model import SIDE, small_latent_stage, small_model
from tests.training.targets.solids import box, ellipsoid

SHAPE = ellipsoid(0.5, 0.3, 0.25)
QUICK = InversionOptions(steps=1)


@pytest.fixture
def model() -> SAM3DObjects:
    model = small_model()
    model.latent = small_latent_stage()
    return model


@pytest.fixture
def quick_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    """The surfaces of random weights are jagged, and slow to measure."""
    monkeypatch.setattr(latent_module, "distance_between", lambda *_: SurfaceDistance(0.01, 0.02))


def absent(model: SAM3DObjects) -> SAM3DObjects:
    model.latent_stage.encoder = AbsentModule("slat_encoder.safetensors: empty")  # type: ignore[assignment]  # as loaded
    return model


def test_an_encoded_target_is_the_posterior_mean_of_the_voxels_at_inference(
    model: SAM3DObjects, tmp_path: Path
) -> None:
    (target,) = LatentTargets(model, tmp_path, "encoder").targets([SHAPE])
    shares, touched = (occupancy_grid(SHAPE, SIDE, kind) for kind in ("solid", "surface"))
    coordinates, interior = latent_voxels(shares, touched, "solid")
    assert torch.equal(target.coordinates, coordinates) and torch.equal(target.interior, interior)
    points = voxel_points(coordinates[:, 1:], SIDE)
    distances = torch.from_numpy(signed_distance(SHAPE, points.flatten(0, 1).double().numpy())).float()
    features = distance_features(distances.view(-1, 27), SIDE)
    with torch.no_grad():
        mean, _ = model.latent_stage.encoder(SparseTensor(features, SparseGrid(coordinates, 1)))
    torch.testing.assert_close(target.latents, mean)


@pytest.mark.usefixtures("quick_distance")
@pytest.mark.parametrize("source", ["encoder", "inversion"])
def test_a_target_is_made_once_and_comes_back_as_it_was(
    model: SAM3DObjects, tmp_path: Path, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = [SHAPE, box(-0.2, 0.2)]
    made = list(LatentTargets(model, tmp_path, source, QUICK).targets(shapes))
    kept = LatentTargets(model, tmp_path, source, QUICK)
    monkeypatch.setattr(kept, "_make", lambda mesh: pytest.fail("made again"))
    for one, other in zip(made, kept.targets(shapes), strict=True):
        for name in ("coordinates", "latents", "interior"):
            first, second = getattr(one, name), getattr(other, name)
            assert torch.equal(first, second) and first.dtype == second.dtype
        assert one.distance == other.distance


@pytest.mark.usefixtures("quick_distance")
def test_a_damaged_file_is_made_again(model: SAM3DObjects, tmp_path: Path) -> None:
    targets = LatentTargets(model, tmp_path)
    (made,) = targets.targets([SHAPE])
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:50])
    assert torch.equal(next(targets.targets([SHAPE])).latents, made.latents)


def test_whatever_makes_another_target_gives_another_key(model: SAM3DObjects, tmp_path: Path) -> None:
    makers = [
        LatentTargets(model, tmp_path, "encoder"),
        LatentTargets(model, tmp_path, "inversion"),
        LatentTargets(model, tmp_path, "inversion", InversionOptions(steps=7)),
        LatentTargets(model, tmp_path, "inversion", InversionOptions(prior_weight=0.5)),
    ]
    surface = small_model("surface")
    surface.latent = small_latent_stage()
    makers.append(LatentTargets(surface, tmp_path, "inversion"))
    model.latent_stage.mesh_decoder.out_layer.bias.data += 0.1
    makers.append(LatentTargets(model, tmp_path, "inversion"))
    keys = {maker.key(SHAPE) for maker in makers}
    assert len(keys) == len(makers)
    assert makers[0].key(SHAPE) != makers[0].key(box(-0.5, 0.5))
    assert LatentTargets(surface, tmp_path, "inversion").key(SHAPE) == makers[4].key(SHAPE)


def test_auto_takes_the_encoder_where_it_can_be_run(model: SAM3DObjects) -> None:
    stage = model.latent_stage
    assert resolve_source(stage, "auto")[0] == resolve_source(stage, "encoder")[0] == "encoder"
    assert resolve_source(stage, "inversion")[0] == "inversion"
    stage.settings = replace(stage.settings, voxel_features="views")
    assert resolve_source(stage, "auto")[0] == "inversion" and "rendered views" in resolve_source(stage, "auto")[1]
    with pytest.raises(ValueError, match=r"rendered views.*take inversion as the source"):
        resolve_source(stage, "encoder")
    with pytest.raises(ValueError, match="is one of auto, encoder, inversion; got 'magic'"):
        resolve_source(stage, "magic")


@pytest.mark.usefixtures("quick_distance")
def test_without_the_encoder_s_weights_auto_inverts_and_says_why(model: SAM3DObjects, tmp_path: Path) -> None:
    targets = LatentTargets(absent(model), tmp_path, inversion=QUICK)
    assert (targets.source, targets.reason) == ("inversion", "slat_encoder.safetensors: empty")
    (target,) = targets.targets([SHAPE])
    assert target.latents.shape == (len(target.coordinates), 8)
    with pytest.raises(ValueError, match=r"slat_encoder\.safetensors: empty"):
        LatentTargets(model, tmp_path, "encoder")


@pytest.mark.usefixtures("quick_distance")
def test_a_decoder_that_is_trained_makes_no_targets(model: SAM3DObjects, tmp_path: Path) -> None:
    before = copy.deepcopy(model.latent_stage.mesh_decoder)
    own = LatentTargets(model, tmp_path / "own")
    of_copy = LatentTargets(model, tmp_path / "copy", decoder=before)
    assert own.key(SHAPE) == of_copy.key(SHAPE)
    model.latent_stage.mesh_decoder.out_layer.bias.data += 0.1
    with pytest.raises(AssertionError, match="trained since"):
        next(own.targets([SHAPE]))
    assert len(list(of_copy.targets([SHAPE]))) == 1


def test_the_tiny_encoder_s_latents_decode_to_the_shape(tmp_path: Path) -> None:
    (target,) = LatentTargets(load_model("tiny"), tmp_path).targets([SHAPE])
    assert target.distance.mean < 0.3 / 128 and target.distance.p95 < 1 / 128  # in fine cubes
