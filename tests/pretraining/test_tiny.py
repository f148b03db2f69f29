"""The tiny model from its configs, through both steps of its pretraining, to files that load."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sam3d_objects.model import SAM3DObjects, load_model
from sam3d_objects.model.weights import TINY_FOLDER
from sam3d_objects.pretraining import tiny
from sam3d_objects.pretraining.bank import load_bank
from sam3d_objects.pretraining.options import PretrainOptions
from sam3d_objects.pretraining.structure_half import pretrain_structure
from sam3d_objects.pretraining.tiny import new_tiny_model, pretrain, save_tiny
from tests.training.small_model import small_latent_stage, small_model

SMALL: dict[str, Any] = {
    "shapes": 3,
    "vae_steps": 2,
    "vae_batch": 2,
    "flow_steps": 2,
    "flow_batch": 2,
    "draws": 2,
    "latent_vae_steps": 1,
    "latent_flow_steps": 2,
    "latent_flow_batch": 2,
    "workers": 0,
}
MAX_BYTES = 12_000_000


def test_saved_weights_load_as_a_base_model(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = new_tiny_model()
    for config in TINY_FOLDER.glob("*.yaml"):
        shutil.copy(config, tmp_path)
    save_tiny(model, tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.settings == model.settings
    saved = {name: value.half().float() for name, value in model.state_dict().items()}
    assert set(loaded.state_dict()) == set(saved)
    assert all(torch.equal(value, saved[name]) for name, value in loaded.state_dict().items())
    assert sum(path.stat().st_size for path in tmp_path.glob("*.safetensors")) <= MAX_BYTES


def both_halves() -> SAM3DObjects:
    model = small_model()
    model.latent = small_latent_stage()
    return model


@pytest.fixture
def fast(small_chunks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretraining of a model that is smaller yet."""
    monkeypatch.setattr(tiny, "new_tiny_model", both_halves)


def test_pretraining_resumes_bit_identical(fast: None, tmp_path: Path) -> None:
    whole, done = pretrain(PretrainOptions(tmp_path / "whole", **SMALL))
    assert done
    options = PretrainOptions(tmp_path / "parts", **SMALL, minutes=0.0)
    flags: list[bool] = []
    while not any(flags) and len(flags) < 9:
        resumed, done = pretrain(options)
        flags.append(done)
    # Two steps of each part but the latent VAE, which has one; the last step of a part goes on to the next.
    assert flags == [False, False, False, True]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize("kept", tiny.HALVES)
def test_one_half_is_kept_and_the_other_starts_from_nothing(kept: str) -> None:
    torch.manual_seed(0)
    model, shipped = new_tiny_model(), load_model("tiny", stages=tiny.HALVES)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    tiny.keep_shipped(model, kept)
    for name, value in model.state_dict().items():
        is_kept = name.startswith("latent.") == (kept == "latent")
        assert torch.equal(value, (shipped.state_dict() if is_kept else before)[name]), name


def test_other_vae_weights_have_other_latents(fast: None, tmp_path: Path) -> None:
    options = PretrainOptions(tmp_path, **SMALL)
    bank = load_bank(tmp_path, 3, 7, 16, 1)
    pretrain_structure(both_halves(), bank, options)
    pretrain_structure(both_halves(), bank, replace(options, vae_steps=3, flow_steps=1))
    assert len(list(tmp_path.glob("latents_3_*.pt"))) == 2


@torch.no_grad()
def test_the_tiny_model_is_what_its_card_says() -> None:
    model = new_tiny_model()
    settings = model.settings
    assert (settings.resolution, settings.token_count, settings.token_channels) == (32, 64, 64)
    assert settings.occupancy == "solid"
    assert sum(p.numel() for p in model.parameters()) * 2 <= MAX_BYTES
    latents = model.sample_structure(torch.randn(1, 3, 128), torch.Generator().manual_seed(0), steps=1)
    assert model.decode_structure(latents["shape"]).shape == (1, 1, 32, 32, 32)


def test_shipped_weights() -> None:
    model = load_model("tiny")
    assert model.name == "tiny"
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert sum(path.stat().st_size for path in TINY_FOLDER.glob("*.safetensors")) <= MAX_BYTES
