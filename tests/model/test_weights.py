"""A release-like folder loads, and each way in which it can be broken has its error."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from sam3d_objects.model import fingerprint, load_model, weights
from sam3d_objects.model.structure.settings import StructureSettings
from sam3d_objects.model.weights import read_tensors
from tests.model.release_folder import ENCODER, write_release

FLOW = "_base_models.generator.reverse_fn.backbone."


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "checkpoints"
    folder.mkdir()
    write_release(folder)
    return folder


@pytest.fixture
def release(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to break. The release has no encoder config, so ours is used, here of a small one."""
    monkeypatch.setattr(weights, "ENCODER_CONFIG", ENCODER)
    return Path(shutil.copytree(pristine, tmp_path / "checkpoints"))


def edit_state(path: Path, edit: Callable[[dict[str, Tensor]], object]) -> None:
    content = torch.load(path, weights_only=True)
    edit(content.get("state_dict", content))
    torch.save(content, path)


def edit_config(path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    content = yaml.safe_load(path.read_text())
    edit(content)
    path.write_text(yaml.safe_dump(content))


def test_loads_and_samples(release: Path) -> None:
    model = load_model(release)
    assert (model.name, model.settings) == ("checkpoints", StructureSettings())
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    condition = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(0))
    latents = model.sample_structure(condition, torch.Generator().manual_seed(1), steps=1, guidance=0.0)
    assert latents["shape"].shape == (1, 4096, 8)
    assert all(value.isfinite().all() for value in latents.values())
    assert model.decode_structure(latents["shape"]).shape == (1, 1, 64, 64, 64)
    assert model.encode_structure(torch.zeros(1, 1, 64, 64, 64)).shape == (1, 4096, 8)


def test_loaded_weights_are_those_of_the_files(release: Path) -> None:
    model = load_model(release)
    saved = torch.load(release / "ss_generator.ckpt", weights_only=True)["state_dict"]
    name = "blocks.0.self_attn.to_qkv.shape.weight"
    assert torch.equal(model.structure_flow.state_dict()[name], saved[FLOW + name])
    half = torch.load(release / "ss_decoder.ckpt", weights_only=True)
    assert half["blocks.0.conv1.weight"].dtype == torch.float16
    assert torch.equal(
        model.structure_decoder.state_dict()["blocks.0.conv1.weight"], half["blocks.0.conv1.weight"].float()
    )
    cast = load_model(release, dtype=torch.bfloat16)
    assert {value.dtype for value in cast.state_dict().values()} == {torch.bfloat16}


def test_an_encoder_config_of_the_folder_wins(release: Path) -> None:
    (release / "encoder.yaml").write_text(yaml.safe_dump({**ENCODER, "num_res_blocks": 2}))
    edit_config(release / "pipeline.yaml", lambda c: c.update(ss_encoder_config_path="encoder.yaml"))
    with pytest.raises(ValueError, match=r"ss_encoder\.ckpt: does not fit this model; \d+ tensors missing: blocks\."):
        load_model(release)


@pytest.mark.parametrize("name", ["pipeline.yaml", "ss_generator.yaml", "ss_decoder.yaml"])
def test_a_missing_or_broken_config(release: Path, name: str) -> None:
    (release / name).write_text("a: [1")
    with pytest.raises(ValueError, match=rf"{name}: this is no YAML"):
        load_model(release)
    (release / name).write_text("- 1")
    with pytest.raises(ValueError, match=rf"{name}: expected a YAML mapping, got list"):
        load_model(release)
    (release / name).unlink()
    with pytest.raises(ValueError, match=rf"{name}: there is no such config"):
        load_model(release)


WEIGHT_FILES = ["ss_generator.ckpt", "ss_decoder.ckpt", "ss_encoder.ckpt"]


@pytest.mark.parametrize("name", WEIGHT_FILES)
def test_a_missing_empty_or_truncated_weight_file(release: Path, name: str) -> None:
    path = release / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=rf"{name}: (damaged|refused)"):
        load_model(release)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=rf"{name}: the file is empty \(0 bytes\)"):
        load_model(release)
    path.unlink()
    with pytest.raises(ValueError, match=rf"{name}: there is no such weight file"):
        load_model(release)


