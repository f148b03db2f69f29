"""Adapters found in folders, told, compared and added up."""

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from sam3d_objects.adapter import AdapterMeta, InferenceContract, add_to_set, load_adapter, read_adapter, save_adapter
from sam3d_objects.adapter.registry import (
    Part,
    compare_adapters,
    difference_text,
    find_adapters,
    info_text,
    pull_folder,
    push_folder,
    registry_table,
    size_text,
    sum_adapters,
)
from sam3d_objects.model.lora import LoRAConfig, inject_lora, lora_layers, merge_lora_weights, unfreeze
from tests.model.lora.standins import VisionTransformer, randomise_adapters

CONTRACT = InferenceContract(field_of_view="scan", modality="ct")


def base() -> nn.Module:
    torch.manual_seed(0)
    return VisionTransformer().eval()


def meta(organ: str = "liver", dice: float | None = 0.8123) -> AdapterMeta:
    return AdapterMeta(
        stage="structure",
        base_name="small",
        base_fingerprint="f",
        organs=(organ,),
        contract=CONTRACT,
        metrics={"loss": 1.0, "dice": dice},
        training={"data": {"fingerprint": "d" * 8}},
    )


def write(folder: Path, seed: int = 1, rank: int = 2, targets: str = "*.qkv", head: bool = True) -> nn.Module:
    """Save an adapter of the small transformer with random matrices, and return the model."""
    model = base()
    inject_lora(model, targets, rank=rank, alpha=6.0)
    if head:
        unfreeze(model, "head")
    randomise_adapters(model, seed)
    save_adapter(folder, model, LoRAConfig(rank=rank, alpha=6.0, target_modules=(targets,)), meta(f"organ{seed}"))
    return model.eval()


def test_a_folder_is_listed_with_what_is_broken(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "a" / "best")
    write(tmp_path / "runs" / "b", seed=2, rank=4)
    write(tmp_path / "runs" / "broken")
    (tmp_path / "runs" / "broken" / "adapter_model.safetensors").unlink()
    write(tmp_path / "runs" / ".b.old")  # what a kill left
    (tmp_path / "runs" / "elsewhere").symlink_to(tmp_path / "runs" / "a")
    entries = find_adapters(tmp_path / "runs")
    assert [entry.name for entry in entries] == ["a/best", "b", "broken"]
    lines = registry_table(entries).splitlines()
    assert lines[0].split() == ["name", "stage", "organs", "base", "rank", "parameters", "Dice", "size"]
    assert lines[1].split()[:5] == ["a/best", "structure", "organ1", "small", "2"]
    assert lines[1].split()[5:7] == [f"{2 * 2 * (12 + 36) + 65}", "0.812"], "two layers of A and B, and the head"
    assert lines[3].startswith("! broken: the adapter") and "half written" in lines[3]
    assert registry_table(find_adapters(tmp_path / "runs" / "a" / "best")).splitlines()[1].startswith(".  ")
    assert registry_table([]) == "no adapters"
    with pytest.raises(ValueError, match="no registry at"):
        find_adapters(tmp_path / "nowhere")


def test_info_tells_use_scores_data_and_licence(tmp_path: Path) -> None:
    write(tmp_path / "a")
    text = info_text(read_adapter(tmp_path / "a"), 1234)
    for part in ("organ1", "small, fingerprint f", "2 of rank 2, alpha 6", "head", "modality ct", "0.8123", "dddddddd"):
        assert part in text
    assert "SAM License" in text and "not for diagnosis" in text and "1.2 kB" in text
    assert [size_text(n) for n in (999, 1500, 2_000_000, 3 * 10**9)] == ["999 B", "1.5 kB", "2.0 MB", "3.0 GB"]


