"""Trained beside PEFT from the same start, on the same data: the same losses."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sam3d_objects.model.lora import inject_lora, lora_layers

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
STEPS = 10


class Network(nn.Module):
    """Convolutions and linear layers, one with a fused qkv."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 2, stride=2)
        self.mix = nn.Conv2d(16, 16, 3, padding=1)
        self.qkv = nn.Linear(16, 48)
        self.proj = nn.Linear(16, 16, bias=False)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x)
        tokens = (x + self.mix(x).relu()).flatten(2).transpose(1, 2)
        q, k, v = self.qkv(tokens).chunk(3, dim=-1)
        tokens = tokens + self.proj(nn.functional.scaled_dot_product_attention(q, k, v))
        return self.head(tokens.mean(1))


def losses(model: nn.Module, parameters: list[nn.Parameter]) -> list[float]:
    optimizer = torch.optim.AdamW(parameters, lr=0.01)
    series = []
    for step in range(STEPS):
        optimizer.zero_grad()
        torch.manual_seed(step)  # Of dropout.
        loss = (model(X) - 1).square().mean()
        loss.backward()
        optimizer.step()
        series.append(loss.item())
    return series


@pytest.mark.parametrize(
    ("targets", "ours", "theirs"),
    [
        (["qkv", "proj"], {}, {}),
        (["qkv", "proj"], {"dropout": 0.3}, {"lora_dropout": 0.3}),
        (["patch", "mix", "head"], {"rslora": True}, {"use_rslora": True}),
        (["patch", "mix", "qkv"], {"dora": True}, {"use_dora": True}),
        (["qkv", "proj", "head"], {"init": "pissa"}, {"init_lora_weights": "pissa"}),
    ],
    ids=["linear", "dropout", "convolutions and rslora", "dora", "pissa"],
)
def test_ten_steps_have_the_losses_of_peft(targets: list[str], ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    peft = pytest.importorskip("peft", reason="PEFT is not installed (pip install peft)")
    torch.manual_seed(0)
    model = Network()
    other = Network()
    other.load_state_dict(model.state_dict())
    inject_lora(model, targets, rank=3, alpha=6.0, seed=0, **ours)
    other = peft.get_peft_model(other, peft.LoraConfig(r=3, lora_alpha=6, target_modules=targets, **theirs))
    same_start(model, other)
    mine = losses(model, [p for p in model.parameters() if p.requires_grad])
    reference = losses(other, [p for p in other.parameters() if p.requires_grad])
    assert mine[0] != mine[-1]
    assert mine == pytest.approx(reference, rel=1e-5)


def same_start(model: nn.Module, other: nn.Module) -> None:
    """Copy the matrices to where PEFT has them; its PiSSA finds the same ones but for signs."""
    names = dict(other.named_parameters())
    with torch.no_grad():
        for path, layer in lora_layers(model).items():
            for leaf in ("lora_A", "lora_B"):
                names[f"base_model.model.{path}.{leaf}.default.weight"].copy_(layer.tensors_of("default")[leaf])
