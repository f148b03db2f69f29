"""Adapters cross between PEFT and us, both ways, and compute the same; what cannot cross is refused with its reason."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from sam3d_objects.adapter import load_adapter, save_adapter
from sam3d_objects.adapter.peft_config import PeftConfig
from sam3d_objects.adapter.peft_folder import load_peft_adapter
from sam3d_objects.model.lora import LoRAConfig, has_lora, inject_lora, trainable_names, unfreeze
from tests.adapter.networks import NETWORKS, Network
from tests.adapter.records import META
from tests.model.lora.standins import VisionTransformer, randomise_adapters

peft = pytest.importorskip("peft", reason="PEFT is not installed (pip install peft)")
# PEFT 0.21 asks transformers 5.23 for it.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
CONFIG: dict[str, Any] = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["qkv"]}


def check_same(ours: list[Tensor], theirs: list[Tensor]) -> None:
    """To 1e-6 of the largest; most are equal to the last bit."""
    assert len(ours) == len(theirs) > 0
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() <= 1e-6 * b.abs().max()


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_peft_computes_what_our_folder_holds(network: Network, tmp_path: Path) -> None:
    base = network.outputs(network.make())
    model = network.make()
    inject_lora(model, network.targets, rank=3, alpha=5.0)
    unfreeze(model, network.trained)
    randomise_adapters(model)
    save_adapter(tmp_path / "best", model, LoRAConfig(rank=3), META)
    theirs = peft.PeftModel.from_pretrained(network.make(), tmp_path / "best")
    ours = network.outputs(model)
    check_same(ours, network.outputs(theirs))
    assert any(not torch.allclose(a, b, rtol=0.1) for a, b in zip(ours, base, strict=True)), (
        "the adapter does something"
    )


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_we_compute_what_pefts_folder_holds(network: Network, tmp_path: Path) -> None:
    probe = network.make()
    inject_lora(probe, network.targets)
    targets = sorted({name.removesuffix(".lora_A") for name in trainable_names(probe) if name.endswith(".lora_A")})
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        lora_dropout=0.1,
        target_modules=targets,
        rank_pattern={targets[0]: 2},
        alpha_pattern={targets[-1]: 3, targets[0]: 5},
        modules_to_save=[network.trained.removeprefix("*.")],
    )
    theirs = peft.get_peft_model(network.make(), config)
    randomise_adapters(theirs)
    theirs.save_pretrained(tmp_path / "theirs")
    model = network.make()
    adapter = load_peft_adapter(tmp_path / "theirs", model)
    check_same(network.outputs(model), network.outputs(theirs))
    assert sorted(adapter.layers) == targets
    assert (adapter.layers[targets[0]].rank, adapter.layers[targets[-1]].alpha) == (2, 3)
    assert {name.rpartition(".lora_")[0] or name for name in trainable_names(model)} == {*targets, *adapter.trained}
    # And out again, as an adapter of ours.
    save_adapter(tmp_path / "ours", model, adapter.config, META)
    fresh = network.make()
    load_adapter(tmp_path / "ours", fresh, base_fingerprint="f")
    check_same(network.outputs(fresh), network.outputs(theirs))


def test_rank_stabilised_scaling(tmp_path: Path) -> None:
    config = peft.LoraConfig(r=4, lora_alpha=6, use_rslora=True, target_modules=["qkv", "proj"])
    theirs = peft.get_peft_model(VisionTransformer(), config)
    randomise_adapters(theirs)
    theirs.save_pretrained(tmp_path / "a")
    model = VisionTransformer()
    model.load_state_dict({k.replace("base_layer.", ""): v for k, v in plain_state(theirs).items()})
    layers = load_peft_adapter(tmp_path / "a", model).layers
    assert {options.scaling for options in layers.values()} == {3.0}, "6 / sqrt(4)"
    x = torch.randn(5, 12)
    check_same([model.eval()(x)], [theirs.eval()(x)])


def plain_state(theirs: nn.Module) -> dict[str, Tensor]:
    state = theirs.get_submodule("base_model.model").state_dict()
    return {name: value for name, value in state.items() if "lora_" not in name}


class Mixed(nn.Module):
    """An embedding, convolutions of both kinds, and a fused linear layer."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.table = nn.Embedding(11, 6)
        self.conv = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.point = nn.Conv2d(8, 9, 1)
        self.cube = nn.Conv3d(1, 2, 3, padding=1)
        self.qkv = nn.Linear(9, 15)

    def forward(self, x: Tensor) -> Tensor:
        """Map indices (B, Y, X) to (B, C, 15)."""
        image = self.point(self.conv(self.table(x).movedim(-1, 1))).relu()
        return self.cube(self.qkv(image.flatten(2).transpose(1, 2))[:, None, None]).flatten(1, 3)


