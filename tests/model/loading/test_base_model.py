"""A release-like folder loads: both halves, one alone, each dtype, with and without encoders."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sam3d_objects.model import load_model
from sam3d_objects.model.loading import AbsentModule, base_model
from sam3d_objects.model.sparse import SparseGrid
from sam3d_objects.model.structure.settings import StructureSettings
from tests.model.release_folder import ENCODER, FLOW, LATENT_ENCODER, WIDTH, edit_config


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


def test_the_latent_half_samples_and_decodes(release: Path) -> None:
    stage = load_model(release).latent
    assert stage is not None and stage.settings.mean == (0.5,) * 8 and stage.settings.std == (2.0,) * 8
    assert (stage.settings.steps, stage.settings.rescale, stage.settings.guidance) == (25, 1, 1)
    saved = torch.load(release / "slat_generator.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(stage.flow.state_dict()["input_layer.weight"], saved[FLOW + "input_layer.weight"])
    grid = SparseGrid(torch.argwhere(torch.ones(1, 3, 3, 3) > 0).int())
    condition = torch.randn(1, 4, WIDTH, generator=torch.Generator().manual_seed(0))
    latents = stage.sample(condition, grid, torch.Generator().manual_seed(1), steps=1, guidance=0.0)
    assert latents.shape == (27, 8) and latents.isfinite().all()
    assert len(stage.decode(latents, grid)) == 1


def test_the_structure_half_alone(release: Path) -> None:
    for path in release.glob("slat_*"):
        path.unlink()
    assert load_model(release, stages=("structure",)).latent is None
    with pytest.raises(ValueError, match=r"slat_generator\.yaml: there is no such config.*stages=\('structure',\)"):
        load_model(release)


def test_a_pipeline_without_a_latent_stage(release: Path) -> None:
    def edit(config: dict[str, Any]) -> None:
        for key in [key for key in config if key.startswith("slat_")]:
            del config[key]

    edit_config(release / "pipeline.yaml", edit)
    assert load_model(release).latent is None


@pytest.mark.parametrize("stages", [(), ("latent",), ("structure", "mesh")])
def test_stages_that_are_not_known(release: Path, stages: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"stages must be \('structure',\) or"):
        load_model(release, stages=stages)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_any_of_three_dtypes(release: Path, dtype: torch.dtype) -> None:
    model = load_model(release, dtype=dtype)
    assert {value.dtype for value in model.state_dict().values()} == {dtype}
    assert model.latent is not None and model.latent.mean.dtype == torch.float32
    plain = load_model(release)
    assert plain.latent is not None
    assert model.fingerprint == plain.fingerprint, "it is that of the files"
    assert model.latent.fingerprint == plain.latent.fingerprint != plain.fingerprint


def test_offloaded_weights_rest_on_the_cpu(release: Path) -> None:
    model = load_model(release, device="meta", offload=True)
    assert model.latent_stage.offload_device == torch.device("meta")
    assert {value.device.type for value in model.state_dict().values()} == {"cpu"}
    assert model.offload_device == torch.device("meta")
    assert load_model(release).offload_device is None


def test_an_encoder_config_of_the_folder_wins(release: Path) -> None:
    (release / "encoder.yaml").write_text(yaml.safe_dump({**ENCODER, "num_res_blocks": 2}))
    edit_config(release / "pipeline.yaml", lambda c: c.update(ss_encoder_config_path="encoder.yaml"))
    with pytest.raises(ValueError, match=r"ss_encoder\.ckpt: does not fit this model; \d+ tensors missing: blocks\."):
        load_model(release)


def test_encoders_without_a_config_are_trellis_s(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (release / "ss_encoder.yaml").unlink()
    (release / "slat_encoder.yaml").unlink()
    with pytest.raises(
        ValueError, match=r"ss_encoder\.ckpt: .*blocks\.0\.conv1\.bias \(expected \(32,\), found \(4,\)"
    ):
        load_model(release)
    monkeypatch.setattr(base_model, "ENCODER_CONFIG", ENCODER)
    with pytest.raises(ValueError, match=r"slat_encoder\.ckpt: .*expected \(2304,\), found"):
        load_model(release)
    monkeypatch.setattr(base_model, "LATENT_ENCODER_CONFIG", LATENT_ENCODER)
    load_model(release)


@pytest.mark.parametrize("found", [None, b""])
def test_an_encoder_that_is_missing_or_empty_stops_nothing_but_itself(release: Path, found: bytes | None) -> None:
    whole = load_model(release)
    for name in ("ss_encoder.ckpt", "slat_encoder.ckpt"):
        (release / name).unlink()
        if found is not None:
            (release / name).write_bytes(found)
    model = load_model(release)
    assert model.latent is not None and whole.latent is not None
    assert (model.fingerprint, model.latent.fingerprint) == (whole.fingerprint, whole.latent.fingerprint)
    said = "there is no such weight file" if found is None else r"the file is empty \(0 bytes\)"
    with pytest.raises(ValueError, match=rf"ss_encoder\.ckpt: {said}, .* Get it with scripts/download_checkpoints"):
        model.encode_structure(torch.zeros(1, 1, 64, 64, 64))
    encoder: object = model.latent.encoder
    assert isinstance(encoder, AbsentModule)
    with pytest.raises(ValueError, match=rf"slat_encoder\.ckpt: {said}"):
        encoder(torch.zeros(1))


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"base model '.*nowhere': no such folder; give 'tiny' or"):
        load_model(tmp_path / "nowhere")


def test_settings_of_a_folder(release: Path) -> None:
    given = {"steps": 3, "pose_mean": {"scale": [1, 1, 1]}, "pose_std": {"scale": [2, 2, 2]}}
    edit_config(release / "pipeline.yaml", lambda config: config.update(structure_settings=given))
    settings = load_model(release).settings
    assert (settings.steps, settings.resolution, settings.pose_std) == (3, 64, {"scale": (2, 2, 2)})
