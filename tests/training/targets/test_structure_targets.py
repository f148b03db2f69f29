"""Structure targets: what is encoded, that it is encoded once, and how much comes back."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sam3d_objects.mesh import occupancy_grid
from sam3d_objects.model import SAM3DObjects, load_model
from sam3d_objects.training.targets import StructureTargets, distance_between, occupancy_iou, structure_surface
from tests.training.small_model import small_model
from tests.training.targets.solids import box, ellipsoid


def test_overlap_by_hand() -> None:
    occupancy = torch.tensor([1.0, 0.6, 0.5, 0.0])  # a half is not more than a half
    assert occupancy_iou(torch.tensor([2.0, -1.0, 3.0, -1.0]), occupancy) == pytest.approx(1 / 3)
    assert occupancy_iou(torch.tensor([2.0, 1.0, -3.0, -1.0]), occupancy) == 1.0
    assert occupancy_iou(-torch.ones(3), torch.zeros(3)) == 1.0


@pytest.mark.parametrize("occupancy", ["solid", "surface"])
def test_a_target_is_the_posterior_mean_and_is_made_once(
    tmp_path: Path, occupancy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model("solid" if occupancy == "solid" else "surface")
    shape = box(-0.5, 0.5)
    (made,) = StructureTargets(model, tmp_path).targets([shape])
    grid = torch.from_numpy(occupancy_grid(shape, 16, occupancy))[None, None]
    with torch.no_grad():
        torch.testing.assert_close(made.tokens, model.encode_structure(grid)[0])
    assert made.tokens.shape == (8, 64) and 0 <= made.iou <= 1

    kept = StructureTargets(model, tmp_path)
    monkeypatch.setattr(kept, "_make", lambda meshes: pytest.fail("made again") if meshes else [])
    (again,) = kept.targets([shape])
    assert torch.equal(again.tokens, made.tokens) and again.iou == made.iou


def test_a_target_does_not_depend_on_what_is_made_beside_it(tmp_path: Path, model: SAM3DObjects) -> None:
    shapes = [box(-0.5, 0.05 * i) for i in range(11)]
    together = list(StructureTargets(model, tmp_path / "a").targets(shapes))
    alone = [next(StructureTargets(model, tmp_path / "b").targets([shape])) for shape in reversed(shapes)]
    for one, other in zip(together, reversed(alone), strict=True):
        assert torch.equal(one.tokens, other.tokens) and one.iou == other.iou


def test_another_shape_or_encoder_has_another_key(tmp_path: Path, model: SAM3DObjects) -> None:
    shape = box(-0.5, 0.5)
    keys = {StructureTargets(model, tmp_path).key(mesh) for mesh in (shape, box(-0.5, 0.49))}
    keys.add(StructureTargets(small_model("surface"), tmp_path).key(shape))
    keys.add(StructureTargets(small_model(seed=1), tmp_path).key(shape))
    assert len(keys) == 4
    assert StructureTargets(small_model(), tmp_path).key(box(-0.5, 0.5)) in keys


def test_a_damaged_file_is_made_again(tmp_path: Path, model: SAM3DObjects) -> None:
    targets, shape = StructureTargets(model, tmp_path), box(-0.5, 0.5)
    (made,) = targets.targets([shape])
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:50])
    assert torch.equal(next(targets.targets([shape])).tokens, made.tokens)
    assert path.stat().st_size > 50


def test_a_target_says_how_far_the_decoded_surface_is(tmp_path: Path) -> None:
    model, shape = load_model("tiny", stages=("structure",)), ellipsoid(0.5, 0.3, 0.25)
    (made,) = StructureTargets(model, tmp_path).targets([shape])
    with torch.no_grad():
        shares = torch.sigmoid(model.decode_structure(made.tokens[None]))[0, 0].double().numpy()
    alone = distance_between(shape, structure_surface(shares, "solid"))
    assert (made.distance.mean, made.distance.p95) == pytest.approx((alone.mean, alone.p95), rel=1e-3)
    assert made.iou > 0.9 and made.distance.mean < 0.2 / 32  # a fifth of a voxel
    (again,) = StructureTargets(model, tmp_path).targets([shape])
    assert again.distance == made.distance


def test_the_exact_grid_has_its_surface_where_the_shape_is() -> None:
    shape = ellipsoid(0.5, 0.3, 0.25)
    solid = structure_surface(occupancy_grid(shape, 32, "solid").astype(np.float64), "solid")
    shell = structure_surface(occupancy_grid(shape, 32, "surface").astype(np.float64), "surface")
    assert distance_between(shape, solid).mean < 0.1 / 32 and distance_between(shape, shell).mean < 0.3 / 32
    assert structure_surface(np.zeros((4, 4, 4)), "solid").is_empty