LAYERS = ["table", "conv", "point", "cube", "qkv"]
BASE_WEIGHT = "base_model.model.table.base_layer.weight"
INDICES = torch.arange(2 * 4 * 4).view(2, 4, 4) % 11


def test_embeddings_and_convolutions_in_and_out(tmp_path: Path) -> None:
    config = peft.LoraConfig(r=2, lora_alpha=6, target_modules=LAYERS, rank_pattern={"conv": 4})
    theirs = peft.get_peft_model(Mixed(), config)
    randomise_adapters(theirs)
    theirs.save_pretrained(tmp_path / "theirs")
    # As PEFT does where it takes a layer for a language model's vocabulary.
    file = tmp_path / "theirs" / "adapter_model.safetensors"
    save_file(load_file(file) | {BASE_WEIGHT: Mixed().table.weight.detach()}, file)
    expected = [theirs.eval()(INDICES)]
    model = Mixed().eval()
    adapter = load_peft_adapter(tmp_path / "theirs", model)
    assert sorted(adapter.layers) == sorted(LAYERS)
    check_same([model(INDICES)], expected)
    save_adapter(tmp_path / "ours", model, adapter.config, META)
    check_same([peft.PeftModel.from_pretrained(Mixed(), tmp_path / "ours").eval()(INDICES)], expected)
    fresh = Mixed().eval()
    load_adapter(tmp_path / "ours", fresh, base_fingerprint="f")
    check_same([fresh(INDICES)], expected)
    changed = Mixed()
    changed.table.weight.data[0, 0] += 1
    with pytest.raises(ValueError, match="another base weight of table"):
        load_peft_adapter(tmp_path / "theirs", changed)


def test_dora_of_linear_layers_in_and_out(tmp_path: Path) -> None:
    theirs = peft.get_peft_model(Mixed(), peft.LoraConfig(r=2, use_dora=True, use_rslora=True, target_modules=["qkv"]))
    randomise_adapters(theirs)
    theirs.save_pretrained(tmp_path / "theirs")
    model = Mixed().eval()
    adapter = load_peft_adapter(tmp_path / "theirs", model)
    check_same([model(INDICES)], [theirs.eval()(INDICES)])
    save_adapter(tmp_path / "ours", model, adapter.config, META)
    back = peft.PeftModel.from_pretrained(Mixed(), tmp_path / "ours").eval()
    check_same([back(INDICES)], [model(INDICES)])


@pytest.mark.parametrize("options", [{"parts": "q_v"}, {"init": "pissa"}])
def test_what_peft_has_not_is_refused_by_peft(options: dict[str, Any], tmp_path: Path) -> None:
    model = Mixed()
    inject_lora(model, patterns={"qkv": options})
    save_adapter(tmp_path / "a", model, LoRAConfig(), META)
    with pytest.raises((ValueError, KeyError), match="SAM3D_LORA"):
        peft.PeftModel.from_pretrained(Mixed(), tmp_path / "a")


