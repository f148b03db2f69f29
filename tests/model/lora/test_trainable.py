"""What may move, how it is counted and shown, and that nothing else moves."""

from pathlib import Path

import pytest
import torch
from torch import nn

from sam3d_objects.adapter import adapter_file_bytes
from sam3d_objects.model.lora import (
    count_parameters,
    freeze_base_params,
    get_lora_params,
    inject_lora,
    lora_summary,
    movement,
    setup_lora_for_medical_finetuning,
    tensor_digests,
    trainable_names,
    trained_fully,
    unfreeze,
)
from tests.model.lora.standins import (
    TwoStreamFlow,
    VisionTransformer,
    WholeModel,
    flow_inputs,
    released_structure_flow,
    train_steps,
)


def test_counts_by_hand() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2))
    inject_lora(model, "0", rank=2)
    base, lora = 3 * 5 + 5 + 5 * 2 + 2, 2 * 3 + 5 * 2
    assert count_parameters(model) == {"total": base + lora, "trainable": lora, "lora": lora}
    assert freeze_base_params(model) == (base, lora)
    assert [p.shape for p in get_lora_params(model)] == [(2, 3), (5, 2)]
    assert unfreeze(model, "1") == 12
    assert count_parameters(model) == {"total": base + lora, "trainable": lora + 12, "lora": lora}
    assert freeze_base_params(model) == (base, lora), "freezing the base freezes heads again"


def test_shared_parameters_count_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert count_parameters(model)["total"] == 16 + 4 + 4
    assert freeze_base_params(model) == (24, 0)


def test_setup_adapts_attention_and_unfreezes_heads(capsys: pytest.CaptureFixture[str]) -> None:
    model = WholeModel()
    counts = setup_lora_for_medical_finetuning(model, rank=2)
    heads = [name for name in trainable_names(model) if "lora_" not in name]
    assert heads == [
        f"structure_flow.latent_mapping.{name}.out_layer.{leaf}"
        for name in ("shape", "6drotation_normalized", "scale")
        for leaf in ("weight", "bias")
    ]
    assert counts == count_parameters(model)
    shown = capsys.readouterr().out
    assert lora_summary(model) in shown
    assert "structure_flow.blocks.{0..2}.self_attn.to_qkv.shape" in shown
    assert "16->48 r2 alpha 8  x3" in shown
    assert "structure_flow.latent_mapping.shape.out_layer" in shown
    assert f"trainable {counts['trainable']:,} of {counts['total']:,}" in shown


def test_setup_without_heads_with_norms_and_named_modules() -> None:
    model = TwoStreamFlow(blocks=2)
    setup_lora_for_medical_finetuning(
        model,
        unfreeze_output_layers=False,
        target_modules="blocks.1.self_attn.to_qkv.*",
        trained_modules=["latent_mapping.scale.pos_emb"],
        unfreeze_norms=True,
        verbose=False,
    )
    modules, parameters = trained_fully(model)
    assert modules == ["blocks.1.norm2"], "norms of adapted blocks only"
    assert parameters == ["latent_mapping.scale.pos_emb"]


def test_setup_names_heads_that_are_not_there() -> None:
    with pytest.raises(ValueError, match="name its heads in output_layer_names"):
        setup_lora_for_medical_finetuning(VisionTransformer(), target_modules="*.qkv", verbose=False)
    with pytest.raises(ValueError, match=r"'heat' matches nothing.*head"):
        setup_lora_for_medical_finetuning(
            VisionTransformer(), target_modules="*.qkv", output_layer_names=["heat"], verbose=False
        )
    model = VisionTransformer()
    setup_lora_for_medical_finetuning(model, target_modules="*.qkv", output_layer_names=["head"], verbose=False)
    assert trained_fully(model) == (["head"], [])


