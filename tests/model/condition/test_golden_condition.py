"""The condition embedder's parts against their golden vectors."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sam3d_objects.model.condition.dino import Dino
from sam3d_objects.model.condition.fuser import EmbedderFuser
from sam3d_objects.model.condition.pointmap import PointPatchEmbed
from tests.model.golden import Golden, assert_parity, load_golden

VIT_ARGUMENTS = ("img_size", "patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio", "num_register_tokens")
POINTMAPS = frozenset({"pointmap", "rgb_pointmap"})


class ToyEmbedder(nn.Module):
    """The golden fuser's stand-in for an image embedder: 8 x 8 patches through a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.c = nn.Conv2d(channels, 48, 8, stride=8)
        self.embed_dim = 48

    def forward(self, image: Tensor) -> Tensor:
        return self.c(image).flatten(2).transpose(1, 2)


def golden_dino(golden: Golden) -> Dino:
    dino = Dino(**golden.meta["args"], vit={name: golden.meta["vit"][name] for name in VIT_ARGUMENTS})
    golden.load_into(dino)
    return dino


def golden_fuser(golden: Golden) -> EmbedderFuser:
    fuser = EmbedderFuser(
        [
            (ToyEmbedder(3), [("image", "cropped"), ("rgb_image", "full")]),
            (ToyEmbedder(1), [("mask", "cropped"), ("rgb_image_mask", "full")]),
            (PointPatchEmbed(32, 8, 64), [("pointmap", "cropped"), ("rgb_pointmap", "full")]),
        ],
        **golden.meta["args"],
    )
    golden.load_into(fuser)
    return fuser


@pytest.mark.parametrize("name", ["dino_small_norm", "dino_small_prenorm"])
@torch.no_grad()
def test_dino(shared_reference: Path, name: str) -> None:
    golden = load_golden(shared_reference, name)
    dino = golden_dino(golden)
    ready = dino.preprocess(golden.inputs["image"])
    assert_parity(ready, golden.outputs["preprocessed"], "preprocessed")
    sequence = dino.backbone(ready)
    assert_parity(sequence, golden.outputs["x_prenorm"], "before the last norm")
    registers = slice(1, 1 + dino.backbone.register_count)
    assert_parity(dino.backbone.norm(sequence)[:, registers], golden.outputs["x_norm_regtokens"], "registers")
    for kind in ("image", "mask"):
        expected = golden.outputs[f"tokens_{kind}"]
        assert_parity(dino(golden.inputs[kind]), expected, kind)
        one_by_one = torch.cat([dino(one[None]) for one in golden.inputs[kind]])
        assert_parity(one_by_one, expected, f"{kind}, one by one")
    dino.double()
    for kind in ("image", "mask"):
        assert_parity(dino(golden.inputs[kind].double()), golden.outputs[f"tokens_{kind}"], f"{kind} in float64")


@torch.no_grad()
def test_pointmap_embedder(shared_reference: Path) -> None:
    golden = load_golden(shared_reference, "point_patch_embed")
    embedder = PointPatchEmbed(**golden.meta["args"])
    golden.load_into(embedder)
    xyz, xyz32 = golden.inputs["xyz"], golden.inputs["xyz32"]
    assert not xyz.isfinite().all(), "the golden input has invalid points"
    resized = nn.functional.interpolate(xyz, size=(32, 32), mode="nearest").permute(0, 2, 3, 1)
    assert_parity(embedder.embed_points(resized), golden.outputs["point_embed"], "points")
    assert_parity(embedder(xyz), golden.outputs["out"], "out")
    assert_parity(embedder(xyz32), golden.outputs["out32"], "out32")
    assert_parity(embedder(xyz32, golden.inputs["valid32"]), golden.outputs["out32_mask"], "out32_mask")
    assert_parity(torch.cat([embedder(one[None]) for one in xyz]), golden.outputs["out"], "one by one")
    assert_parity(embedder.double()(xyz.double()), golden.outputs["out"], "in float64")


@torch.no_grad()
def test_fuser(shared_reference: Path) -> None:
    golden = load_golden(shared_reference, "embedder_fuser")
    fuser = golden_fuser(golden)
    widths = [fuser.get_submodule(f"projection_nets.{i}.1.w1").out_features for i in range(3)]
    assert widths == golden.meta["hidden_dims"]
    assert fuser.group_index == golden.meta["positional_embed_map"]
    expected = golden.outputs["out"]
    assert_parity(fuser(golden.inputs), expected, "out")
    assert_parity(fuser(golden.inputs, force_drop=POINTMAPS), golden.outputs["out_force_drop"], "forced drop")
    one_by_one = [fuser({name: value[i : i + 1] for name, value in golden.inputs.items()}) for i in range(2)]
    assert_parity(torch.cat(one_by_one), expected, "one by one")
    in_double = fuser.double()({name: value.double() for name, value in golden.inputs.items()})
    assert_parity(in_double, expected, "in float64")


@torch.no_grad()
def test_fuser_drops_pointmaps_in_training(shared_reference: Path) -> None:
    golden = load_golden(shared_reference, "embedder_fuser")
    fuser = golden_fuser(golden)
    fuser.dropout_prob = 0.5
    dropped = fuser.draw_dropped(2, golden.outputs["train_rand_vals"])
    assert dropped == [POINTMAPS, frozenset()]
    assert_parity(fuser(golden.inputs, dropped), golden.outputs["out_train_dropout"], "drawn by hand")
    torch.manual_seed(14)  # the golden run's
    assert_parity(fuser.train()(golden.inputs), golden.outputs["out_train_dropout"], "drawn in training mode")