def peft_folder(folder: Path) -> Path:
    model = peft.get_peft_model(VisionTransformer(), peft.LoraConfig(r=2, lora_alpha=6, target_modules=["qkv"]))
    randomise_adapters(model)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; only LORA"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"init_lora_weights": "pissa"}, "'pissa', which changes the base's weights before training"),
        ({"use_dora": True}, r"missing: blocks\.\{0\.\.1\}\.attn\.qkv\.lora_magnitude"),
        ({"lora_bias": True}, "adds a bias to B"),
        ({"layer_replication": [[0, 2]]}, "changes the base model's layers"),
        ({"fan_in_fan_out": True}, "Conv1D"),
        ({"new_in_peft_9": "yes"}, "option 'new_in_peft_9' is not known here"),
        ({"r": 10**9}, "a rank lies between 1 and 8,192"),
        ({"r": "8"}, "r is '8', not a whole number"),
        ({"lora_alpha": [8]}, r"lora_alpha is \[8\], not a number"),
        ({"lora_dropout": 1.5}, "dropout lies in"),
        ({"r": 3}, "has 2 rows, and the config gives it the rank 3"),
        ({"rank_pattern": {"(a+)+$": 2}}, "is not run for a stranger"),
        ({"alpha_pattern": {".*.*.*.*x": 2}}, "more than 3 repetitions"),
        ({"alpha_pattern": {"*x": 2}}, "is no expression"),
        ({"rank_pattern": [1]}, "rank_pattern is list"),
    ],
)
def test_what_cannot_be_translated_is_refused(change: dict[str, Any], reason: str, tmp_path: Path) -> None:
    folder = peft_folder(tmp_path / "a")
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    model = VisionTransformer()
    with pytest.raises(ValueError, match=reason) as error:
        load_peft_adapter(folder, model)
    assert str(folder) in str(error.value)
    assert not has_lora(model) and all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda f: (f / "adapter_config.json").unlink(), r"no PEFT adapter at .*: adapter_config\.json missing"),
        (
            lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"),
            r"adapter_model\.bin, a pickle, which could run code",
        ),
        (lambda f: (f / "adapter_config.json").write_text("[]"), "not PEFT's config: list"),
        (lambda f: (f / "link").symlink_to("/"), "symbolic link"),
        (lambda f: (f / "adapter_config.json").write_text('{"r": 1, "r": 2}'), "the key 'r' twice"),
    ],
)
def test_folders_that_are_none(damage: Callable[[Path], object], reason: str, tmp_path: Path) -> None:
    folder = peft_folder(tmp_path / "a")
    damage(folder)
    with pytest.raises(ValueError, match=reason):
        load_peft_adapter(folder, VisionTransformer())


def test_another_model_is_refused_by_its_layers(tmp_path: Path) -> None:
    folder = peft_folder(tmp_path / "a")
    with pytest.raises(ValueError, match=r"was not loaded: blocks\.1\.attn\.qkv: .*no such module"):
        load_peft_adapter(folder, VisionTransformer(blocks=1))
    with pytest.raises(ValueError, match=r"qkv\.lora_A has shape \(2, 12\), the model needs \(2, 10\)"):
        load_peft_adapter(folder, VisionTransformer(channels=10))


@pytest.mark.parametrize(
    ("pattern", "path", "rank"),
    [
        ({"q": 3}, "layer.0.q", 3),
        ({"q": 3}, "layer.0.eq", 8),
        ({"0.q": 3}, "layer.0.q", 3),
        ({"layer": 3}, "layer.0.q", 8),
        ({r"layer\.\d+\.q": 3}, "model.layer.12.q", 3),
        ({"^q": 3}, "layer.q", 8),
        ({"k": 2, ".*q": 3}, "layer.0.q", 3),
    ],
)
def test_patterns_match_as_in_peft(pattern: dict[str, int], path: str, rank: int) -> None:
    from peft.utils.other import get_pattern_key

    assert PeftConfig.from_values(CONFIG | {"r": 8, "rank_pattern": pattern}, "x").options(path).rank == rank
    assert pattern.get(get_pattern_key(list(pattern), path), 8) == rank
