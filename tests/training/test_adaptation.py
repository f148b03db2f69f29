"""What trains with each method, and that an adapter of each comes back whole."""

from pathlib import Path

import pytest
import torch
from torch import nn

from sam3d_objects.adapter import AdapterMeta, InferenceContract, load_adapter, read_adapter, save_adapter
from sam3d_objects.model.lora import LoRAConfig, has_lora, trainable_names
from sam3d_objects.model.stages import STAGES, adapted_module
from sam3d_objects.training.adaptation import METHODS, Adaptation
from tests.training.small_model import small_model, whole_model

META = AdapterMeta(
    stage="structure",
    base_name="small",
    base_fingerprint="f" * 64,
    organs=("egg",),
    contract=InferenceContract(field_of_view="mask_margin", modality="mr"),
)
UNREACHED = "latent_mapping.translation_scale.out_layer."


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def test_lora_trains_its_matrices_and_the_heads_that_are_named() -> None:
    module = small_model().structure_flow
    heads = ("latent_mapping.shape.out_layer",)
    summary = Adaptation("lora", LoRAConfig(rank=2, trained_modules=heads)).apply(module)
    names = trainable_names(module)
    assert {name.rpartition(".")[2] for name in names} == {"lora_A", "lora_B", "weight", "bias"}
    assert [name for name in names if "lora" not in name] == [f"{heads[0]}.{leaf}" for leaf in ("weight", "bias")]
    assert "method lora" in summary and "LoRA on" in summary


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("method", ["full", "scratch"])
def test_the_others_train_every_weight_that_a_loss_reaches(stage: str, method: str) -> None:
    module = adapted_module(whole_model(), stage)
    before = weights(module)
    torch.manual_seed(5)
    summary = Adaptation(method).apply(module)
    unreached = [name for name, _ in module.named_parameters() if name.startswith(UNREACHED)]
    assert len(unreached) == (2 if stage == "structure" else 0)
    assert set(trainable_names(module)) == {name for name, _ in module.named_parameters()} - set(unreached)
    changed = {name for name, value in weights(module).items() if not torch.equal(value, before[name])}
    if method == "full":
        assert not changed
    else:
        # A buffer, a norm's ones and zeros, and what no loss reaches stay.
        constant = {name for name, value in before.items() if (value == value.flatten()[0]).all()}
        assert changed == set(trainable_names(module)) - constant
    assert not has_lora(module)
    assert f"method {method}" in summary and "no LoRA" in summary


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("method", METHODS)
def test_an_adapter_of_each_method_comes_back_bit_for_bit(stage: str, method: str, tmp_path: Path) -> None:
    adaptation = Adaptation(method, LoRAConfig(rank=2))
    module = adapted_module(whole_model(), stage)
    torch.manual_seed(5)
    adaptation.apply(module)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(0.01 * torch.randn_like(parameter))
    save_adapter(tmp_path / "best", module, adaptation.saved_config, META)
    fresh = adapted_module(whole_model(), stage)
    load_adapter(tmp_path / "best", fresh, base_fingerprint="f" * 64)
    assert weights(fresh).keys() == weights(module).keys()
    assert all(torch.equal(value, weights(module)[name]) for name, value in weights(fresh).items())
    assert trainable_names(fresh) == trainable_names(module)
    record, card = read_adapter(tmp_path / "best"), (tmp_path / "best" / "README.md").read_text()
    assert record.config == adaptation.saved_config
    assert ("LoRA adapter" in card) == (method == "lora")
    assert ("Fully trained weights" in card) == (method != "lora")


def test_a_plain_model_is_not_saved_as_if_it_had_been_trained(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the model has no adapter"):
        save_adapter(tmp_path / "best", small_model().structure_flow, LoRAConfig(), META)


def test_a_base_in_half_precision_trains_by_lora_alone_and_its_heads_in_float32() -> None:
    module = small_model().structure_flow.to(torch.bfloat16)
    with pytest.raises(ValueError, match=r"method full .* take the base in fp32"):
        Adaptation("full").apply(module)
    Adaptation("lora", LoRAConfig(trained_modules=("latent_mapping.shape.out_layer",))).apply(module)
    assert {p.dtype for p in module.parameters() if p.requires_grad} == {torch.float32}
    assert {p.dtype for p in module.parameters() if not p.requires_grad} == {torch.bfloat16}


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(ValueError, match="method is one of lora, full, scratch; got 'lra'"):
        Adaptation("lra")
