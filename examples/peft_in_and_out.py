"""PEFT in and out: its adapter trains on here, ours loads there, and what it cannot hold is refused, not halved.

    python examples/peft_in_and_out.py

The model is `transformers`' ViT, small and with random weights. Needs `peft` (the extra `[peft]`).
"""

from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import Any

import peft
import torch
from torch import nn
from transformers import ViTConfig, ViTForImageClassification

from sam3d_objects.adapter import AdapterMeta, InferenceContract, save_adapter
from sam3d_objects.adapter.peft_folder import load_peft_adapter
from sam3d_objects.model import fingerprint
from sam3d_objects.model.lora import LoRAConfig, setup_from_config, verify


def small_vit() -> ViTForImageClassification:
    """Two blocks of width 32, two classes; the same weights each time."""
    torch.manual_seed(7)
    size = dict[str, Any](hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8)
    return ViTForImageClassification(ViTConfig(**size)).eval()


images, labels = torch.randn(12, 3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.arange(12) % 2


def train(model: nn.Module) -> None:
    """Take some steps with whatever may train."""
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(5):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(images).logits, labels).backward()
        optimiser.step()


@torch.no_grad()
def apart(one: nn.Module, other: nn.Module) -> float:
    """How far two models' logits are apart, as a share of the largest."""
    a, b = one.eval()(images).logits, other.eval()(images).logits
    return ((a - b).abs().max() / b.abs().max()).item()


of, contract = fingerprint(small_vit()), InferenceContract(field_of_view="scan", modality="mr")
meta = AdapterMeta(stage="class", base_name="small ViT", base_fingerprint=of, organs=("liver",), contract=contract)
with TemporaryDirectory() as folder:
    # In: trained with PEFT are two projections, one layer at another rank, and the classifier beside them.
    ranks, heads = {"layers.0.*q_proj": 2}, ["classifier"]
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], rank_pattern=ranks, modules_to_save=heads)
    theirs = peft.get_peft_model(small_vit(), config)
    train(theirs)
    theirs.save_pretrained(f"{folder}/theirs")
    adapter = load_peft_adapter(f"{folder}/theirs", ours := small_vit())
    print(f"PEFT's folder here, ranks {[x.rank for x in adapter.layers.values()]}: apart {apart(ours, theirs):.0e}")
    assert apart(ours, theirs) < 1e-6 < apart(ours, small_vit())

    # On, and out: more steps here, then a folder of ours, with what PEFT does not keep, which PEFT reads.
    train(ours)
    verify(ours, verbose=False).require()
    save_adapter(f"{folder}/ours", ours, adapter.config, meta)
    back = peft.PeftModel.from_pretrained(small_vit(), f"{folder}/ours")
    print(f"ours in PEFT: apart {apart(back, ours):.0e}")
    assert apart(back, ours) < 1e-6 < apart(back, theirs)
    # PiSSA keeps its start beside the base here. PEFT has no place for that, and must not load half of it.
    setup_from_config(ours := small_vit(), LoRAConfig(target_modules=("*.q_proj",), init="pissa"))
    save_adapter(f"{folder}/pissa", ours, LoRAConfig(init="pissa"), meta)
    with suppress(KeyError):
        peft.PeftModel.from_pretrained(small_vit(), f"{folder}/pissa")
        raise AssertionError("PEFT has loaded what it cannot hold")
    print("PiSSA in PEFT: refused")