def test_a_layer_is_adapted_or_trained_fully_not_both() -> None:
    model = TwoStreamFlow(blocks=1)
    inject_lora(model)
    with pytest.raises(ValueError, match=r"with an adapter can't train fully: blocks\.0\.cross_attn"):
        unfreeze(model, "blocks.0.cross_attn.shape")
    unfreeze(model, "t_embedder")
    with pytest.raises(ValueError, match=r"t_embedder\.0 is trained fully"):
        inject_lora(model, "t_embedder.0")


def test_first_step_moves_every_b_second_every_a_and_nothing_else_ever() -> None:
    torch.manual_seed(0)
    model = TwoStreamFlow()
    setup_lora_for_medical_finetuning(model, verbose=False)
    names = set(trainable_names(model))
    matrices_a = {name for name in names if name.endswith("lora_A")}
    before = tensor_digests(model)
    train_steps(model, 1)
    first = movement(before, model)
    assert set(first.still) == matrices_a and set(first.moved) == names - matrices_a and not first.leaked
    with pytest.raises(ValueError, match=r"did not move: blocks\.\{0\.\.2\}\.self_attn\.to_qkv\.shape\.lora_A"):
        first.require()
    train_steps(model, 1)
    second = movement(before, model)
    assert set(second.moved) == names and not second.still and not second.leaked
    second.require()


def test_movement_names_what_leaked() -> None:
    model = TwoStreamFlow(blocks=1)
    inject_lora(model)
    before = tensor_digests(model)
    with torch.no_grad():
        model.get_parameter("latent_mapping.scale.pos_emb").add_(1)
    with pytest.raises(ValueError, match=r"frozen, but they moved: latent_mapping\.scale\.pos_emb"):
        movement(before, model).require()
    with pytest.raises(ValueError, match="other tensors than before"):
        movement(before, TwoStreamFlow(blocks=1))


def test_movement_sees_buffers_and_half_precision() -> None:
    model = VisionTransformer().bfloat16()
    inject_lora(model, "*.qkv")
    before = tensor_digests(model)
    model.get_buffer("norm.running_mean").add_(1)
    assert movement(before, model).leaked == ("norm.running_mean",)


def test_summary_is_exact_where_numbers_do_not_fill_a_grid() -> None:
    model = TwoStreamFlow(blocks=4)
    inject_lora(model, ["blocks.[013].self_attn.to_qkv.shape"])
    text = lora_summary(model)
    assert "LoRA on 3 layers" in text
    assert "blocks.{0,1,3}.self_attn.to_qkv.shape" in text


def test_works_under_gradient_checkpointing() -> None:
    model = TwoStreamFlow(blocks=1)
    inject_lora(model)
    x = torch.randn(2, 3, 16)
    out = torch.utils.checkpoint.checkpoint(model.blocks[0], "shape", x, use_reentrant=False)
    out.sum().backward()
    stream = [p.grad for name, p in model.named_parameters() if name.endswith("lora_B") and ".shape" in name]
    assert len(stream) == 5 and all(grad is not None for grad in stream)


def test_rank_4_adapter_of_the_released_structure_flow_is_counted_on_meta(shared_folder: Path) -> None:
    model = released_structure_flow(shared_folder)
    base = count_parameters(model)["total"]
    assert round(base / 1e6, 1) == 960.0
    inject_lora(model, rank=4)
    counts = count_parameters(model)
    # Per block and stream: qkv (C + 3C), out (C + C), q (C + C), kv (C + 2C), out (C + C), with C = 1024.
    assert counts["lora"] == 24 * 2 * 4 * 1024 * (4 + 2 + 2 + 3 + 2) == 2_555_904
    assert counts["total"] == base + counts["lora"]
    assert "blocks.{0..23}.self_attn.to_qkv.shape" in lora_summary(model)
    assert "1024->3072 r4 alpha 8  x24" in lora_summary(model)
    size = adapter_file_bytes(model)
    assert 4 * counts["lora"] < size < 4 * counts["lora"] + 200_000


def test_flow_inputs_are_the_same_each_time() -> None:
    """Comparisons of outputs in these tests rest on it."""
    assert torch.equal(flow_inputs()["shape"], flow_inputs()["shape"])