def test_push_and_pull_carry_an_adapter_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path / "run")
    (tmp_path / "run" / "patients.csv").write_text("names")
    registry = tmp_path / "registry"
    push_folder(tmp_path / "run", registry, "liver/site1")
    assert [entry.name for entry in find_adapters(registry)] == ["liver/site1"]
    assert not (registry / "liver/site1/patients.csv").exists()
    pull_folder(registry, "liver/site1", tmp_path / "mine")
    assert compare_adapters(tmp_path / "run", tmp_path / "mine").same
    assert not compare_adapters(tmp_path / "run", tmp_path / "mine").options
    write(tmp_path / "run2", seed=2)
    push_folder(tmp_path / "run2", registry, "liver/site1")
    assert read_adapter(registry / "liver/site1").meta.organs == ("organ2",), "replaced"
    with pytest.raises(ValueError, match="has no adapter 'spleen'; it holds liver/site1"):
        pull_folder(registry, "spleen", tmp_path / "b")
    for name in ("../run", "/etc", "a/../../run", "a\\b", ""):
        with pytest.raises(ValueError, match="leads out of its folder"):
            push_folder(tmp_path / "run", registry, name)


def test_a_set_goes_as_a_whole(tmp_path: Path) -> None:
    write(tmp_path / "run")
    add_to_set(tmp_path / "run", tmp_path / "set")
    push_folder(tmp_path / "set", tmp_path / "registry", "liver")
    pull_folder(tmp_path / "registry", "liver", tmp_path / "mine")
    assert sorted(path.name for path in (tmp_path / "mine").iterdir()) == ["structure"]
    assert compare_adapters(tmp_path / "run", tmp_path / "mine" / "structure").same


def test_what_is_damaged_is_neither_pushed_nor_pulled(tmp_path: Path) -> None:
    write(tmp_path / "run")
    push_folder(tmp_path / "run", tmp_path / "registry", "a")
    tensors = tmp_path / "registry" / "a" / "adapter_model.safetensors"
    tensors.write_bytes(tensors.read_bytes() + b"more")
    with pytest.raises(ValueError, match="half written or padded"):
        pull_folder(tmp_path / "registry", "a", tmp_path / "mine")
    tensors.unlink()
    tensors.symlink_to("/etc/hostname")
    with pytest.raises(ValueError, match="symbolic link"):
        push_folder(tmp_path / "registry" / "a", tmp_path / "registry", "b")
    assert not (tmp_path / "mine").exists() and not (tmp_path / "registry" / "b").exists()


def test_a_difference_is_that_of_the_updates_by_hand(tmp_path: Path) -> None:
    model = write(tmp_path / "a")
    layer = lora_layers(model)["blocks.0.attn.qkv"]
    update = 3 * layer.lora_B.detach() @ layer.lora_A.detach()
    with torch.no_grad():  # A and B differ, their product does not
        layer.lora_A.mul_(2)
        layer.lora_B.div_(2)
        other = lora_layers(model)["blocks.1.attn.qkv"]
        other.lora_B.mul_(1.5)
        model.get_parameter("head.bias").zero_()
    config = LoRAConfig(rank=2, alpha=6.0, target_modules=("*.qkv",))
    save_adapter(tmp_path / "b", model, config, meta("organ9", dice=None))
    found = compare_adapters(tmp_path / "a", tmp_path / "b")
    assert update.norm() > 0
    assert found.updates["blocks.0.attn.qkv"] == pytest.approx(0, abs=1e-6)
    assert found.updates["blocks.1.attn.qkv"] == pytest.approx(0.5, rel=1e-6)
    assert found.tensors == {"head.weight": 0.0, "head.bias": 1.0}
    assert found.options["adapter.metrics.dice"] == (0.8123, None)
    assert found.options["adapter.organs"] == (["organ1"], ["organ9"])
    text = difference_text(found)
    assert "50 %  blocks.1.attn.qkv" in text and "100 %  head.bias" in text
    assert "they compute different things" in text and not found.same


