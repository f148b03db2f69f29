"""The two streams: who sees whom, who trains whom, and what the flow refuses."""

import pytest
import torch
from torch import Tensor

from sam3d_objects.model import SAM3DObjects
from sam3d_objects.model.structure.flow import StructureFlow
from sam3d_objects.model.structure.latent import Latent, LearntPositionEmbedder, ShapePositionEmbedder
from tests.training.small_model import POSE, WIDTH, small_model

BATCH, TOKENS = 3, 5


@pytest.fixture
def model() -> SAM3DObjects:
    return small_model()


def inputs(model: SAM3DObjects, batch: int = BATCH, seed: int = 1) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:
    """Random x, t, condition, d."""
    generator = torch.Generator().manual_seed(seed)
    x = {name: torch.randn(shape, generator=generator) for name, shape in model.latent_shapes(batch).items()}
    t, d = 1000 * torch.rand(2, batch, generator=generator)
    return x, t, torch.randn(batch, TOKENS, WIDTH, generator=generator), d


def gradient_sizes(flow: StructureFlow, loss: Tensor) -> dict[str, float]:
    """The largest gradient of each parameter; 0 where it gets none."""
    flow.zero_grad()
    loss.backward()
    return {n: 0.0 if p.grad is None else float(p.grad.abs().max()) for n, p in flow.named_parameters()}


def test_pose_loss_trains_nothing_of_the_shape_stream(model: SAM3DObjects) -> None:
    flow = model.structure_flow
    out = flow(*inputs(model))
    sizes = gradient_sizes(flow, torch.stack([out[name].square().sum() for name in POSE]).sum())
    shape_only = [name for name in sizes if ".shape." in name]
    assert any("self_attn.to_qkv.shape" in name for name in shape_only)
    assert not any(sizes[name] for name in shape_only)
    assert sizes["blocks.0.self_attn.to_qkv.6drotation_normalized.weight"] > 0
    assert sizes["blocks.0.adaLN_modulation.1.weight"] > 0  # the modulation is shared


def test_shape_loss_trains_nothing_of_the_pose_stream(model: SAM3DObjects) -> None:
    flow = model.structure_flow
    sizes = gradient_sizes(flow, flow(*inputs(model))["shape"].square().sum())
    assert not any(size for name, size in sizes.items() if any(f".{pose}." in name for pose in POSE))
    assert all(sizes[f"blocks.{i}.self_attn.to_qkv.shape.weight"] > 0 for i in range(2))


@torch.no_grad()
def test_shape_does_not_see_pose_but_pose_sees_shape(model: SAM3DObjects) -> None:
    x, t, condition, d = inputs(model)
    other = inputs(model, seed=2)[0]
    before = model.structure_flow(x, t, condition, d)
    with_other_pose = model.structure_flow({**other, "shape": x["shape"]}, t, condition, d)
    with_other_shape = model.structure_flow({**x, "shape": other["shape"]}, t, condition, d)
    assert torch.equal(with_other_pose["shape"], before["shape"])
    assert all(not torch.allclose(with_other_shape[name], before[name], atol=1e-4) for name in POSE)


@torch.no_grad()
def test_a_condition_shared_by_several_rows(model: SAM3DObjects) -> None:
    x, t, condition, d = inputs(model, batch=6)
    shared = condition[:2]
    expected = model.structure_flow(x, t, shared.repeat_interleave(3, dim=0), d)
    folded = model.structure_flow(x, t, shared, d)
    for name, value in expected.items():
        torch.testing.assert_close(folded[name], value, rtol=1e-5, atol=1e-5)


def test_shape_only_training_needs_every_latent(model: SAM3DObjects) -> None:
    x, t, condition, d = inputs(model)
    with pytest.raises(ValueError, match=r"needs the latents \['6drotation_normalized', 'scale', 'shape'.*\['shape'\]"):
        model.structure_flow({"shape": x["shape"]}, t, condition, d)
    with pytest.raises(ValueError, match="colour"):
        model.structure_flow({**x, "colour": x["scale"]}, t, condition, d)


def latents() -> dict[str, Latent]:
    return {
        "shape": Latent(8, WIDTH, ShapePositionEmbedder(WIDTH, 2)),
        "scale": Latent(3, WIDTH, LearntPositionEmbedder(WIDTH, 1)),
    }


def test_latents_and_streams_must_fit() -> None:
    with pytest.raises(ValueError, match=r"missing: \['translation'\]"):
        StructureFlow(latents(), {"scale": ["scale", "translation"]}, WIDTH, WIDTH, num_blocks=1, num_heads=2)
    with pytest.raises(ValueError, match=r"missing: \['shape'\]"):
        StructureFlow({"scale": latents()["scale"]}, {"scale": ["scale"]}, WIDTH, WIDTH, num_blocks=1, num_heads=2)
    with pytest.raises(ValueError, match="pe_mode='ape', not 'rope'"):
        StructureFlow(latents(), {}, WIDTH, WIDTH, num_blocks=1, num_heads=2, pe_mode="rope")


def test_a_plain_flow_refuses_a_step_size() -> None:
    flow = StructureFlow(latents(), {}, WIDTH, WIDTH, num_blocks=1, num_heads=2)
    x = {"shape": torch.zeros(1, 8, 8), "scale": torch.zeros(1, 1, 3)}
    condition = torch.zeros(1, TOKENS, WIDTH)
    assert set(flow(x, torch.zeros(1), condition)) == {"shape", "scale"}
    assert flow.frozen_parameters() == []
    with pytest.raises(ValueError, match="no shortcut model"):
        flow(x, torch.zeros(1), condition, torch.zeros(1))


def test_attention_without_query_norm() -> None:
    flow = StructureFlow(latents(), {}, WIDTH, WIDTH, num_blocks=1, num_heads=2, qk_rms_norm=False)
    assert not any("rms_norm" in name for name in flow.state_dict())
