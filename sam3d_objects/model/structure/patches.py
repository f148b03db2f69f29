"""Latent cube <-> shape tokens. Letters: B batch, L latent channels, r latent side, p patch side, T tokens."""

from torch import Tensor

from sam3d_objects.model.structure.vae import cube_to_tokens, tokens_to_cube


def patchify(cube: Tensor, patch: int) -> Tensor:
    """Group a latent (B, L, r, r, r) to tokens (B, (r/p)^3, L p^3), C order x, y, z; p = 1 is the release's."""
    if patch == 1:
        return cube_to_tokens(cube)
    side = cube.shape[-1] // patch
    parts = cube.unflatten(4, (side, patch)).unflatten(3, (side, patch)).unflatten(2, (side, patch))
    parts = parts.permute(0, 2, 4, 6, 1, 3, 5, 7)  # (B, x, y, z, L, px, py, pz)
    return parts.flatten(4).flatten(1, 3)


def unpatchify(tokens: Tensor, patch: int) -> Tensor:
    """Undo `patchify`: tokens (B, T, L p^3) to (B, L, r, r, r)."""
    if patch == 1:
        return tokens_to_cube(tokens)
    side = round(tokens.shape[1] ** (1 / 3))
    parts = tokens.unflatten(1, (side, side, side)).unflatten(4, (-1, patch, patch, patch))
    parts = parts.permute(0, 4, 1, 5, 2, 6, 3, 7)  # (B, L, x, px, y, py, z, pz)
    return parts.flatten(6, 7).flatten(4, 5).flatten(2, 3)
