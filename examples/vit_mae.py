"""ViT-MAE: `query`, `key` and `value` of a frozen encoder, everything outside it trained; and what verify tells.

    python examples/vit_mae.py

Self-supervised adaptation to a new kind of picture, with `transformers`' own class (random weights, small).
"""

from typing import Any

import torch
from transformers import ViTMAEConfig, ViTMAEForPreTraining

from sam3d_objects.adapter.presets import PresetConfig, apply_preset
from sam3d_objects.model.lora import lora_disabled, lora_layers, movement, tensor_digests, trainable_names, verify


def small_autoencoder() -> ViTMAEForPreTraining:
    """Two blocks of width 32 in the encoder and in the decoder; half of 16 patches are hidden."""
    torch.manual_seed(7)
    body = dict[str, Any](hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    decoder = {f"decoder_{name}": value for name, value in body.items()}
    return ViTMAEForPreTraining(ViTMAEConfig(**body, **decoder, image_size=32, patch_size=8, mask_ratio=0.5)).eval()


# Pictures of one colour each, which the visible patches tell of the hidden ones.
generator = torch.Generator().manual_seed(0)
images = torch.randn(16, 3, 1, 1, generator=generator).expand(-1, -1, 32, 32)
hidden = torch.rand(16, 16, generator=generator)  # the patches with the highest numbers are hidden


def loss_of(model: torch.nn.Module) -> torch.Tensor:
    """The mean squared error of the hidden patches."""
    return model(images, noise=hidden).loss


model = small_autoencoder()
with torch.no_grad():
    of_base = loss_of(model)
apply_preset(model, PresetConfig("vit_mae", recipe="auto"), samples=1200, seed=0)  # the rank by counting
paths = list(lora_layers(model))
assert len(paths) == 6 and all(path.startswith("vit.") for path in paths), "three layers of each encoder block"
beside = [name for name in trainable_names(model) if ".lora_" not in name]
assert all(name.startswith("decoder.") for name in beside), "beside them only what is outside the encoder"
assert "decoder.decoder_pos_embed" not in beside, "positions that the model itself holds fixed stay so"
with torch.no_grad():
    assert torch.equal(loss_of(model), of_base), "a fresh adapter is its base, to the last bit"

before = tensor_digests(model)
optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
for _ in range(40):
    optimiser.zero_grad()
    loss = loss_of(model.train())
    loss.backward()
    optimiser.step()
movement(before, model).require()  # by digests of all tensors: what may move has moved, and nothing else
verify(model).require()
with torch.no_grad():
    adapted = loss_of(model.eval())
    with lora_disabled(model):
        without = loss_of(model)
print(f"error of hidden patches: base {of_base:.3f}, adapted {adapted:.3f}, the decoder without adapters {without:.3f}")
assert adapted < 0.4 * of_base and adapted < 0.8 * without, "the adapters have their part in it"

# What verify is for: someone's optimiser, or a cast, has touched the frozen encoder.
with torch.no_grad():
    model.vit.layernorm.weight[0] += 1e-3
found = verify(model)
assert not found.ok and found.base_changed == ("vit.layernorm.weight",), "one number of one frozen tensor is noticed"
