"""Pretrain the structure flow on slices of procedural shapes.

Letters: B conditions a step, D draws of time and noise for each condition.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sam3d_objects.model.flow_matching import flow_matching_loss, logit_normal_times, noise_like
from sam3d_objects.model.pose import Pose
from sam3d_objects.model.sam3d import SAM3DObjects
from sam3d_objects.model.sampler import Latents
from sam3d_objects.pretraining.bank import ShapeBank
from sam3d_objects.pretraining.slices import RenderedSlice, render_slice

# Short schedules visit late times, which the release's logit-normal(-1, 1) hardly draws.
TIME_MEAN, TIME_STD = 0.0, 1.2
CONDITION_DROPOUT = 0.1
POINTMAP_DROPOUT = 0.1


class StructureGenerator(nn.Module):
    """What the flow's pretraining makes: the flow is trained, the embedder beside it drawn and kept."""

    def __init__(self, model: SAM3DObjects) -> None:
        super().__init__()
        self.condition_embedder, self.structure_flow = model.condition_embedder, model.structure_flow


def pose_of(rendered: RenderedSlice) -> Pose:
    """The object's pose in the slice's camera (row-vector rotation, mm)."""
    center = rendered.camera.to_camera(rendered.frame.center_mm[None])[0]
    rotation = rendered.camera.object_rotation().T
    return Pose(torch.from_numpy(rotation.copy()), torch.from_numpy(center), rendered.frame.size_mm)


@dataclass(frozen=True)
class FlowBatch:
    """B prepared conditions: the embedder's inputs (B, c, S, S), pose latents (B, 1, c), shape indices (B,)."""

    inputs: dict[str, Tensor]
    pose: Latents
    shapes: Tensor


class FlowBatches(torch.utils.data.Dataset[FlowBatch]):
    """Batch i depends on (seed, i) alone."""

    def __init__(self, model: SAM3DObjects, bank: ShapeBank, batch: int, seed: int, steps: int) -> None:
        self.model, self.bank, self.batch, self.seed, self.steps = model, bank, batch, seed, steps

    def __len__(self) -> int:
        return self.steps

    def loader(self, first: int, workers: int) -> Iterator[FlowBatch]:
        """Iterate over the batches from `first` on, made by other processes where there are workers."""
        left = torch.utils.data.Subset(self, range(first, self.steps))
        prefetch = 2 if workers else None
        return iter(torch.utils.data.DataLoader(left, batch_size=None, num_workers=workers, prefetch_factor=prefetch))

    def __getitem__(self, step: int) -> FlowBatch:
        generator = np.random.default_rng([self.seed, step])
        chosen = generator.integers(len(self.bank), size=self.batch)
        inputs, poses = [], []
        for index in chosen:
            rendered = render_slice(self.bank, int(index), generator)
            normal = rendered.camera.camera_axes[2]
            prepared = self.model.condition_inputs(rendered.image01, rendered.slice.mask, rendered.pointmap, normal)
            inputs.append(prepared.tensors)
            poses.append(self.model.pose_tokens(pose_of(rendered), prepared.scene))
        stacked = {name: torch.stack([one[name] for one in inputs]) for name in inputs[0]}
        pose = {name: torch.stack([one[name] for one in poses]) for name in poses[0]}
        return FlowBatch(stacked, pose, torch.from_numpy(chosen))


def flow_loss(
    model: SAM3DObjects, latents: Tensor, batch: FlowBatch, draws: int, generator: torch.Generator
) -> tuple[Tensor, dict[str, float]]:
    """Flow matching on `draws` times and noises for each condition; `latents` (N, T, c) are the shapes' targets."""
    size = len(batch.shapes)
    # Drawn first and always in the same number, so that a step's randomness depends on its seed alone.
    keep_condition = torch.rand(size, generator=generator) >= CONDITION_DROPOUT
    drop_points = (torch.rand(size, generator=generator) < POINTMAP_DROPOUT).tolist()
    points = frozenset({"pointmap", "rgb_pointmap"})
    tokens = model.condition_embedder(batch.inputs, dropped=[points if d else frozenset() for d in drop_points])
    tokens = tokens * keep_condition[:, None, None]
    data = {**batch.pose, "shape": latents[batch.shapes].float()}
    data = {name: value.repeat_interleave(draws, dim=0) for name, value in data.items()}
    t = logit_normal_times(size * draws, TIME_MEAN, TIME_STD, generator)
    noise = noise_like(data, generator)
    loss, parts = flow_matching_loss(model.structure_flow, data, tokens, t, noise)
    short = {"shape": "shape", "6drotation_normalized": "rot", "translation": "place", "scale": "size"}
    return loss, {"loss": loss.item()} | {short[name]: value.item() for name, value in parts.items() if name in short}
