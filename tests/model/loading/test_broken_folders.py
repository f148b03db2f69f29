"""Each way in which a base model's folder can be broken has its error."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from sam3d_objects.model import load_model
from tests.model.release_folder import ENCODER, FLOW, edit_config, edit_state


@pytest.mark.parametrize("name", ["pipeline.yaml", "ss_generator.yaml", "ss_decoder.yaml", "slat_decoder_mesh.yaml"])
def test_a_missing_or_broken_config(release: Path, name: str) -> None:
    for content, said in (
        (b"a: [1", "this is no YAML"),
        (b"\xff\xfe\x00", "this is no YAML"),
        (b"- 1", "expected a YAML mapping, got list"),
        (b"", "expected a YAML mapping, got NoneType"),
    ):
        (release / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}: {said}"):
            load_model(release)
    (release / name).unlink()
    with pytest.raises(ValueError, match=rf"{name}: there is no such config"):
        load_model(release)


WEIGHT_FILES = ["ss_generator.ckpt", "ss_decoder.ckpt", "slat_generator.ckpt", "slat_decoder_mesh.ckpt"]


ENCODER_FILES = ["ss_encoder.ckpt", "slat_encoder.ckpt"]


@pytest.mark.parametrize("name", WEIGHT_FILES)
def test_a_missing_or_empty_weight_file(release: Path, name: str) -> None:
    path = release / name
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{name}: the file is empty \(0 bytes\)"):
        load_model(release)
    path.unlink()
    with pytest.raises(ValueError, match=rf"{name}: there is no such weight file"):
        load_model(release)


@pytest.mark.parametrize("name", WEIGHT_FILES + ENCODER_FILES)
def test_a_truncated_or_foreign_weight_file(release: Path, name: str) -> None:
    path = release / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"{name}: (damaged|refused)"):
        load_model(release)
    path.write_bytes(b"\n<!DOCTYPE html><title>Access denied</title>")
    with pytest.raises(ValueError, match=rf"{name}: expected weights, but the file is a web page; log in"):
        load_model(release)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 6690136964\n")
    with pytest.raises(ValueError, match=rf"{name}: expected weights, but the file is a Git LFS pointer"):
        load_model(release)
    path.write_bytes(b"PK\x03\x04 no archive at all")
    with pytest.raises(ValueError, match=rf"{name}: (damaged|refused)"):
        load_model(release)


def test_the_weights_of_another_module(release: Path) -> None:
    shutil.copy(release / "ss_decoder.ckpt", release / "slat_decoder_mesh.ckpt")
    with pytest.raises(
        ValueError, match=r"slat_decoder_mesh\.ckpt: does not fit this model; \d+ tensors missing: .*known"
    ):
        load_model(release)
    shutil.copy(release / "ss_decoder.ckpt", release / "ss_generator.ckpt")
    with pytest.raises(ValueError, match=r"ss_generator\.ckpt: unknown tensors outside '_base_models\.': blocks"):
        load_model(release)


def test_missing_extra_and_misshapen_tensors(release: Path) -> None:
    name = FLOW + "blocks.0.mlp.shape.mlp.0."

    def edit(state: dict[str, Tensor]) -> None:
        del state[name + "bias"]
        state[FLOW + "blocks.7.colour"] = torch.zeros(1)
        state[name + "weight"] = state[name + "weight"].T.contiguous()

    edit_state(release / "ss_generator.ckpt", edit)
    with pytest.raises(ValueError, match=r"ss_generator\.ckpt: does not fit this model") as error:
        load_model(release)
    said = str(error.value)
    assert f"1 tensors missing: {name}bias (expected (64,), found nothing); " in said
    assert f"1 tensors not known: {FLOW}blocks.7.colour (expected nothing, found (1,) torch.float32); " in said
    assert f"{name}weight (expected (64, 16), found (16, 64) torch.float32); download it and its config again" in said


def test_whole_numbers_where_weights_belong(release: Path) -> None:
    edit_state(release / "ss_decoder.ckpt", lambda s: s.update({"input_layer.bias": torch.arange(8)}))
    with pytest.raises(
        ValueError, match=r"ss_decoder\.ckpt.*input_layer\.bias \(expected \(8,\), found \(8,\) torch\.int64\)"
    ):
        load_model(release)


def test_the_embedder_is_strict_too(release: Path) -> None:
    key = "_base_models.condition_embedder.idx_emb"
    edit_state(release / "ss_generator.ckpt", lambda state: state.pop(key))
    with pytest.raises(
        ValueError, match=rf"ss_generator\.ckpt.*1 tensors missing: {key} \(expected \(3, 16\), found not"
    ):
        load_model(release)


def test_tensors_outside_the_base_models(release: Path) -> None:
    edit_state(release / "ss_generator.ckpt", lambda state: state.update({"ema.decay": torch.zeros(1)}))
    said = (
        r"ckpt: unknown tensors outside '_base_models\.': ema\.decay \(expected nothing, found \(1,\) torch\.float32\)"
    )
    with pytest.raises(ValueError, match=said):
        load_model(release)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(release: Path, broken: float) -> None:
    key = "_base_models.condition_embedder.idx_emb"
    edit_state(release / "slat_generator.ckpt", lambda state: state[key][-1].fill_(broken))
    said = (
        rf"slat_generator\.ckpt: damaged; 1 tensors not finite: {key} \(found \(3, 16\) torch\.float32 with NaN or inf"
    )
    with pytest.raises(ValueError, match=said):
        load_model(release)
    edit_state(release / "ss_decoder.ckpt", lambda state: [value.fill_(broken) for value in state.values()])
    with pytest.raises(
        ValueError, match=r"ss_decoder\.ckpt: damaged; \d\d tensors not finite: blocks\..*, \.\.\.; download"
    ):
        load_model(release)


@pytest.mark.parametrize(
    ("file", "edit", "message"),
    [
        ("ss_decoder.yaml", {"_target_": "a.b.Decoder"}, r"ss_decoder\.yaml: unknown _target_ 'a\.b\.Decoder'"),
        ("ss_decoder.yaml", ENCODER, r"ss_decoder\.yaml: .*its arguments"),
        (
            "ss_generator.yaml",
            {"module": {"generator": {}}},
            r"ss_generator\.yaml: .*module\.generator\.backbone.*'backbone' is not",
        ),
        (
            "pipeline.yaml",
            {"ss_decoder_ckpt_path": None},
            r"pipeline\.yaml: it must name a file under 'ss_decoder_ckpt_path'",
        ),
        (
            "pipeline.yaml",
            {"structure_settings": {"step": 3}},
            r"pipeline\.yaml: unknown .*\['step'\]\. Did you mean 'steps'",
        ),
        ("pipeline.yaml", {"structure_settings": {"patch": 3}}, r"pipeline\.yaml: structure_settings: .*patch 3"),
        (
            "pipeline.yaml",
            {"slat_decoder_mesh_ckpt_path": 3},
            r"pipeline\.yaml: it must name a file under 'slat_decoder_mesh_ckpt_path', got 3",
        ),
        ("pipeline.yaml", {"slat_mean": [0.0] * 7}, r"pipeline\.yaml: slat_mean: expected 8 numbers, got \[0\.0"),
        ("pipeline.yaml", {"slat_std": None}, r"pipeline\.yaml: slat_std: expected 8 numbers, got None"),
        ("pipeline.yaml", {"slat_std": [0.0] * 8}, r"pipeline\.yaml: slat_std\[0\] must be a finite number above 0"),
        (
            "pipeline.yaml",
            {"slat_mean": [0.0] * 7 + [float("nan")]},
            r"pipeline\.yaml: slat_mean\[7\] must be a finite number, got nan; correct it there",
        ),
        ("pipeline.yaml", {"slat_std": [float("inf")] * 8}, r"pipeline\.yaml: slat_std\[0\] must be .*, got inf"),
        ("pipeline.yaml", {"slat_rescale_t": "fast"}, r"pipeline\.yaml: slat_rescale_t must be .* above 0, got 'fast'"),
        ("pipeline.yaml", {"slat_rescale_t": 0}, r"pipeline\.yaml: slat_rescale_t must be .* above 0, got 0"),
        ("pipeline.yaml", {"slat_cfg_strength": None}, r"pipeline\.yaml: slat_cfg_strength must be .*, got None"),
        ("pipeline.yaml", {"latent_settings": [1]}, r"pipeline\.yaml: latent_settings: expected a mapping .*got \[1\]"),
        (
            "pipeline.yaml",
            {"latent_settings": {"steps": 0}},
            r"pipeline\.yaml: latent_settings: steps must be .*, got 0",
        ),
        ("pipeline.yaml", {"structure_settings": "x"}, r"pipeline\.yaml: structure_settings: expected a mapping .*'x'"),
        (
            "pipeline.yaml",
            {"structure_settings": {"steps": 2.5}},
            r"pipeline\.yaml: structure_settings: steps must be a whole number from 1 on, got 2\.5; correct it there",
        ),
        (
            "pipeline.yaml",
            {"structure_settings": {"pose_mean": 3}},
            r"pipeline\.yaml: structure_settings: pose_mean must be a mapping with names as keys, got 3",
        ),
        (
            "pipeline.yaml",
            {"structure_settings": {"pose_mean": {"scale": 1}, "pose_std": {"scale": 1}}},
            r"pipeline\.yaml: structure_settings: pose_mean\.scale: expected 3 numbers, got 1",
        ),
        (
            "slat_decoder_mesh.yaml",
            {"resolution": 32},
            r"slat_decoder_mesh\.yaml: resolution: expected 64, that of the structure stage in .*, got 32",
        ),
        ("slat_encoder.yaml", {"resolution": 128}, r"slat_encoder\.yaml: resolution: expected 64, .*, got 128"),
        (
            "pipeline.yaml",
            {"latent_settings": {"stps": 3}},
            r"unknown latent_settings \['stps'\]\. Did you mean 'steps'",
        ),
        (
            "slat_decoder_mesh.yaml",
            {"attn_mode": "round"},
            r"slat_decoder_mesh\.yaml: \S+SLatMeshDecoderTdfyWrapper: attn_mode must be 'swin' or 'full', got 'round'",
        ),
        (
            "slat_generator.yaml",
            {"module": {"generator": {"backbone": {"_target_": "x"}}}},
            r"slat_generator\.yaml: module\.generator\.backbone: unknown _target_ 'x'",
        ),
        (
            "pipeline.yaml",
            {"ss_generator_config_path": "ss_decoder.yaml"},
            r"ss_decoder\.yaml: expected the key 'module",
        ),
    ],
)
def test_configs_that_do_not_fit(release: Path, file: str, edit: dict[str, Any], message: str) -> None:
    edit_config(release / file, lambda config: config.update(edit))
    with pytest.raises(ValueError, match=message):
        load_model(release)


def test_a_config_of_another_module(release: Path) -> None:
    (release / "ss_decoder.yaml").write_text(yaml.safe_dump(ENCODER))
    with pytest.raises(ValueError, match=r"ss_decoder\.yaml: expected the config of a StructureDecoder, got Structure"):
        load_model(release)


def test_the_flow_of_the_other_half(release: Path) -> None:
    shutil.copy(release / "ss_generator.yaml", release / "slat_generator.yaml")
    said = r"slat_generator\.yaml: .*reverse_fn\.backbone: expected the config of a LatentFlow, got StructureFlow"
    with pytest.raises(ValueError, match=said):
        load_model(release)


def test_a_latent_stage_without_its_flow(release: Path) -> None:
    edit_config(release / "pipeline.yaml", lambda config: config.pop("slat_generator_config_path"))
    said = r"pipeline\.yaml: it must name a file under 'slat_generator_config_path', got None.*stages=\('structure',\)"
    with pytest.raises(ValueError, match=said):
        load_model(release)
    assert load_model(release, stages=("structure",)).latent is None
