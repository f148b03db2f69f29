"""CLIP across three sites that exchange adapter weights only, by the framework-free core in `adapter.exchange`.

    python examples/clip_federated.py

No site has pictures of all three classes; the common adapter knows them. For SAM 3D, over a network: federated.md.
"""

import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPForImageClassification

from sam3d_objects.adapter import exchange
from sam3d_objects.adapter.presets import PresetConfig, apply_preset
from sam3d_objects.model import fingerprint


def small_clip() -> tuple[nn.Module, str]:
    """An adapted image classifier, the same at every site, and the fingerprint of its base."""
    torch.manual_seed(7)
    body = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    text, vision = {"vocab_size": 8, "bos_token_id": 1, "eos_token_id": 2}, {"image_size": 16, "patch_size": 8}
    config = CLIPConfig(text_config=body | text, vision_config=body | vision)
    config.num_labels = 3
    model = CLIPForImageClassification(config).eval()
    base = fingerprint(model)
    apply_preset(model, PresetConfig("clip", rank=4), seed=0, verbose=False)  # one seed: one A, everywhere
    return model, base


def pictures(classes: tuple[int, ...], count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Noise with a tint of red, green or blue, and which."""
    labels = torch.tensor(classes).repeat(count // len(classes))
    noise = torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
    return noise + torch.eye(3)[labels][..., None, None], labels


def trained(model: nn.Module, images: Tensor, labels: Tensor, steps: int = 10) -> nn.Module:
    """The model after some steps at one site."""
    optimiser = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=5e-3)
    for _ in range(steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(images).logits, labels).backward()
        optimiser.step()
    return model


def percent_right(model: nn.Module) -> float:
    """Of pictures that nobody trained on."""
    images, labels = pictures((0, 1, 2), count=150, seed=99)
    return 100 * (model(images).logits.argmax(1) == labels).float().mean().item()


sites = [pictures((0, 1), 24, seed=0), pictures((1, 2), 36, seed=1), pictures((2, 0), 48, seed=2)]
best = max(percent_right(trained(small_clip()[0], *data, steps=40)) for data in sites)
off: dict[str, float] = {}
for rule in exchange.RULES:
    model, base = small_clip()
    if rule == exchange.FROZEN_A:
        exchange.freeze_a(model)
    common = exchange.get_parameters(model, base)
    for _ in range(4):
        answers = []
        for data in sites:
            exchange.set_parameters(model, common, base)
            message = exchange.encode(exchange.get_parameters(trained(model, *data), base, samples=len(data[0])))
            answers.append(exchange.decode(message, exchange.most_bytes(common.manifest)))  # all that leaves the site
        average = exchange.average(answers, rule)
        common, off[rule] = average.parameters, average.worst_percent
    exchange.set_parameters(model, common, base)
    right = percent_right(model)
    print(f"{rule}: {right:.0f} % right, the best site alone {best:.0f} %; {len(message)} bytes; {off[rule]:.1f} % off")
    assert right > 90 > 75 > best, "together they know what none of them can know alone"
apart = exchange.average(answers, exchange.FEDAVG).worst_percent  # the last sites' answers, by the other rule
assert off["frozen_a"] == 0 < off["svd"] < apart, "from the mean of B A: exact, the nearest of this rank, neither"
