"""The condition embedder's own rules: positions, invalid points, dropping, and what it refuses."""

import pytest
import torch

from sam3d_objects.model.condition.dino import Dino
from sam3d_objects.model.condition.fuser import EmbedderFuser, swiglu_width
from sam3d_objects.model.condition.pointmap import PointPatchEmbed
from sam3d_objects.model.condition.vit import VisionTransformer
from tests.training.small_model import small_model

VIT = {"img_size": 28, "patch_size": 14, "embed_dim": 16, "depth": 1, "num_heads": 2}
POINTMAPS = frozenset({"pointmap", "rgb_pointmap"})


def fuser(**options: object) -> EmbedderFuser:
    """Two inputs of one small ViT, and two pointmaps."""
    torch.manual_seed(0)
    arguments = {"projection_net_hidden_dim_multiplier": 1.0, "drop_modalities_weight": [[list(POINTMAPS), 1.0]]}
    return EmbedderFuser(
        [
            (Dino(28, vit=VIT), [("image", "cropped"), ("rgb_image", "full")]),
            (PointPatchEmbed(16, 8, 16, num_heads=2), [("pointmap", "cropped"), ("rgb_pointmap", "full")]),
        ],
        **(arguments | options),  # type: ignore[arg-type]  # Options are of many types.
    ).eval()


def inputs(batch: int = 2) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.rand(batch, 3, 28, 28, generator=generator) for name in ("image", "rgb_image", *POINTMAPS)}


def test_other_image_sides_interpolate_positions() -> None:
    vit = VisionTransformer(**VIT)
    assert vit.positions(2, 2) is vit.pos_embed
    with torch.no_grad():
        vit.pos_embed[:] = 3.0
    torch.testing.assert_close(vit.positions(3, 5), torch.full((1, 16, 16), 3.0))
    with pytest.raises(ValueError, match=r"\(28, 30\) are no multiples of the patch 14"):
        vit(torch.zeros(1, 3, 28, 30))


def test_prenorm_keeps_registers() -> None:
    image = torch.rand(1, 3, 20, 20)
    assert Dino(28, vit=VIT)(image).shape == (1, 1 + 4, 16)
    assert Dino(28, vit=VIT, prenorm_features=True)(image).shape == (1, 1 + 4 + 4, 16)


def test_one_channel_is_repeated() -> None:
    dino, mask = Dino(28, vit=VIT, normalize_images=False), torch.rand(2, 1, 28, 28)
    assert torch.equal(dino.preprocess(mask), mask.expand(-1, 3, -1, -1))


def test_released_names_of_dino() -> None:
    with torch.device("meta"):
        dino = Dino(
            source="github", backbone_kwargs={}, freeze_backbone=True, repo_or_dir="x", dino_model="dinov2_vits14_reg"
        )
    assert (dino.embed_dim, len(dino.backbone.blocks)) == (384, 12)
    with pytest.raises(ValueError, match=r"does not know the arguments \['colour'\]"):
        Dino(colour=True)
    with pytest.raises(ValueError, match=r"dino_model must be one of .*dinov2_vitl14_reg.*, got 'dinov3'"):
        Dino(dino_model="dinov3")


def test_invalid_points_take_their_token() -> None:
    embedder = PointPatchEmbed(16, 8, 16, num_heads=2)
    with torch.no_grad():
        embedder.invalid_xyz_token[:] = 5.0
    points = torch.randn(1, 4, 4, 3)
    points[0, 0, 0, 1], points[0, 2, 3, 2] = torch.nan, torch.inf
    embedded = embedder.embed_points(points)
    is_token = (embedded == 5.0).all(dim=-1)[0]
    assert is_token.nonzero().tolist() == [[0, 0], [2, 3]]
    embedded.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in embedder.parameters())
    with pytest.raises(ValueError, match="remap_output 'linear', not 'exp'"):
        PointPatchEmbed(remap_output="exp")


def test_windows_row_by_row() -> None:
    embedder = PointPatchEmbed(32, 8, 16, num_heads=2)
    points = torch.randn(1, 3, 32, 32)
    other = points.clone()
    other[0, :, 8:16, 24:32] += 1.0  # window (1, 3) of 4 x 4
    changed = (embedder(points) != embedder(other)).any(dim=-1)[0]
    assert changed.nonzero().flatten().tolist() == [7]


def test_tokens_in_the_order_of_the_inputs() -> None:
    embedder, given = fuser(), inputs()
    assert embedder.input_names == ("image", "rgb_image", "pointmap", "rgb_pointmap")
    before = embedder(given)
    assert before.shape == (2, 5 + 5 + 4 + 4, 16)
    after = embedder({**given, "rgb_image": given["rgb_image"] * 0.5})
    assert (before != after).any(dim=-1)[0].nonzero().flatten().tolist() == [5, 6, 7, 8, 9]
    torch.testing.assert_close(
        embedder({**given, "rgb_image": given["image"]})[:, 5:10] - before[:, :5],
        (embedder.idx_emb[1] - embedder.idx_emb[0]).expand(2, 5, 16),
    )


def test_dropped_tokens_are_zeros_in_place() -> None:
    embedder, given = fuser(), inputs()
    full = embedder(given)
    expected = full.clone()
    expected[1, 10:] = 0
    assert torch.equal(embedder(given, dropped=[frozenset(), POINTMAPS]), expected)
    expected[:, 10:] = 0
    assert torch.equal(embedder(given, force_drop=POINTMAPS), expected)
    assert torch.equal(fuser(force_drop_modalities=sorted(POINTMAPS))(given), expected)


def test_how_often_a_set_is_dropped() -> None:
    embedder = fuser(dropout_prob=0.25, drop_modalities_weight=[[["image"], 1.0], [sorted(POINTMAPS), 3.0]])
    # Shares 0.75, 0.0625 and 0.1875 of [0, 1).
    draws = embedder.draw_dropped(4, torch.tensor([0.74, 0.76, 0.82, 0.99]))
    assert draws == [frozenset(), frozenset({"image"}), POINTMAPS, POINTMAPS]
    torch.manual_seed(0)
    assert 0.22 < sum(bool(names) for names in embedder.draw_dropped(4000)) / 4000 < 0.28


def test_the_embedder_does_not_drop_in_inference() -> None:
    embedder = fuser(dropout_prob=1.0)
    assert not (embedder(inputs()) == 0).all(dim=-1).any()
    assert (embedder.train()(inputs())[:, 10:] == 0).all()


def test_a_missing_input_is_named() -> None:
    given = inputs()
    del given["rgb_pointmap"]
    with pytest.raises(ValueError, match=r"missing: \['rgb_pointmap'\]"):
        fuser()(given)


def test_options_that_the_fuser_does_not_know() -> None:
    with pytest.raises(ValueError, match="use_pos_embedding 'learned', not 'none'"):
        fuser(use_pos_embedding="none")


def test_width_of_the_projections() -> None:
    assert swiglu_width(1024, 4.0) == 2816
    assert swiglu_width(48, 4.0) == 256


@torch.no_grad()
def test_dropping_pointmaps_through_the_model() -> None:
    model = small_model()
    given = {name: torch.rand(1, 1 if "mask" in name else 3, 28, 28) for name in model.condition_embedder.input_names}
    dropped = model.embed(given, drop_pointmap=True)
    other = model.embed({**given, "pointmap": given["pointmap"] + 1}, drop_pointmap=True)
    assert torch.equal(dropped, other)
    assert not torch.equal(model.embed(given), dropped)
