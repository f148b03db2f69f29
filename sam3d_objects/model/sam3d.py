"""The model as the rest of the package sees it: the structure half, and the latent stage that follows it.

Letters: B batch, R occupancy side, S image side, T condition tokens, C condition channels.
"""

from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from sam3d_objects.arrays import BoolArray, FloatArray
from sam3d_objects.model import preprocess, sampler
from sam3d_objects.model.condition.fuser import EmbedderFuser
from sam3d_objects.model.latent.stage import LatentStage
from sam3d_objects.model.offload import on_device
from sam3d_objects.model.pose import Pose, pose_from_tokens, pose_tokens
from sam3d_objects.model.preprocess import PointmapStatistics
from sam3d_objects.model.sampler import Latents
from sam3d_objects.model.structure.flow import SHAPE, StructureFlow
from sam3d_objects.model.structure.patches import patchify, unpatchify
from sam3d_objects.model.structure.settings import StructureSettings
from sam3d_objects.model.structure.vae import StructureDecoder, StructureEncoder

PLANE_CUE_SHARE = 0.3


class ConditionInputs(NamedTuple):
    """One slice, prepared: the embedder's inputs, each (c, S, S), and the pointmap's statistics in mm."""

    tensors: dict[str, Tensor]
    scene: PointmapStatistics


