"""EoMT, a ViT segmenter: adapt `qkv`, `proj`, `fc1`, `fc2`, train heads and norms fully, merge and take out again.

    python examples/eomt.py

The class is `transformers`' own, small and with random weights; the preset is that for the real thing.
"""

from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import EomtConfig, EomtForUniversalSegmentation

from sam3d_objects.adapter import AdapterMeta, InferenceContract, load_adapter, save_adapter
from sam3d_objects.adapter.presets import PresetConfig, apply_preset
from sam3d_objects.model import fingerprint
from sam3d_objects.model.lora import merge_lora_weights, unmerge_lora_weights, verify


def small_segmenter() -> EomtForUniversalSegmentation:
    """Two blocks of width 32, two queries, two classes; the same weights each time."""
    torch.manual_seed(7)
    size = dict[str, Any](hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8)
    return EomtForUniversalSegmentation(EomtConfig(**size, num_blocks=1, num_queries=2, num_upscale_blocks=1)).eval()


# Four pictures of noise with a bright square, which is to be found: class 1 inside, class 0 around it.
images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.2
squares = torch.zeros(4, 32, 32)
for square, (row, column) in zip(squares, [(2, 2), (2, 16), (16, 2), (16, 16)], strict=True):
    square[row : row + 12, column : column + 12] = 1
images += squares[:, None] * 2
masks, classes = [torch.stack([1 - square, square]) for square in squares], [torch.tensor([0, 1])] * 4


@torch.no_grad()
def masks_of(model: torch.nn.Module) -> torch.Tensor:
    """The mask logits (4, queries, y, x) of the pictures."""
    return model.eval()(images).masks_queries_logits


model = small_segmenter()
of, of_base = fingerprint(model), masks_of(model)
plan = apply_preset(model, PresetConfig("eomt", recipe="small", roles=("qkv", "proj", "fc1", "fc2")), seed=0)
assert torch.equal(masks_of(model), of_base), "a fresh adapter is its base, to the last bit"

optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
losses: list[torch.Tensor] = []
for _ in range(25):
    optimiser.zero_grad()
    losses.append(model.train()(images, mask_labels=masks, class_labels=classes).loss)  # EoMT's own, with its matching
    losses[-1].backward()
    optimiser.step()
verify(model).require()
adapted = masks_of(model)
merge_lora_weights(model, keep=True)  # plain layers, under the base's names
merged = masks_of(model)
unmerge_lora_weights(model)  # adapted layers again, base and adapter as they were

use = InferenceContract(field_of_view="scan", modality="ct")
meta = AdapterMeta(stage="masks", base_name="small EoMT", base_fingerprint=of, organs=("square",), contract=use)
with TemporaryDirectory() as folder:
    save_adapter(f"{folder}/square", model, plan.config, meta)
    loaded = small_segmenter()
    load_adapter(f"{folder}/square", loaded, base_fingerprint=fingerprint(loaded))

off = (merged - adapted).abs().max() / adapted.abs().max()
print(f"loss {losses[0]:.2f} -> {losses[-1]:.2f}; merged is adapted to {off:.0e}, taken out and loaded to the last bit")
assert losses[-1] < 0.7 * losses[0] and off < 1e-5
assert torch.equal(masks_of(model), adapted), "unmerging is exact"
assert torch.equal(masks_of(loaded), adapted), "so is the folder"
