"""The two-stream structure flow of SAM 3D Objects.

Letters: B batch, T tokens of a stream, C channels, H heads, D head width, S condition tokens.
A stream is a set of tokens with its own weights: `shape`, and one that holds the pose tokens. Shape attends to itself
only; pose attends to pose and shape, whose keys and values it may read but not train (they are detached).
"""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from sam3d_objects.model.attention import CrossAttention, FeedForward, MultiHeadRMSNorm, attend
from sam3d_objects.model.embeddings import TimestepEmbedder
from sam3d_objects.model.structure.latent import Latent

SHAPE = "shape"


class StreamSelfAttention(nn.Module):
    """Self-attention with one set of projections per stream."""

    def __init__(self, streams: Sequence[str], channels: int, heads: int, qk_rms_norm: bool) -> None:
        super().__init__()
        self.streams, self.heads = tuple(streams), heads
        width = channels // heads
        self.to_qkv = nn.ModuleDict({name: nn.Linear(channels, 3 * channels) for name in streams})
        self.to_out = nn.ModuleDict({name: nn.Linear(channels, channels) for name in streams})
        norm = (lambda: MultiHeadRMSNorm(heads, width)) if qk_rms_norm else nn.Identity
        self.q_rms_norm = nn.ModuleDict({name: norm() for name in streams})
        self.k_rms_norm = nn.ModuleDict({name: norm() for name in streams})

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        """Map each stream (B, T, C) to (B, T, C)."""
        q, k, v = {}, {}, {}
        for name in self.streams:
            heads = self.to_qkv[name](x[name]).unflatten(-1, (3, self.heads, -1))  # (B, T, 3, H, D)
            q[name], k[name] = self.q_rms_norm[name](heads[:, :, 0]), self.k_rms_norm[name](heads[:, :, 1])
            v[name] = heads[:, :, 2]
        out = {}
        for name in self.streams:
            if name == SHAPE:
                seen_k, seen_v = k[name], v[name]
            else:
                seen_k = torch.cat([k[name], k[SHAPE].detach()], dim=1)
                seen_v = torch.cat([v[name], v[SHAPE].detach()], dim=1)
            out[name] = self.to_out[name](attend(q[name], seen_k, seen_v))
        return out