def test_layers_that_one_has_alone_and_other_shapes(tmp_path: Path) -> None:
    write(tmp_path / "a", head=False)
    write(tmp_path / "b", targets="*.proj")
    found = compare_adapters(tmp_path / "a", tmp_path / "b")
    assert found.only_first == ("blocks.0.attn.qkv", "blocks.1.attn.qkv")
    assert found.only_second == ("blocks.0.attn.proj", "blocks.1.attn.proj", "head.weight", "head.bias")
    assert "only in the first" in difference_text(found)
    record = json.loads((tmp_path / "a" / "sam3d.json").read_text())
    record["layers"]["blocks.0.attn.qkv"][1] = 12.0
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    (tmp_path / "c" / "sam3d.json").write_text(json.dumps(record))
    assert compare_adapters(tmp_path / "a", tmp_path / "c").updates["blocks.0.attn.qkv"] == pytest.approx(1.0)


def merged_state(model: nn.Module) -> dict[str, torch.Tensor]:
    merge_lora_weights(model)
    return {name: value.double() for name, value in model.state_dict().items() if value.is_floating_point()}


def test_a_sum_is_the_sum_of_what_each_adds_to_the_base(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a"), write(tmp_path / "b", seed=2, rank=3, targets="*.attn.*")
    parts = [Part(tmp_path / "a", 0.25), Part(tmp_path / "b", -1.5)]
    assert sum_adapters(parts, base(), "f", tmp_path / "sum") == 0.0
    model = base()
    made = load_adapter(tmp_path / "sum", model, base_fingerprint="f")
    assert lora_layers(model)["blocks.0.attn.qkv"].rank == 5 and lora_layers(model)["blocks.0.attn.proj"].rank == 3
    plain = {name: value.double() for name, value in base().state_dict().items() if value.is_floating_point()}
    a, b, total = merged_state(first), merged_state(second), merged_state(model)
    for name, before in plain.items():
        exact = before + 0.25 * (a[name] - before) - 1.5 * (b[name] - before)
        assert torch.allclose(total[name], exact, atol=1e-6), name
    assert made.organs == ("organ1", "organ2") and not made.metrics
    assert [part["weight"] for part in made.training["sum_of"]] == [0.25, -1.5]


def test_a_sum_of_one_rank_two_cut_back_to_two_loses_nothing_and_to_one_what_it_says(tmp_path: Path) -> None:
    write(tmp_path / "a", head=False)
    twice = [Part(tmp_path / "a", 0.5), Part(tmp_path / "a", 0.5)]
    assert sum_adapters(twice, base(), "f", tmp_path / "same", rank=2) < 1e-6
    assert max(compare_adapters(tmp_path / "a", tmp_path / "same").updates.values()) < 1e-6
    lost = sum_adapters(twice, base(), "f", tmp_path / "less", rank=1)
    assert lost == pytest.approx(max(compare_adapters(tmp_path / "a", tmp_path / "less").updates.values()), rel=1e-5)
    assert 0.01 < lost < 1 and math.isfinite(lost)


def test_what_does_not_belong_together_is_not_added_up(tmp_path: Path) -> None:
    write(tmp_path / "a")
    with pytest.raises(ValueError, match="this one's is g: adapters are added up on their own base"):
        sum_adapters([Part(tmp_path / "a", 1.0)], base(), "g", tmp_path / "sum")
    with pytest.raises(ValueError, match="at least one adapter, and finite weights"):
        sum_adapters([], base(), "f", tmp_path / "sum")
    with pytest.raises(ValueError, match="finite weights"):
        sum_adapters([Part(tmp_path / "a", math.nan)], base(), "f", tmp_path / "sum")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    record = json.loads((tmp_path / "b" / "sam3d.json").read_text())
    record["adapter"]["contract"]["margin_mm"] = 9
    (tmp_path / "b" / "sam3d.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"its margin_mm is 9, that of .*a is 3\.0"):
        sum_adapters([Part(tmp_path / "a", 1.0), Part(tmp_path / "b", 1.0)], base(), "f", tmp_path / "sum")
    assert not (tmp_path / "sum").exists()
