"""A condition embedder as it is drawn: tokens of unit size, whose place in the picture shows."""

import torch
from torch import Tensor

from sam3d_objects.model.condition.fuser import EmbedderFuser
from sam3d_objects.pretraining.initial import draw_readable
from sam3d_objects.pretraining.tiny import new_tiny_model


def pictures(embedder: EmbedderFuser, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    channels = {name: 1 if "mask" in name else 3 for name in embedder.input_names}
    return {name: torch.rand(6, c, 56, 56, generator=generator) for name, c in channels.items()}


def spread_over_places(tokens: Tensor) -> float:
    """How far the mean tokens of an input's places lie apart."""
    return float(tokens.mean(dim=0).std(dim=0).mean())


@torch.no_grad()
def test_tokens_are_of_unit_size_and_tell_their_place() -> None:
    torch.manual_seed(0)
    embedder = new_tiny_model().condition_embedder.eval()
    before = embedder(pictures(embedder, 1))
    draw_readable(embedder, pictures(embedder, 0))
    after = embedder(pictures(embedder, 1))
    images = slice(0, 17)  # one input's tokens: what is left is place
    assert before.square().mean().sqrt() < 0.2, "this is what is mended"
    assert 0.8 < after.square().mean().sqrt() < 1.3
    share_before, share_after = (
        spread_over_places(tokens[:, images]) / float(tokens[:, images].square().mean().sqrt())
        for tokens in (before, after)
    )
    assert share_after > 0.6 > share_before
