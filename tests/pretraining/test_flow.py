"""The flow's pretraining: batches that depend on their number alone, true poses, a seeded loss."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sam3d_objects.model import SAM3DObjects
from sam3d_objects.model.preprocess import PointmapStatistics
from sam3d_objects.pretraining.bank import ShapeBank
from sam3d_objects.pretraining.flow import FlowBatch, FlowBatches, StructureGenerator, flow_loss, pose_of
from sam3d_objects.pretraining.slices import render_slice
from sam3d_objects.pretraining.structure_half import encode_bank
from tests.training.small_model import small_model

BATCH, STEPS, SEED = 3, 4, 11


@pytest.fixture
def model() -> SAM3DObjects:
    return small_model()


def batches(model: SAM3DObjects, shapes: ShapeBank, seed: int = SEED) -> FlowBatches:
    return FlowBatches(model, shapes, BATCH, seed, STEPS)


def assert_same(one: FlowBatch, other: FlowBatch) -> None:
    assert torch.equal(one.shapes, other.shapes)
    for found, expected in ((one.inputs, other.inputs), (one.pose, other.pose)):
        assert all(torch.equal(found[name].nan_to_num(), expected[name].nan_to_num()) for name in expected)


def test_a_batch_depends_on_its_number_alone(model: SAM3DObjects, shapes: ShapeBank) -> None:
    one = batches(model, shapes)
    assert len(one) == STEPS
    last = one[3]
    assert_same(batches(model, shapes)[3], last)
    assert not torch.equal(one[2].inputs["image"], last.inputs["image"])
    assert not torch.equal(batches(model, shapes, SEED + 1)[3].inputs["image"], last.inputs["image"])


def test_a_batch_is_what_the_flow_takes(model: SAM3DObjects, shapes: ShapeBank) -> None:
    batch = batches(model, shapes)[0]
    expected = model.latent_shapes(BATCH)
    assert {name: tuple(value.shape) for name, value in batch.pose.items()} == {
        name: shape for name, shape in expected.items() if name != "shape"
    }
    assert batch.inputs["pointmap"].shape == (BATCH, 3, 28, 28)
    assert batch.shapes.max() < len(shapes)


def test_pose_of_a_slice_leads_back_to_the_patient(model: SAM3DObjects, shapes: ShapeBank) -> None:
    scene = PointmapStatistics(torch.tensor([1.0, 2.0, 0.0]), 20.0)
    for seed in range(6):
        one = render_slice(shapes, seed % len(shapes), np.random.default_rng(seed))
        pose = model.pose_from_tokens(model.pose_tokens(pose_of(one), scene), scene)
        size = one.frame.size_mm
        assert pose.size == pytest.approx(size, rel=1e-5)
        np.testing.assert_allclose(
            one.camera.to_patient(pose.translation.numpy()), one.frame.center_mm, atol=1e-5 * size
        )
        # Row vectors: an object point, turned and moved, is where the camera sees the patient's point.
        point = np.array([0.3, -0.2, 0.45])
        seen = size * point @ pose.rotation.numpy() + pose.translation.numpy()
        np.testing.assert_allclose(seen, one.camera.to_camera(one.frame.to_patient(point)), atol=1e-4 * size)


def test_the_loss_is_seeded_and_reaches_all(model: SAM3DObjects, shapes: ShapeBank) -> None:
    latents, batch = encode_bank(model, shapes), batches(model, shapes)[0]
    assert (latents.shape, latents.dtype) == ((len(shapes), 8, 64), torch.float16)

    def loss(seed: int) -> torch.Tensor:
        return flow_loss(model, latents, batch, 2, torch.Generator().manual_seed(seed))[0]

    assert torch.equal(loss(0), loss(0)) and not torch.equal(loss(0), loss(1))
    _, figures = flow_loss(model, latents, batch, 2, torch.Generator().manual_seed(0))
    assert figures["loss"] == pytest.approx(sum(figures[name] for name in ("shape", "rot", "place", "size")), rel=1e-5)
    trained = StructureGenerator(model)
    trained.requires_grad_(True)
    for seed in range(3):
        loss(seed).backward()
    unused = {"mask_token", "register_tokens", "d_embedder", "translation_scale.out_layer"}
    for name, parameter in trained.named_parameters():
        if not any(part in name for part in unused):
            assert parameter.grad is not None and parameter.grad.any(), name


def test_targets_are_the_drawn_shapes(model: SAM3DObjects, shapes: ShapeBank, tmp_path: Path) -> None:
    batch = batches(model, shapes)[0]
    latents = torch.zeros(len(shapes), 8, 64)
    zero = flow_loss(model, latents, batch, 1, torch.Generator().manual_seed(0))[1]["shape"]
    latents[[i for i in range(len(shapes)) if i not in batch.shapes]] = 100.0
    assert flow_loss(model, latents, batch, 1, torch.Generator().manual_seed(0))[1]["shape"] == zero
    latents[batch.shapes[0]] = 100.0
    assert flow_loss(model, latents, batch, 1, torch.Generator().manual_seed(0))[1]["shape"] > zero
