"""Pose tokens: both ways, the release's values, and what sagittal and oblique planes look like in them."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from sam3d_objects.mesh import SliceCamera
from sam3d_objects.model.pose import (
    ROTATION_6D_MEAN,
    ROTATION_6D_STD,
    Pose,
    normalise_6d,
    pose_from_tokens,
    pose_tokens,
    rotation_from_6d,
    rotation_to_6d,
    rotation_to_quaternion,
)
from sam3d_objects.model.preprocess import PointmapStatistics
from sam3d_objects.volume import PLANES, Volume, voxel_plane
from tests.model.golden import Golden, assert_parity, load_golden, under

LATENTS = ("6drotation_normalized", "translation", "scale", "translation_scale")


@pytest.fixture(scope="module")
def golden(shared_reference: Path) -> Golden:
    return load_golden(shared_reference, "pose_and_coords")


def golden_scene(golden: Golden) -> PointmapStatistics:
    return PointmapStatistics(golden.inputs["pose.scene_shift"][0], float(golden.inputs["pose.scene_scale"][0, 0]))


def plane_rotation(name: str, degrees: float, axis: int) -> Tensor:
    """Row-vector rotation object -> camera of a plane, on a scan turned about a patient axis."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_rotvec(np.radians(degrees) * np.eye(3)[axis]).as_matrix()
    plane = voxel_plane(Volume(np.zeros((4, 5, 6), np.float32), turn), name, 1)
    return torch.from_numpy(SliceCamera.from_plane(plane).object_rotation().T.copy())


def test_decoding(golden: Golden) -> None:
    latents = {name: golden.inputs[f"pose.{name}"][0] for name in LATENTS}
    pose = pose_from_tokens(latents, golden_scene(golden))
    assert_parity(torch.full((1, 3), pose.size), golden.outputs["pose.scale"], "size")
    assert_parity(pose.translation[None], golden.outputs["pose.translation"], "translation")
    assert_parity(rotation_to_quaternion(pose.rotation)[None], golden.outputs["pose.rotation"], "rotation")


def test_encoding(golden: Golden) -> None:
    given = {name: value[0, 0] for name, value in under(golden.inputs, "inst.").items()}
    target = {name: value[0] for name, value in under(golden.outputs, "target.").items()}
    back = {name: value[0, 0] for name, value in under(golden.outputs, "target_back.").items()}
    rotation = torch.from_numpy(Rotation.from_quat(given["quaternion"].numpy(), scalar_first=True).as_matrix())
    scene = golden_scene(golden)
    tokens = pose_tokens(Pose(rotation, given["position"], float(given["scale"][0])), scene)
    assert_parity(tokens["translation"], target["x_instance_translation"], "translation")
    assert_parity(tokens["scale"].exp(), target["x_instance_scale"], "scale")
    assert_parity(tokens["translation_scale"].exp(), target["x_translation_scale"], "translation_scale")
    pose = pose_from_tokens(tokens, scene)
    assert_parity(rotation_to_quaternion(pose.rotation)[None], target["x_instance_rotation"], "rotation")
    assert_parity(rotation_to_quaternion(pose.rotation), back["quaternion"], "rotation back")
    assert_parity(pose.translation, back["position"], "position back")
    assert_parity(torch.full((3,), pose.size), back["scale"], "size back")


def test_constants(golden: Golden) -> None:
    torch.testing.assert_close(torch.tensor(ROTATION_6D_MEAN), torch.tensor(golden.meta["rot6d_mean"]))
    torch.testing.assert_close(torch.tensor(ROTATION_6D_STD), torch.tensor(golden.meta["rot6d_std"]))


@pytest.mark.parametrize("degrees", [0.0, 12.0, -25.0, 40.0])
@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("name", PLANES)
def test_normalised_rotation_of_planes_lies_near_the_release(name: str, axis: int, degrees: float) -> None:
    # An untilted axial plane has (-1 - mean) / std = -2.504 in its fifth number.
    assert normalise_6d(rotation_to_6d(plane_rotation(name, degrees, axis))).abs().max() < 2.51


def test_a_transposed_sagittal_rotation_would_stand_out() -> None:
    rotation = plane_rotation("sagittal", 0.0, 0)
    assert normalise_6d(rotation_to_6d(rotation)).abs().max() < 1.5
    assert normalise_6d(rotation_to_6d(rotation.T)).abs().max() > 3.2


