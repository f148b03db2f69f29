"""Other people's models at a size for tests: `transformers`' own classes with random weights, and trees of names."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

transformers = pytest.importorskip("transformers", reason="transformers is a dependency of the tests only ([dev])")

WIDTH, PIXELS, PATCH = 32, 16, 8
_BODY = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2}
_IMAGE = {"image_size": PIXELS, "patch_size": PATCH}


@dataclass(frozen=True)
class Backbone:
    """A model, and how it is run.

    Attributes:
        make: build it, the same weights each time.
        run: model -> its outputs, on fixed inputs.
    """

    make: Callable[[], nn.Module]
    run: Callable[[nn.Module], list[Tensor]]


def _seeded(build: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(7)
            return build().eval()

    return make


def _image() -> Tensor:
    return torch.randn(2, 3, PIXELS, PIXELS, generator=torch.Generator().manual_seed(1))


def _eomt() -> nn.Module:
    config = transformers.EomtConfig(
        **_BODY, **_IMAGE, num_blocks=1, num_queries=3, num_upscale_blocks=1, num_labels=2, mlp_ratio=2
    )
    return transformers.EomtForUniversalSegmentation(config)


def _run_eomt(model: nn.Module) -> list[Tensor]:
    found = model(_image())
    return [found.masks_queries_logits[-1], found.class_queries_logits[-1]]


def _dinov2() -> nn.Module:
    config = transformers.Dinov2WithRegistersConfig(**_BODY, **_IMAGE, mlp_ratio=2)
    return transformers.Dinov2WithRegistersModel(config)


def _vit_mae() -> nn.Module:
    decoder = {f"decoder_{name}": value for name, value in _BODY.items()}
    config = transformers.ViTMAEConfig(
        **_BODY, **_IMAGE, intermediate_size=64, **decoder, decoder_intermediate_size=64, mask_ratio=0.5
    )
    return transformers.ViTMAEForPreTraining(config)


def _run_vit_mae(model: nn.Module) -> list[Tensor]:
    noise = torch.rand(2, (PIXELS // PATCH) ** 2, generator=torch.Generator().manual_seed(2))
    return [model(_image(), noise=noise).logits]


def _clip_config() -> object:
    text = {**_BODY, "vocab_size": 20, "intermediate_size": 64, "max_position_embeddings": 6}
    text |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    vision = {**_BODY, **_IMAGE, "intermediate_size": 64}
    return transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)


def _run_clip(model: nn.Module) -> list[Tensor]:
    found = model(input_ids=torch.tensor([[1, 5, 9, 2], [1, 7, 3, 2]]), pixel_values=_image())
    return [found.logits_per_image, found.text_embeds, found.image_embeds]


BACKBONES = {
    "eomt": Backbone(_seeded(_eomt), _run_eomt),
    "dinov2": Backbone(_seeded(_dinov2), lambda model: [model(_image()).last_hidden_state]),
    "vit_mae": Backbone(_seeded(_vit_mae), _run_vit_mae),
    "clip": Backbone(_seeded(lambda: transformers.CLIPModel(_clip_config())), _run_clip),
    "clip_classifier": Backbone(
        _seeded(lambda: transformers.CLIPForImageClassification(_clip_config())),
        lambda model: [model(_image()).logits],
    ),
}