class SAM3DObjects(nn.Module):
    """SAM 3D Objects: image, mask and pointmap -> where the surface is (structure) -> how it runs (`latent`).

    Args:
        condition_embedder, structure_flow, structure_encoder, structure_decoder: the networks of the structure half.
        settings: what the numbers mean.
        name: where the weights came from ('tiny' or a folder).
        fingerprint: SHA-256 of the structure half's weights; an adapter of this half remembers it.
        latent: the second half; None where it was not loaded.

    With `offload_device` set, the weights rest where they are and each module is on that device only while it runs.
    """

    def __init__(
        self,
        condition_embedder: EmbedderFuser,
        structure_flow: StructureFlow,
        structure_encoder: StructureEncoder,
        structure_decoder: StructureDecoder,
        settings: StructureSettings,
        name: str,
        fingerprint: str = "",
        latent: LatentStage | None = None,
    ) -> None:
        super().__init__()
        self.condition_embedder = condition_embedder
        self.structure_flow = structure_flow
        self.structure_encoder = structure_encoder
        self.structure_decoder = structure_decoder
        self.latent = latent
        self.settings, self.name, self.fingerprint = settings, name, fingerprint
        self._offload_device: torch.device | None = None

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path = "tiny",
        device: str = "cpu",
        dtype: torch.dtype | str = torch.float32,
        offload: bool = False,
        stages: Collection[str] = ("structure", "latent"),
    ) -> "SAM3DObjects":
        """Load 'tiny' or a folder with the released files; see `model.weights.load_model`, which does it."""
        from sam3d_objects.model.weights import load_model

        return load_model(folder, device, dtype, stages, offload)

    @property
    def offload_device(self) -> torch.device | None:
        """Where each module runs while its weights rest elsewhere; None: where its weights are."""
        return self._offload_device

    @offload_device.setter
    def offload_device(self, device: torch.device | None) -> None:
        self._offload_device = device
        if self.latent is not None:
            self.latent.offload_device = device

    @property
    def device(self) -> torch.device:
        """Where the networks run, and so where their inputs belong."""
        return self.offload_device or next(self.structure_flow.parameters()).device

    @property
    def latent_stage(self) -> LatentStage:
        """The second half.

        Raises:
            ValueError: it was not loaded.
        """
        if self.latent is None:
            raise ValueError(
                f"base model {self.name!r}: its latent stage is not loaded, so it makes no detailed surface; load it "
                "with stages=('structure', 'latent') from a folder that has the slat_* files, or ask for the "
                "structure stage alone"
            )
        return self.latent

    def condition_inputs(
        self,
        image01: FloatArray,
        mask: BoolArray,
        pointmap: FloatArray,
        plane_normal: FloatArray,
        scene_scale_mm: float = 0.0,
    ) -> ConditionInputs:
        """Prepare one slice for the condition embedder.

        Args:
            image01: (Y, X) in [0, 1]; mask: (Y, X); pointmap: (Y, X, 3) in the slice camera, mm, NaN outside the scan.
            plane_normal: (3,) the slice's through-plane direction in patient axes, for the plane cue.
            scene_scale_mm: what is 1 in the prepared pointmap and in the pose; 0: the slice's own median extent.
        """
        grey = torch.from_numpy(np.ascontiguousarray(image01, dtype=np.float32))
        image = grey.expand(3, -1, -1)
        if self.settings.plane_cue == "colour":
            colour = torch.from_numpy(np.abs(plane_normal).astype(np.float32))
            image = (1 - PLANE_CUE_SHARE) * image + PLANE_CUE_SHARE * colour[:, None, None]
        mask_tensor = torch.from_numpy(np.ascontiguousarray(mask)).float()[None]
        points = torch.from_numpy(np.ascontiguousarray(pointmap, dtype=np.float32)).permute(2, 0, 1)
        size = self.settings.image_size
        tensors, scene = preprocess.condition_inputs(image, mask_tensor, points, size, scene_scale_mm)
        assert scene is not None
        return ConditionInputs(tensors, scene)

    def embed(self, inputs: dict[str, Tensor], drop_pointmap: bool = False) -> Tensor:
        """Embed a batch of inputs, each (B, c, S, S), as condition tokens (B, T, C)."""
        dropped = frozenset({"pointmap", "rgb_pointmap"}) if drop_pointmap else None
        with on_device(self.condition_embedder, self.offload_device):
            return self.condition_embedder(inputs, force_drop=dropped)

    def encode_structure(self, occupancy: Tensor) -> Tensor:
        """Encode occupancy (B, 1, R, R, R) in [0, 1] as shape tokens: the posterior's mean, not normalised."""
        with on_device(self.structure_encoder, self.offload_device):
            mean, _ = self.structure_encoder(occupancy)
        return patchify(mean.float(), self.settings.patch)

    def decode_structure(self, tokens: Tensor) -> Tensor:
        """Decode shape tokens to occupancy logits (B, 1, R, R, R)."""
        with on_device(self.structure_decoder, self.offload_device):
            return self.structure_decoder(unpatchify(tokens, self.settings.patch)).float()

    def pose_tokens(self, pose: Pose, scene: PointmapStatistics) -> Latents:
        """Encode a pose (mm, slice camera) as latents (1, c)."""
        tokens = pose_tokens(pose, scene)
        for name, mean in self.settings.pose_mean.items():
            tokens[name] = (tokens[name] - torch.tensor(mean)) / torch.tensor(self.settings.pose_std[name])
        return tokens

    def pose_from_tokens(self, latents: Latents, scene: PointmapStatistics) -> Pose:
        """Decode one sample's pose latents (1, c) to a pose in the slice camera, mm."""
        plain = dict(latents)
        for name, mean in self.settings.pose_mean.items():
            std = torch.tensor(self.settings.pose_std[name], dtype=plain[name].dtype)
            plain[name] = plain[name] * std + torch.tensor(mean, dtype=plain[name].dtype)
        return pose_from_tokens(plain, scene)

    def latent_shapes(self, batch: int) -> dict[str, tuple[int, ...]]:
        """Shapes of a batch of the flow's latents."""
        widths = self.structure_flow.latent_widths
        tokens = {name: self.settings.token_count if name == SHAPE else 1 for name in widths}
        return {name: (batch, tokens[name], width) for name, width in widths.items()}

    @torch.no_grad()
    def sample_structure(
        self,
        condition: Tensor,
        generator: torch.Generator | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        rescale: float | None = None,
        samples: int = 1,
        distilled: bool = False,
    ) -> Latents:
        """Draw latents for condition tokens (B, T, C), `samples` of each, side by side: (B * samples, T, c).

        The settings' sampling constants are taken where none are given.

        Args:
            distilled: large steps as a shortcut model was trained to take them: d = 1 / steps, and no guidance.

        Raises:
            ValueError: `distilled`, and the model is no shortcut model.
        """
        settings, shortcut = self.settings, self.structure_flow.d_embedder is not None
        if distilled and not shortcut:
            raise ValueError(f"model {self.name!r} is no shortcut model; sample it without the distilled mode")
        steps = settings.steps if steps is None else steps
        if guidance is None:
            guidance = 0.0 if distilled else settings.guidance
        noise = sampler.draw_noise(self.latent_shapes(condition.shape[0] * samples), generator)
        with on_device(self.structure_flow, self.offload_device):
            return sampler.integrate(
                self.structure_flow,
                # In float32, whatever the network's dtype: small steps are lost in half precision.
                {name: value.to(condition.device) for name, value in noise.items()},
                condition,
                steps,
                settings.rescale if rescale is None else rescale,
                guidance,
                d=(1 / max(steps, 1) if distilled else 0.0) if shortcut else None,
            )
