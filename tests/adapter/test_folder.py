"""The adapter folder: what is in it, that it comes back whole, and what is refused by name."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from sam3d_objects.adapter import (
    RESEARCH_USE,
    AdapterMeta,
    InferenceContract,
    adapter_file_bytes,
    load_adapter,
    read_adapter,
    save_adapter,
)
from sam3d_objects.model.lora import (
    LoRAConfig,
    count_parameters,
    get_lora_state_dict,
    has_lora,
    inject_lora,
    merge_lora_weights,
    setup_lora_for_medical_finetuning,
    trainable_names,
    unfreeze,
)
from tests.model.lora.standins import (
    TwoStreamFlow,
    VisionTransformer,
    WholeModel,
    flow_inputs,
    randomise_adapters,
)

TENSORS = "adapter_model.safetensors"
CONFIG = LoRAConfig(rank=3, patterns={"structure_flow.blocks.0.*to_q": {"rank": 2, "alpha": 1.5}})
META = AdapterMeta(
    stage="structure",
    base_name="tiny",
    base_fingerprint="fingerprint-of-the-base",
    organs=("liver", "spleen"),
    contract=InferenceContract(field_of_view="mask_margin", modality="mr", samples=4, threshold=0.4),
    metrics={"val_dice": 0.7512345, "liver": {"dice": 0.81, "hd95_mm": 4.25}, "spleen": {"dice": None}},
    training={"epochs": 3, "data_fingerprint": "abc"},
)


def base() -> WholeModel:
    torch.manual_seed(1)
    return WholeModel()


def adapted() -> WholeModel:
    model = base()
    setup_lora_for_medical_finetuning(
        model, rank=3, dropout=0.1, target_modules="*.to_qkv.*", patterns=CONFIG.patterns, verbose=False
    )
    unfreeze(model, "structure_flow.latent_mapping.scale.pos_emb")
    randomise_adapters(model)
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_adapter(tmp_path / "best", adapted(), CONFIG, META)
    return tmp_path / "best"


def rewrite_tensors(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    tensors = load_file(folder / TENSORS)
    change(tensors)
    save_file(tensors, folder / TENSORS)


def rewrite_record(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    record = json.loads((folder / "sam3d.json").read_text())
    change(record)
    (folder / "sam3d.json").write_text(json.dumps(record))


def test_saved_and_loaded_is_the_same_model(folder: Path) -> None:
    trained, fresh = adapted().eval(), base().eval()
    random_state = torch.get_rng_state()
    meta = load_adapter(folder, fresh)
    assert torch.equal(torch.get_rng_state(), random_state), "loading draws no random numbers"
    assert meta == META
    assert trainable_names(fresh) == trainable_names(trained)
    first, second = trained.structure_flow(flow_inputs()), fresh.structure_flow(flow_inputs())
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_folder_holds_four_files_and_the_record_reads_without_tensors(folder: Path) -> None:
    assert sorted(file.name for file in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        TENSORS,
        "sam3d.json",
    ]
    record = read_adapter(folder)
    assert (record.meta, record.config) == (META, CONFIG)
    assert record.parameters == count_parameters(adapted())
    few = record.layers["structure_flow.blocks.0.cross_attn.shape.to_q"]
    assert (few.rank, few.alpha, few.dropout) == (2, 1.5, 0.1)
    assert "structure_flow.latent_mapping.scale.pos_emb" in record.trained


def test_the_size_on_disk_is_told_exactly(folder: Path) -> None:
    assert adapter_file_bytes(adapted()) == (folder / TENSORS).stat().st_size


def test_the_card_says_what_it_must(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    for text in (
        RESEARCH_USE,
        "not for diagnosis",
        "SAM License",
        "liver, spleen",
        "fingerprint-of-the-base",
    ):
        assert text in card
    assert "PEFT refuses" not in card
    assert "| liver | 0.81 | 4.25 |" in card
    assert "| spleen | no value | no value |" in card
    assert "| val_dice | 0.7512 |" in card
    assert "MR (percentiles 0.5 to 99.5)" in card and "3 mm around" in card


def test_the_card_of_a_released_base_carries_its_licence(tmp_path: Path) -> None:
    ct = InferenceContract(field_of_view="scan", modality="ct", scene_scale_mm=64.0)
    meta = AdapterMeta(
        stage="structure", base_name="sam-3d-objects", base_fingerprint="f", organs=("liver",), contract=ct
    )
    save_adapter(tmp_path / "a", adapted(), CONFIG, meta)
    card = (tmp_path / "a/README.md").read_text()
    assert "come under the **SAM License**" in card and "license: other" in card
    assert "None were recorded." in card and "window -160 to 240 HU" in card
    assert "the whole slice; 1 in its positions is 64 mm" in card


def test_saving_again_replaces_and_other_peoples_files_stay(folder: Path) -> None:
    model = adapted()
    randomise_adapters(model, seed=8)
    save_adapter(folder, model, CONFIG, META)
    fresh = base()
    load_adapter(folder, fresh)
    state, expected = get_lora_state_dict(fresh), get_lora_state_dict(model)
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert [path.name for path in folder.parent.iterdir()] == ["best"], "nothing temporary stays"
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds other files \(thesis\.txt\)"):
        save_adapter(folder, model, CONFIG, META)
    assert (folder / "thesis.txt").read_text() == "mine"
    with pytest.raises(ValueError, match="is a file"):
        save_adapter(folder / "thesis.txt", model, CONFIG, META)


def test_a_full_disk_names_the_folder_and_leaves_the_older_adapter(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}

    def full(*_args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match=r"cannot write .*best.*No space left") as error:
            save_adapter(folder, adapted(), CONFIG, META)
    assert error.value.errno == errno.ENOSPC
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["best"]
    load_adapter(folder, base())


def test_another_base_is_refused(folder: Path) -> None:
    other = base()
    other.fingerprint = "fingerprint-of-another"
    with pytest.raises(ValueError, match=r"trained on the base 'tiny' .*this model's is fingerprint-of-another"):
        load_adapter(folder, other)
    assert not has_lora(other)
    load_adapter(folder, other, base_fingerprint="fingerprint-of-the-base")
    with pytest.raises(ValueError, match="give base_fingerprint"):
        load_adapter(folder, TwoStreamFlow())


def test_a_model_of_another_structure_is_refused(folder: Path) -> None:
    shallow = base()
    shallow.structure_flow = TwoStreamFlow(blocks=1)
    with pytest.raises(ValueError, match=r"structure_flow\.blocks\.1\S+: an adapter needs an nn\.Linear.*no such"):
        load_adapter(folder, shallow)
    wide = base()
    wide.structure_flow = TwoStreamFlow(channels=32)
    with pytest.raises(ValueError, match=r"lora_A has shape \(3, 16\), the model needs \(3, 32\)"):
        load_adapter(folder, wide)
    assert not has_lora(shallow) and not has_lora(wide)


def test_a_model_with_adapters_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="has adapters already"):
        load_adapter(folder, adapted())


QKV = "structure_flow.blocks.0.self_attn.to_qkv.shape"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop(f"base_model.model.{QKV}.lora_A.weight"), rf"missing: {QKV}\.lora_A"),
        (
            lambda t: t.pop("base_model.model.structure_flow.latent_mapping.scale.out_layer.bias"),
            r"missing: structure_flow\.latent_mapping\.scale\.out_layer\.bias",
        ),
        (
            lambda t: t.update({"base_model.model.extra.lora_A.weight": torch.zeros(2)}),
            r"not in the model: extra\.lora_A",
        ),
        (
            lambda t: t.update({f"base_model.model.{QKV}.lora_B.weight": torch.zeros(48, 5)}),
            rf"{QKV}\.lora_B has shape \(48, 5\), the model needs \(48, 3\)",
        ),
        (lambda t: t.update({"surprise": torch.zeros(2)}), "'surprise' is no adapter's tensor"),
        (lambda t: t[f"base_model.model.{QKV}.lora_B.weight"].add_(1), "is not the file that was saved"),
    ],
)
def test_missing_extra_misshapen_and_changed_tensors_are_named(
    folder: Path, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    rewrite_tensors(folder, change)
    model = base()
    with pytest.raises(ValueError, match=message) as error:
        load_adapter(folder, model)
    assert str(folder) in str(error.value)
    assert not has_lora(model) and all(p.requires_grad for p in model.parameters())


def test_loading_that_is_not_strict_warns(folder: Path) -> None:
    rewrite_tensors(folder, lambda t: t.pop(f"base_model.model.{QKV}.lora_A.weight"))
    with pytest.warns(UserWarning, match=rf"not strict.*{QKV}\.lora_A"):
        load_adapter(folder, base(), strict=False)


@pytest.mark.parametrize("name", [TENSORS, "adapter_config.json", "sam3d.json"])
def test_a_folder_with_a_file_missing_is_half_written(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ValueError, match=f"half written, {name} missing"):
        load_adapter(folder, base())


@pytest.mark.parametrize("kept", [0, 5, 3000])
def test_a_truncated_tensor_file_is_half_written(folder: Path, kept: int) -> None:
    file = folder / TENSORS
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"adapter_model\.safetensors is half written"):
        load_adapter(folder, base())


def test_a_truncated_record_is_half_written(folder: Path) -> None:
    file = folder / "sam3d.json"
    file.write_text(file.read_text()[:200])
    with pytest.raises(ValueError, match=r"sam3d\.json is not valid JSON.*half written"):
        load_adapter(folder, base())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(format=2), "format 2"),
        (lambda r: r.pop("layers"), "lacks 'layers'"),
        (lambda r: r["adapter"].pop("stage"), "adapter lacks stage"),
        (lambda r: r["adapter"].update(stag="x"), "unknown key 'stag'. Did you mean 'stage'"),
        (lambda r: r["adapter"]["contract"].update(modality="xray"), "modality is one of ct, mr, us"),
        (lambda r: r["adapter"]["contract"].update(thresold=1), "'thresold'. Did you mean 'threshold'"),
        (lambda r: r["layers"].update({QKV: [0, 8.0, 0.0]}), "rank is a whole number"),
        (lambda r: r.update(lora=3), "not an adapter's record"),
    ],
)
def test_a_record_that_is_not_one_is_refused(
    folder: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    rewrite_record(folder, change)
    with pytest.raises(ValueError, match=message):
        load_adapter(folder, base())


def test_no_adapter_there_names_those_inside(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"no adapter at .*; there are adapters inside it: best"):
        read_adapter(folder.parent)
    with pytest.raises(ValueError, match="no adapter at"):
        read_adapter(folder.parent / "nowhere")


def test_what_cannot_be_saved(tmp_path: Path) -> None:
    model = adapted()
    with torch.no_grad():
        model.get_parameter("structure_flow.latent_mapping.scale.pos_emb")[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"not finite: structure_flow\.latent_mapping\.scale\.pos_emb"):
        save_adapter(tmp_path / "a", model, CONFIG, META)
    merged = adapted()
    merge_lora_weights(merged)
    with pytest.raises(ValueError, match="nothing to save"):
        save_adapter(tmp_path / "a", merged, CONFIG, META)
    assert not any(tmp_path.iterdir())


def test_a_training_record_that_is_not_json_leaves_nothing(tmp_path: Path) -> None:
    meta = AdapterMeta(
        stage="structure",
        base_name="tiny",
        base_fingerprint="f",
        organs=("liver",),
        contract=META.contract,
        training={"loss": float("nan")},
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_adapter(tmp_path / "a", adapted(), CONFIG, meta)
    assert not any(tmp_path.iterdir())


def test_another_backbone_with_buffers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = VisionTransformer()
    inject_lora(model, "*.qkv")
    unfreeze(model, ["norm", "head"])
    randomise_adapters(model)
    model(torch.randn(8, 12))
    save_adapter(tmp_path / "vit", model, LoRAConfig(target_modules=("*.qkv",)), META)
    torch.manual_seed(0)
    fresh = VisionTransformer()
    load_adapter(tmp_path / "vit", fresh, base_fingerprint=META.base_fingerprint)
    x = torch.randn(4, 12)
    assert torch.equal(fresh.eval()(x), model.eval()(x))
