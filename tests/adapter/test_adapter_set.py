"""Adapters of several stages: read together, loaded each into its module, refused where they do not belong."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from sam3d_objects.adapter import AdapterMeta, InferenceContract, add_to_set, read_adapter_set, save_adapter
from sam3d_objects.model import SAM3DObjects
from sam3d_objects.model.lora import LoRAConfig, lora_layers, setup_from_config
from sam3d_objects.model.stages import STAGES, adapted_module, stage_fingerprint
from tests.training.small_model import small_model, whole_model

CONFIG = LoRAConfig(rank=2)
CONTRACT = InferenceContract(field_of_view="mask_margin", modality="mr", samples=3)


def write_adapter(folder: Path, stage: str, contract: InferenceContract = CONTRACT) -> Path:
    """An adapter of a stage whose B matrices are all 1."""
    model = whole_model()
    module = adapted_module(model, stage)
    setup_from_config(module, CONFIG, seed=0)
    for layer in lora_layers(module).values():
        torch.nn.init.ones_(layer.lora_B)
    fingerprint = stage_fingerprint(model, stage)
    meta = AdapterMeta(
        stage=stage, base_name="small", base_fingerprint=fingerprint, organs=("egg", stage), contract=contract
    )
    save_adapter(folder, module, CONFIG, meta)
    return folder


@pytest.fixture
def adapter_set(tmp_path: Path) -> Path:
    """One adapter of each stage."""
    for stage in STAGES:
        add_to_set(write_adapter(tmp_path / f"run_{stage}" / "best", stage), tmp_path / "best")
    return tmp_path / "best"


def test_a_set_is_read_in_the_order_of_the_stages(adapter_set: Path) -> None:
    adapters = read_adapter_set(adapter_set)
    assert adapters.stages == STAGES
    assert adapters.contract == CONTRACT
    assert adapters.organs == ("egg", "structure", "latent", "decoder")
    assert len(set(adapters.identity.split())) == 6


@pytest.mark.parametrize("chosen", [("latent",), ("structure", "decoder"), STAGES])
def test_exactly_the_chosen_stages_are_adapted(adapter_set: Path, chosen: tuple[str, ...]) -> None:
    model = whole_model()
    modules = read_adapter_set(adapter_set).only(chosen).load(model)
    assert tuple(modules) == chosen
    for stage in STAGES:
        layers = lora_layers(adapted_module(model, stage))
        assert bool(layers) == (stage in chosen)
        assert all(bool((layer.lora_B == 1).all()) for layer in layers.values())


@pytest.mark.parametrize("stage", STAGES)
def test_a_single_adapter_of_any_stage_is_a_set_of_one(tmp_path: Path, stage: str) -> None:
    adapters = read_adapter_set(write_adapter(tmp_path / "anything", stage))
    assert adapters.stages == (stage,)
    model = whole_model()
    adapters.load(model)
    assert lora_layers(adapted_module(model, stage))


def test_another_base_is_refused_for_each_stage(adapter_set: Path) -> None:
    model = whole_model()
    model.latent_stage.fingerprint = "9" * 64
    read_adapter_set(adapter_set).only(["structure"]).load(model)
    for stage in ("latent", "decoder"):
        with pytest.raises(ValueError, match=rf"best/{stage} was not loaded: it was trained on the base"):
            read_adapter_set(adapter_set).only([stage]).load(whole_model_of(model))


def whole_model_of(model: SAM3DObjects) -> SAM3DObjects:
    fresh = whole_model()
    fresh.latent_stage.fingerprint = model.latent_stage.fingerprint
    return fresh


def test_a_latent_adapter_needs_the_latent_half(adapter_set: Path) -> None:
    model = small_model()
    with pytest.raises(ValueError, match="its latent stage is not loaded"):
        read_adapter_set(adapter_set).load(model)
    assert not lora_layers(model), "nothing is changed then"


def test_a_folder_of_another_stages_name_and_one_of_no_stage_are_named(adapter_set: Path) -> None:
    shutil.rmtree(adapter_set / "latent")
    shutil.copytree(adapter_set / "decoder", adapter_set / "latent")
    with pytest.raises(ValueError, match="latent holds an adapter of the stage 'decoder': rename the folder"):
        read_adapter_set(adapter_set)
    (adapter_set / "latent").rename(adapter_set / "latents")
    with pytest.raises(ValueError, match=r"'latents', which is no stage\. Did you mean 'latent'"):
        read_adapter_set(adapter_set)


def test_adapters_for_other_slices_do_not_work_together(tmp_path: Path) -> None:
    write_adapter(tmp_path / "best" / "structure", "structure")
    write_adapter(tmp_path / "best" / "latent", "latent", dataclasses.replace(CONTRACT, margin_mm=9.0))
    with pytest.raises(ValueError, match=r"its margin_mm is 9\.0, and that of .*structure is 3\.0"):
        read_adapter_set(tmp_path / "best")
    # How the sampler is run is the structure's business.
    write_adapter(tmp_path / "best" / "latent", "latent", dataclasses.replace(CONTRACT, samples=1))
    assert read_adapter_set(tmp_path / "best").contract.samples == 3


def test_what_is_no_set_says_where_one_may_be(adapter_set: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no adapter at .*: name one inside it, such as .*/best"):
        read_adapter_set(tmp_path)
    with pytest.raises(ValueError, match="no adapter at"):
        read_adapter_set(tmp_path / "nothing")
    with pytest.raises(ValueError, match="no adapter of the stage 'latent', only of structure"):
        read_adapter_set(adapter_set).only(["structure"]).only(["latent"])
    with pytest.raises(ValueError, match="Did you mean 'decoder'"):
        read_adapter_set(adapter_set).only(["decodr"])


def test_an_adapter_of_no_known_stage_is_refused(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "best", "structure")
    record = folder / "sam3d.json"
    record.write_text(record.read_text().replace('"stage": "structure"', '"stage": "toy"'))
    with pytest.raises(ValueError, match="is of the stage 'toy'; known are structure, latent, decoder"):
        read_adapter_set(folder)


def test_a_damaged_member_is_an_error_and_not_left_out(adapter_set: Path) -> None:
    (adapter_set / "latent" / "sam3d.json").unlink()
    with pytest.raises(ValueError, match=r"latent.*sam3d.json"):
        read_adapter_set(adapter_set)


def test_what_a_kill_left_beside_the_members_does_no_harm(adapter_set: Path) -> None:
    shutil.copytree(adapter_set / "latent", adapter_set / ".latent.new")
    shutil.move(adapter_set / "decoder", adapter_set / ".decoder.old")  # killed between moving aside and replacing
    assert read_adapter_set(adapter_set).stages == STAGES


def test_a_folder_with_an_adapter_and_a_set_is_refused(adapter_set: Path) -> None:
    for file in (adapter_set / "structure").iterdir():
        shutil.copy(file, adapter_set / file.name)
    with pytest.raises(ValueError, match="both an adapter and a set"):
        read_adapter_set(adapter_set)