class Payload:
    """Runs code when a careless reader unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def test_a_pickle_payload_is_refused(release: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    torch.save({"state_dict": {"a": Payload(mark)}}, release / "ss_decoder.ckpt")
    with pytest.raises(
        ValueError, match=r"ss_decoder\.ckpt: refused, for it holds more than tensors \(\w+\.system\)"
    ) as error:
        load_model(release)
    assert "weights_only" not in str(error.value), "torch's hint how to run the code is not passed on"
    with (release / "ss_decoder.ckpt").open("wb") as stream:
        pickle.dump({"a": Payload(mark)}, stream)
    with pytest.raises(ValueError, match=r"ss_decoder\.ckpt: refused"):
        load_model(release)
    assert not mark.exists()


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"a": 1}, {"state_dict": [1]}, torch.zeros(3)])
def test_what_is_no_state_dict(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=r"w\.pt: expected a mapping of names to tensors"):
        read_tensors(tmp_path / "w.pt")


@pytest.mark.parametrize("kind", ["zip.pt", "old.pt", "s.safetensors"])
def test_damage_anywhere_is_a_value_error(tmp_path: Path, kind: str) -> None:
    path, state = tmp_path / kind, {f"layer.{i}": torch.randn(7, 5) for i in range(3)}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip.pt")
    assert {n: tuple(v.shape) for n, v in read_tensors(path).items()} == dict.fromkeys(state, (7, 5))
    whole, generator = path.read_bytes(), np.random.default_rng(0)
    damaged = [whole[:length] for length in range(1, len(whole), max(1, len(whole) // 40))]
    for _ in range(150):
        flipped = bytearray(whole)
        for place in generator.integers(len(whole), size=3):
            flipped[place] ^= int(generator.integers(1, 256))
        damaged.append(bytes(flipped))
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            read_tensors(path)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused >= 40


def test_missing_extra_and_misshapen_tensors(release: Path) -> None:
    name = FLOW + "blocks.0.mlp.shape.mlp.0."

    def edit(state: dict[str, Tensor]) -> None:
        del state[name + "bias"]
        state[FLOW + "blocks.7.colour"] = torch.zeros(1)
        state[name + "weight"] = state[name + "weight"].T.contiguous()

    edit_state(release / "ss_generator.ckpt", edit)
    short = name.removeprefix("_base_models.generator.")
    with pytest.raises(ValueError, match=r"ss_generator\.ckpt: does not fit this model") as error:
        load_model(release)
    assert f"1 tensors missing: {short}bias" in str(error.value)
    assert "1 tensors not known: reverse_fn.backbone.blocks.7.colour" in str(error.value)
    assert f"{short}weight (expected (64, 16), found (16, 64) torch.float32)" in str(error.value)


def test_whole_numbers_where_weights_belong(release: Path) -> None:
    edit_state(release / "ss_decoder.ckpt", lambda s: s.update({"input_layer.bias": torch.arange(8)}))
    with pytest.raises(
        ValueError, match=r"ss_decoder\.ckpt.*input_layer\.bias \(expected \(8,\), found \(8,\) torch.int64"
    ):
        load_model(release)


def test_the_embedder_is_strict_too(release: Path) -> None:
    key = "_base_models.condition_embedder.idx_emb"
    edit_state(release / "ss_generator.ckpt", lambda state: state.pop(key))
    with pytest.raises(ValueError, match=r"ss_generator\.ckpt.*1 tensors missing: idx_emb"):
        load_model(release)


def test_tensors_outside_the_base_models(release: Path) -> None:
    edit_state(release / "ss_generator.ckpt", lambda state: state.update({"ema.decay": torch.zeros(1)}))
    with pytest.raises(ValueError, match=r"ss_generator\.ckpt: unknown tensors outside '_base_models\.': ema\.decay"):
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


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"base model '.*nowhere': no such folder; give 'tiny' or"):
        load_model(tmp_path / "nowhere")


def test_settings_of_a_folder(release: Path) -> None:
    given = {"steps": 3, "pose_mean": {"scale": [1, 1, 1]}, "pose_std": {"scale": [2, 2, 2]}}
    edit_config(release / "pipeline.yaml", lambda config: config.update(structure_settings=given))
    settings = load_model(release).settings
    assert (settings.steps, settings.resolution, settings.pose_std) == (3, 64, {"scale": (2, 2, 2)})


def test_fingerprint_tells_any_change(release: Path) -> None:
    model = load_model(release)
    assert model.fingerprint == load_model(release).fingerprint == fingerprint(model)
    assert len(model.fingerprint) == 64
    seen = {model.fingerprint}
    for value in model.state_dict().values():
        flat = value.view(-1)
        before = flat[-1].clone()
        flat[-1] += 0.5
        seen.add(fingerprint(model))
        flat[-1] = before
    assert len(seen) == 1 + len(model.state_dict())
    assert fingerprint(model) == model.fingerprint


def test_fingerprint_tells_names_shapes_and_dtypes() -> None:
    def of(**tensors: Tensor) -> str:
        module = torch.nn.Module()
        for name, value in tensors.items():
            module.register_buffer(name, value)
        return fingerprint(module)

    zeros = torch.zeros(2, 3)
    variants = [of(a=zeros), of(b=zeros), of(a=zeros.T), of(a=zeros.half()), of(a=zeros, b=torch.zeros(()))]
    assert len(set(variants)) == len(variants)
    assert of(a=zeros, b=zeros + 1) == of(b=zeros + 1, a=zeros)
    assert of(a=torch.zeros(3, 2).T) == of(a=zeros), "the layout in memory does not matter"