def test_sagittal_rotation_by_hand() -> None:
    # Object axes are LPS and the sagittal camera is (A, S, R) = (-P, S, -L).
    rotation = plane_rotation("sagittal", 0.0, 0)
    posterior, superior = torch.tensor([0.0, 1, 0]).double(), torch.tensor([0.0, 0, 1]).double()
    torch.testing.assert_close(posterior @ rotation, torch.tensor([-1.0, 0, 0]).double())
    torch.testing.assert_close(superior @ rotation, torch.tensor([0.0, 1, 0]).double())
    torch.testing.assert_close(rotation_to_6d(rotation), torch.tensor([0.0, -1, 0, 0, 0, 1]).double())


@pytest.mark.parametrize("seed", range(5))
def test_there_and_back(seed: int) -> None:
    generator = np.random.default_rng(seed)
    size = float(np.exp(generator.uniform(np.log(15), np.log(300))))
    rotation = torch.from_numpy(Rotation.random(rng=generator).as_matrix())
    translation = torch.from_numpy(generator.normal(0, size, 3))
    scene = PointmapStatistics(torch.from_numpy(generator.normal(0, size / 4, 3)), size * generator.uniform(0.1, 1))
    pose = pose_from_tokens(pose_tokens(Pose(rotation, translation, size), scene), scene)
    assert pose.size == pytest.approx(size, rel=1e-5)
    assert float((pose.translation - translation).abs().max()) < 1e-5 * size
    torch.testing.assert_close(pose.rotation, rotation, rtol=0, atol=1e-5)


def test_tokens_by_hand() -> None:
    scene = PointmapStatistics(torch.tensor([1.0, -2.0, 0.0]), 20.0)
    tokens = pose_tokens(Pose(torch.eye(3), torch.tensor([21.0, -12.0, 5.0]), 20 * math.e), scene)
    torch.testing.assert_close(tokens["translation"], torch.tensor([[1.0, -0.5, 0.25]]))
    torch.testing.assert_close(tokens["scale"], torch.ones(1, 3))
    assert tokens["translation_scale"].tolist() == [[0.0]]
    expected = [(v - m) / s for v, m, s in zip((1, 0, 0, 0, 1, 0), ROTATION_6D_MEAN, ROTATION_6D_STD, strict=True)]
    torch.testing.assert_close(tokens["6drotation_normalized"], torch.tensor([expected]))
    assert {value.dtype for value in tokens.values()} == {torch.float32}


def test_size_is_the_mean_of_three_sizes() -> None:
    tokens = pose_tokens(Pose(torch.eye(3), torch.zeros(3), 1.0), PointmapStatistics(torch.zeros(3), 1.0))
    tokens["scale"] = torch.tensor([[1.0, 2.0, 6.0]]).log()
    assert pose_from_tokens(tokens, PointmapStatistics(torch.zeros(3), 10.0)).size == pytest.approx(30.0)


@pytest.mark.parametrize("size", [0.0, -3.0, math.nan])
def test_a_size_that_cannot_be(size: float) -> None:
    with pytest.raises(ValueError, match="size must be positive"):
        pose_tokens(Pose(torch.eye(3), torch.zeros(3), size), PointmapStatistics(torch.zeros(3), 1.0))


def test_gram_schmidt_gives_a_rotation() -> None:
    rotation = rotation_from_6d(torch.randn(50, 6, generator=torch.Generator().manual_seed(0)).double())
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).double().expand(50, 3, 3))
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(50).double())
    torch.testing.assert_close(rotation_from_6d(rotation_to_6d(rotation)), rotation)


@pytest.mark.parametrize("degrees", [0.0, 90.0, 179.9, 180.0])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_quaternion_of_half_turns(degrees: float, axis: int) -> None:
    turn = Rotation.from_rotvec(np.radians(degrees) * np.eye(3)[axis])
    found = rotation_to_quaternion(torch.from_numpy(turn.as_matrix())).numpy()
    assert found[0] >= 0
    assert abs(found @ turn.as_quat(scalar_first=True)) == pytest.approx(1.0, abs=1e-9)