class StreamBlock(nn.Module):
    """Modulated self-attention, cross-attention and MLP; the modulation is shared by the streams."""

    def __init__(
        self,
        streams: Sequence[str],
        channels: int,
        condition_channels: int,
        heads: int,
        mlp_ratio: float,
        qk_rms_norm: bool,
    ) -> None:
        super().__init__()
        self.streams = tuple(streams)
        self.norm2 = nn.ModuleDict({name: nn.LayerNorm(channels, eps=1e-6) for name in streams})
        self.self_attn = StreamSelfAttention(streams, channels, heads, qk_rms_norm)
        self.cross_attn = nn.ModuleDict({name: CrossAttention(channels, condition_channels, heads) for name in streams})
        self.mlp = nn.ModuleDict({name: FeedForward(channels, mlp_ratio) for name in streams})
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(channels, 6 * channels))

    def forward(self, x: dict[str, Tensor], time: Tensor, condition: Tensor) -> dict[str, Tensor]:
        """Map each stream (B, T, C) to (B, T, C), given the time embedding (B, C) and condition (B, S, Cc)."""
        modulation = self.adaLN_modulation(time)[:, None].chunk(6, dim=-1)
        shift_a, scale_a, gate_a, shift_m, scale_m, gate_m = modulation
        attended = self.self_attn({name: _modulate(x[name], shift_a, scale_a) for name in self.streams})
        out = {}
        for name in self.streams:
            h = x[name] + gate_a * attended[name]
            h = h + self.cross_attn[name](self.norm2[name](h), condition)
            out[name] = h + gate_m * self.mlp[name](_modulate(h, shift_m, scale_m))
        return out


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return nn.functional.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class StructureFlow(nn.Module):
    """The velocity network of the structure stage.

    Args:
        latent_mapping: for each latent how it enters and leaves.
        latent_share_transformer: stream name -> the latents that are concatenated, in this order, in that stream;
            every other latent is a stream of its own.
        is_shortcut_model: adds an embedding of the step size d to the time embedding (Frans et al. 2024).
        freeze_d_time_embedder, freeze_shared_parameters: which parameters the release froze while it trained the
            pose stream; recorded here, applied by `frozen_parameters`.

    The remaining arguments (`in_channels`, `out_channels`, `pe_mode`, `patch_size`, `resolution`, `use_fp16`, ...) are
    part of the released configs and are checked or ignored as noted.
    """

    def __init__(
        self,
        latent_mapping: Mapping[str, Latent],
        latent_share_transformer: Mapping[str, Sequence[str]],
        model_channels: int,
        cond_channels: int,
        num_blocks: int,
        num_heads: int,
        in_channels: int = 8,
        out_channels: int = 8,
        mlp_ratio: float = 4,
        patch_size: int = 1,
        resolution: int = 16,
        pe_mode: str = "ape",
        qk_rms_norm: bool = True,
        is_shortcut_model: bool = False,
        freeze_shared_parameters: bool = False,
        freeze_d_time_embedder: bool = False,
        force_zeros_cond: bool = True,
        condition_embedder: None = None,
        use_fp16: bool = False,
        use_checkpoint: bool = False,
    ) -> None:
        super().__init__()
        for given, needed, name in (
            (pe_mode, "ape", "pe_mode"),
            (force_zeros_cond, True, "force_zeros_cond"),
        ):
            if given != needed:
                raise ValueError(f"StructureFlow knows {name}={needed!r}, not {given!r}")
        shared = {name for members in latent_share_transformer.values() for name in members}
        missing = (shared | {SHAPE}) - set(latent_mapping)
        if missing:
            raise ValueError(f"latent_mapping has {sorted(latent_mapping)}; missing: {sorted(missing)}")
        self.latent_names = tuple(sorted(latent_mapping))
        # Kept apart from the layers, which an adapter may replace.
        self.latent_widths = {name: latent_mapping[name].input_layer.in_features for name in self.latent_names}
        self.members: dict[str, tuple[str, ...]] = {name: (name,) for name in latent_mapping if name not in shared}
        self.members |= {name: tuple(members) for name, members in latent_share_transformer.items()}
        self.freeze_shared_parameters = freeze_shared_parameters
        self.t_embedder = TimestepEmbedder(model_channels)
        self.d_embedder = TimestepEmbedder(model_channels) if is_shortcut_model else None
        self.blocks = nn.ModuleList(
            StreamBlock(tuple(self.members), model_channels, cond_channels, num_heads, mlp_ratio, qk_rms_norm)
            for _ in range(num_blocks)
        )
        self.latent_mapping = nn.ModuleDict(latent_mapping)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return next(self.t_embedder.parameters()).dtype

    def _latent(self, name: str) -> Latent:
        return cast(Latent, self.latent_mapping[name])

    def frozen_parameters(self) -> list[str]:
        """Names of the parameters that both streams share, which the release kept frozen."""
        if not self.freeze_shared_parameters:
            return []
        return [n for n, _ in self.named_parameters() if n.startswith("t_embedder.") or ".adaLN_modulation." in n]

    def time_embedding(self, t: Tensor, d: Tensor | None, batch: int) -> Tensor:
        """Embed t and d (B,) or (1,), already times 1000, as (B, C); d = None adds nothing."""
        embedded = self.t_embedder(t)
        if d is not None:
            if self.d_embedder is None:
                raise ValueError("a step size d was given, but this flow is no shortcut model")
            embedded = embedded + self.d_embedder(d)
        return embedded.expand(batch, -1)

    def forward(
        self, x: Mapping[str, Tensor], t: Tensor, condition: Tensor, d: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Predict the velocity of every latent.

        Args:
            x: every latent (B, T, c), shape-only training included.
            t, d: (B,) or (1,), times 1000.
            condition: tokens (B, S, Cc).

        Raises:
            ValueError: a latent is missing or unknown.
        """
        if set(x) != set(self.latent_names):
            raise ValueError(f"the structure flow needs the latents {list(self.latent_names)}, got {sorted(x)}")
        streams = {
            stream: torch.cat([self._latent(name).to_tokens(x[name]) for name in members], dim=1)
            for stream, members in self.members.items()
        }
        time = self.time_embedding(t, d, x[SHAPE].shape[0])
        for block in self.blocks:
            streams = block(streams, time, condition)
        out: dict[str, Tensor] = {}
        for stream, members in self.members.items():
            parts = streams[stream].split([x[name].shape[1] for name in members], dim=1)
            out |= {name: self._latent(name).from_tokens(part) for name, part in zip(members, parts, strict=True)}
        return out
