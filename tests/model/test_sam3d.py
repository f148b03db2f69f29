"""The model as a whole: a slice's inputs, the latents both ways, pose settings, seeded sampling."""

import numpy as np
import pytest
import torch

from sam3d_objects.mesh import SliceCamera, pointmap
from sam3d_objects.model import ConditionInputs, Pose, SAM3DObjects, StructureSettings
from sam3d_objects.model.preprocess import PointmapStatistics
from sam3d_objects.model.sam3d import PLANE_CUE_SHARE
from sam3d_objects.volume import oblique_plane
from tests.training.small_model import POSE, WIDTH, small_model

TOKENS = 4 * (1 + 4) + 2 * 4  # cls and patches of four images, windows of two pointmaps


@pytest.fixture
def model() -> SAM3DObjects:
    return small_model()


def with_settings(model: SAM3DObjects, **changes: object) -> SAM3DObjects:
    """The same networks under other settings."""
    kept = {name: getattr(model.settings, name) for name in StructureSettings.__dataclass_fields__}
    model.settings = StructureSettings(**(kept | changes))
    return model


def slice_of(
    model: SAM3DObjects, plane_name: str = "axial", pixel_mm: float = 2.0, scene_scale_mm: float = 0.0
) -> ConditionInputs:
    """A grey square in the middle of a slice of 20 x 30 pixels."""
    axes = {"axial": np.eye(3), "sagittal": np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])}[plane_name]
    plane = oblique_plane([10.0, -4.0, 3.0], axes, (20, 30), pixel_mm)
    camera = SliceCamera.from_plane(plane)
    mask = np.zeros((20, 30), dtype=bool)
    mask[8:12, 13:17] = True
    points = pointmap(plane, camera)
    return model.condition_inputs(np.where(mask, 0.8, 0.2), mask, points, camera.camera_axes[2], scene_scale_mm)


def test_inputs_of_a_slice(model: SAM3DObjects) -> None:
    prepared = slice_of(model)
    side = model.settings.image_size
    assert {name: tuple(value.shape) for name, value in prepared.tensors.items()} == {
        name: (1 if "mask" in name else 3, side, side) for name in model.condition_embedder.input_names
    }
    # The camera looks at the middle of the slice; lower medians of a centred grid lie half a pixel below it.
    torch.testing.assert_close(prepared.scene.shift, torch.tensor([-1.0, -1.0, 0.0]))
    assert prepared.scene.scale == pytest.approx(16.0, abs=2.0)
    assert prepared.tensors["pointmap"][2].abs().max() == 0, "a plane is flat in its own camera"
    assert model.embed({name: value[None] for name, value in prepared.tensors.items()}).shape == (1, TOKENS, WIDTH)


def test_a_scene_scale_lets_the_network_see_millimetres(model: SAM3DObjects) -> None:
    small, large = slice_of(model, pixel_mm=2.0), slice_of(model, pixel_mm=4.0)
    assert all(torch.equal(value, large.tensors[name]) for name, value in small.tensors.items())
    small, large = (slice_of(model, pixel_mm=mm, scene_scale_mm=8.0) for mm in (2.0, 4.0))
    assert small.scene.scale == large.scene.scale == 8.0
    for name, value in small.tensors.items():
        factor = 2 if "pointmap" in name else 1
        torch.testing.assert_close(factor * value, large.tensors[name])


def test_the_plane_cue_colours_the_image(model: SAM3DObjects) -> None:
    grey = slice_of(model, "sagittal").tensors["rgb_image"]
    assert torch.equal(grey[0], grey[1]) and torch.equal(grey[1], grey[2])
    coloured = slice_of(with_settings(model, plane_cue="colour"), "sagittal").tensors["rgb_image"]
    middle = coloured.shape[-1] // 2
    expected = (1 - PLANE_CUE_SHARE) * grey[:, middle, middle]
    expected[0] += PLANE_CUE_SHARE  # red is left-right
    torch.testing.assert_close(coloured[:, middle, middle], expected)


