"""How each latent enters and leaves the structure flow.

Letters: B batch, T tokens, C model channels, c latent channels.
"""

import torch
from torch import Tensor, nn

from sam3d_objects.model.embeddings import absolute_position_embedding, grid_coordinates

POSITION_STD = 0.02


class LearntPositionEmbedder(nn.Module):
    """A learnt position embedding (T, C)."""

    table: Tensor

    def __init__(self, model_channels: int, token_len: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(token_len, model_channels) * POSITION_STD)


class ShapePositionEmbedder(nn.Module):
    """The fixed embedding of the latent cube's cells (T, C), T = (resolution / patch_size)^3."""

    table: Tensor

    def __init__(self, model_channels: int, resolution: int, patch_size: int = 1) -> None:
        super().__init__()
        coordinates = grid_coordinates(resolution // patch_size)
        self.register_buffer("table", absolute_position_embedding(coordinates, model_channels))


class Latent(nn.Module):
    """Linear in with a position embedding; layer norm and Linear out."""

    pos_emb: Tensor

    def __init__(
        self,
        in_channels: int,
        model_channels: int,
        pos_embedder: LearntPositionEmbedder | ShapePositionEmbedder,
    ) -> None:
        super().__init__()
        self.input_layer = nn.Linear(in_channels, model_channels)
        self.out_layer = nn.Linear(model_channels, in_channels)
        # The released state dicts keep the table itself under `pos_emb`, so the embedder's own tensor moves here.
        table = pos_embedder.table
        if isinstance(table, nn.Parameter):
            self.pos_emb = table
        else:
            self.register_buffer("pos_emb", table)

    def reset_parameters(self) -> None:
        """Draw a learnt position embedding anew; a fixed one stays. The layers within have their own way."""
        if isinstance(self.pos_emb, nn.Parameter):
            nn.init.normal_(self.pos_emb, std=POSITION_STD)

    def to_tokens(self, latent: Tensor) -> Tensor:
        """Map the latent (B, T, c) to tokens (B, T, C)."""
        return self.input_layer(latent) + self.pos_emb

    def from_tokens(self, tokens: Tensor) -> Tensor:
        """Map tokens (B, T, C) to the latent's velocity (B, T, c)."""
        return self.out_layer(nn.functional.layer_norm(tokens, tokens.shape[-1:], eps=1e-5))
