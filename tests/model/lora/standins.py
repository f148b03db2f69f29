"""Small models with the module names of those that people adapt."""

import json
from pathlib import Path

import torch
from torch import Tensor, nn

STREAMS = ("shape", "6drotation_normalized")
WIDTHS = {"shape": 8, "6drotation_normalized": 6, "scale": 3, "translation_scale": 1}


class SelfAttention(nn.Module):
    """Projections in ModuleDicts keyed by stream, as in the structure flow."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_qkv = nn.ModuleDict({name: nn.Linear(channels, 3 * channels) for name in STREAMS})
        self.to_out = nn.ModuleDict({name: nn.Linear(channels, channels) for name in STREAMS})

    def forward(self, name: str, x: Tensor) -> Tensor:
        q, k, v = self.to_qkv[name](x).chunk(3, dim=-1)
        return self.to_out[name](nn.functional.scaled_dot_product_attention(q, k, v))


class CrossAttention(nn.Module):
    """`to_q`, `to_kv`, `to_out`; attends to the tokens themselves."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(channels, channels)
        self.to_kv = nn.Linear(channels, 2 * channels)
        self.to_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        k, v = self.to_kv(x).chunk(2, dim=-1)
        return self.to_out(nn.functional.scaled_dot_product_attention(self.to_q(x), k, v))


class FeedForward(nn.Module):
    """`mlp.0`, `mlp.2`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.mlp(x)


class Block(nn.Module):
    """One block of the two-stream flow."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm2 = nn.ModuleDict({name: nn.LayerNorm(channels) for name in STREAMS})
        self.self_attn = SelfAttention(channels)
        self.cross_attn = nn.ModuleDict({name: CrossAttention(channels) for name in STREAMS})
        self.mlp = nn.ModuleDict({name: FeedForward(channels) for name in STREAMS})

    def forward(self, name: str, x: Tensor) -> Tensor:
        x = x + self.self_attn(name, x)
        x = x + self.cross_attn[name](self.norm2[name](x))
        return x + self.mlp[name](x)


class Latent(nn.Module):
    """`input_layer`, `out_layer` and a learnt `pos_emb`."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.input_layer = nn.Linear(width, channels)
        self.out_layer = nn.Linear(channels, width)
        self.pos_emb = nn.Parameter(torch.randn(1, channels))


class TwoStreamFlow(nn.Module):
    """The names of the structure flow around something that runs; one stream serves all latents but shape."""

    def __init__(self, channels: int = 16, blocks: int = 3) -> None:
        super().__init__()
        self.t_embedder = nn.Sequential(nn.Linear(1, channels), nn.SiLU())
        self.blocks = nn.ModuleList(Block(channels) for _ in range(blocks))
        self.latent_mapping = nn.ModuleDict({name: Latent(c, channels) for name, c in WIDTHS.items()})

    def forward(self, x: dict[str, Tensor]) -> dict[str, Tensor]:
        out = {}
        for name, value in x.items():
            latent = self.latent_mapping[name]
            assert isinstance(latent, Latent)
            tokens = latent.input_layer(value) + latent.pos_emb
            for block in self.blocks:
                tokens = block("shape" if name == "shape" else STREAMS[1], tokens)
            out[name] = latent.out_layer(tokens)
        return out


class WholeModel(nn.Module):
    """Holds the flow under `structure_flow`, beside a frozen embedder with a head of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.condition_embedder = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
        self.structure_flow = TwoStreamFlow()
        self.fingerprint = "fingerprint-of-the-base"


class VisionTransformer(nn.Module):
    """Another family of names: `blocks.N.attn.qkv`, `blocks.N.attn.proj`, `head`."""

    def __init__(self, channels: int = 12, blocks: int = 2) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.LayerNorm(channels),
                    "attn": nn.ModuleDict(
                        {
                            "qkv": nn.Linear(channels, 3 * channels, bias=False),
                            "proj": nn.Linear(channels, channels),
                        }
                    ),
                }
            )
            for _ in range(blocks)
        )
        self.norm = nn.BatchNorm1d(channels)
        self.head = nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            assert isinstance(block, nn.ModuleDict)
            attention = block["attn"]
            assert isinstance(attention, nn.ModuleDict)
            q, k, v = attention["qkv"](block["norm1"](x)).chunk(3, dim=-1)
            x = x + attention["proj"](q * k + v)
        return self.head(self.norm(x))


def flow_inputs(batch: int = 2, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Latents (B, T, c) for `TwoStreamFlow`."""
    generator = torch.Generator().manual_seed(5)
    return {name: torch.randn(batch, 5, c, generator=generator).to(dtype) for name, c in WIDTHS.items()}


def randomise_adapters(model: nn.Module, seed: int = 3) -> None:
    """Give every trainable tensor values of ordinary size, as if it had been trained."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


def train_steps(model: TwoStreamFlow, steps: int, lr: float = 0.1) -> None:
    """Plain SGD steps on a loss that every latent feels but translation_scale, as in training."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        out = model(flow_inputs())
        torch.stack([(out[name] - 1).square().mean() for name in ("shape", STREAMS[1], "scale")]).sum().backward()
        optimizer.step()


def released_structure_flow(shared_folder: Path) -> nn.Module:
    """The released flow's skeleton on the meta device: the modules and shapes of its manifest, no forward."""
    manifest = json.loads((shared_folder / "reference/manifests/ss_generator__generator.json").read_text())
    prefix = "_base_models.generator.reverse_fn.backbone."
    tensors = {tensor["key"].removeprefix(prefix): tensor for tensor in manifest["tensors"]}
    root = nn.Module()
    for name, tensor in tensors.items():
        path, _, leaf = name.rpartition(".")
        owner = root
        for part in path.split("."):
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        value = torch.empty(tensor["shape"], device="meta")
        if tensor["kind"] == "buffer":
            owner.register_buffer(leaf, value)
        elif leaf == "weight" and value.dim() == 2:
            parent, _, last = path.rpartition(".")
            linear = nn.Linear(value.shape[1], value.shape[0], bias=f"{path}.bias" in tensors, device="meta")
            setattr(root.get_submodule(parent), last, linear)
        elif not isinstance(owner, nn.Linear):
            owner.register_parameter(leaf, nn.Parameter(value))
    return root