def test_a_mask_outside_the_scan(model: SAM3DObjects) -> None:
    mask = np.zeros((8, 8), dtype=bool)
    mask[2, 2] = True
    points = np.zeros((8, 8, 3), dtype=np.float32)
    points[2, 2] = np.nan
    with pytest.raises(ValueError, match="is the mask inside the scan"):
        model.condition_inputs(np.zeros((8, 8)), mask, points, np.array([0.0, 0, 1]))


@torch.no_grad()
def test_tokens_and_grids(model: SAM3DObjects) -> None:
    occupancy = (torch.rand(2, 1, 16, 16, 16) > 0.5).float()
    tokens = model.encode_structure(occupancy)
    assert tokens.shape == (2, 8, 64) == model.latent_shapes(2)["shape"]
    mean, _ = model.structure_encoder(occupancy)
    torch.testing.assert_close(model.decode_structure(tokens), model.structure_decoder(mean))


def test_pose_tokens_are_standardised(model: SAM3DObjects) -> None:
    mean, std = (
        {"scale": (1.45,) * 3, "translation": (0.0, 0.0, 0.5)},
        {"scale": (0.3,) * 3, "translation": (0.6, 0.6, 1.0)},
    )
    scene = PointmapStatistics(torch.tensor([1.0, 2.0, 0.0]), 12.0)
    pose = Pose(torch.eye(3), torch.tensor([8.0, -3.0, 5.0]), 44.0)
    plain = model.pose_tokens(pose, scene)
    tuned = with_settings(model, pose_mean=mean, pose_std=std)
    tokens = tuned.pose_tokens(pose, scene)
    torch.testing.assert_close(tokens["translation"][0, 2], plain["translation"][0, 2] - 0.5)
    torch.testing.assert_close(tokens["scale"], (plain["scale"] - 1.45) / 0.3)
    assert torch.equal(tokens["6drotation_normalized"], plain["6drotation_normalized"])
    back = tuned.pose_from_tokens(tokens, scene)
    assert back.size == pytest.approx(44.0, rel=1e-5)
    torch.testing.assert_close(back.translation.float(), pose.translation, rtol=0, atol=44e-5)


def test_sampling_is_seeded(model: SAM3DObjects) -> None:
    condition = torch.randn(2, TOKENS, WIDTH, generator=torch.Generator().manual_seed(0))

    def draw(seed: int) -> dict[str, torch.Tensor]:
        return model.sample_structure(condition, torch.Generator().manual_seed(seed), steps=3, samples=2)

    first, again, other = draw(1), draw(1), draw(2)
    assert {name: value.shape[0] for name, value in first.items()} == dict.fromkeys(("shape", *POSE), 4)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["shape"], other["shape"])
    assert not any(value.requires_grad for value in first.values())


@pytest.mark.parametrize("guidance", [0.0, 2.0])
def test_samples_of_one_condition_stand_side_by_side(model: SAM3DObjects, guidance: float) -> None:
    condition = torch.randn(2, TOKENS, WIDTH, generator=torch.Generator().manual_seed(0))
    folded = model.sample_structure(condition, torch.Generator().manual_seed(1), 3, guidance, samples=3)
    repeated = condition.repeat_interleave(3, dim=0)
    expected = model.sample_structure(repeated, torch.Generator().manual_seed(1), 3, guidance)
    for name, value in expected.items():
        torch.testing.assert_close(folded[name], value, rtol=1e-4, atol=1e-5)


def test_steps_and_guidance_come_from_the_settings(model: SAM3DObjects) -> None:
    tuned = with_settings(model, steps=2, rescale=1.0, guidance=0.0)
    condition = torch.zeros(1, TOKENS, WIDTH)
    left_out = tuned.sample_structure(condition, torch.Generator().manual_seed(1))
    given = tuned.sample_structure(condition, torch.Generator().manual_seed(1), 2, 0.0, 1.0)
    assert all(torch.equal(left_out[name], given[name]) for name in given)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        tuned.sample_structure(condition, steps=0)
