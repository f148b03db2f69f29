"""Targets: what is encoded, that it is encoded once, and the gate."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sam3d_objects.mesh import Mesh, occupancy_grid
from sam3d_objects.model import SAM3DObjects
from sam3d_objects.training.targets import (
    StructureTargets,
    check_targets,
    occupancy_iou,
)
from tests.training.small_model import small_model


def box(low: float, high: float) -> Mesh:
    """A closed cube in object coordinates, outward winding."""
    corners = np.array([[x, y, z] for x in (low, high) for y in (low, high) for z in (low, high)])
    faces = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]]
    faces += [[2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
    return Mesh(corners, np.array(faces))


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


def test_the_gate_names_what_is_under_the_bar() -> None:
    ious = [("a/egg/0", 0.9), ("b/egg/0", 0.4), ("c/egg/0", 0.2)]
    check_targets(ious, 0.0)
    check_targets(ious[:1], 0.9)
    with pytest.raises(ValueError, match=r"2 shapes .* under 0.50: c/egg/0 \(0.20\), b/egg/0 \(0.40\)"):
        check_targets(ious, 0.5)
