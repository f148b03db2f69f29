"""The full-size modules have exactly the released tensors; nothing is allocated."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from sam3d_objects.model.instantiate import instantiate
from sam3d_objects.model.loading import LATENT_ENCODER_CONFIG
from sam3d_objects.model.weights import EMBEDDER_PREFIX, ENCODER_CONFIG, GENERATOR_PREFIX, read_latent_settings

MILLION = 1e6
# Manifest -> millions of parameters, of everything that the release describes by one config.
BARE = {
    "ss_encoder__ASSUMED_TRELLIS_CONFIG": 59.3,
    "ss_decoder": 73.7,
    "slat_encoder__ASSUMED_TRELLIS_CONFIG": 85.8,
    "slat_decoder_mesh": 90.9,
    "slat_decoder_gs": 85.4,
    "slat_decoder_gs_4": 85.1,
}


def manifest(reference: Path, name: str) -> dict[str, Any]:
    return json.loads((reference / "manifests" / f"{name}.json").read_text(encoding="utf-8"))


def config(reference: Path, name: str) -> dict[str, Any]:
    return yaml.safe_load((reference / "release_configs" / f"{name}.yaml").read_text(encoding="utf-8"))


def build(node: dict[str, Any]) -> Any:
    with torch.device("meta"):
        return instantiate(node)


def assert_tensors(module: nn.Module, expected: dict[str, Any], prefix: str = "") -> None:
    wanted = {tensor["key"]: tuple(tensor["shape"]) for tensor in expected["tensors"]}
    assert {prefix + name: tuple(value.shape) for name, value in module.state_dict().items()} == wanted
    parameters = {prefix + name for name, _ in module.named_parameters()}
    assert parameters == {tensor["key"] for tensor in expected["tensors"] if tensor["kind"] == "param"}
    assert all(value.is_meta for value in module.state_dict().values())
    assert sum(p.numel() for p in module.parameters()) == expected["summary"]["params"]


def millions(module: nn.Module) -> float:
    return round(sum(p.numel() for p in module.parameters()) / MILLION, 1)


@pytest.mark.parametrize(
    ("file", "part", "prefix", "size"),
    [
        ("ss_generator", "generator", GENERATOR_PREFIX, 960.0),
        ("ss_generator", "condition_embedder", EMBEDDER_PREFIX, 634.5),
        ("slat_generator", "generator", GENERATOR_PREFIX, 600.4),
        ("slat_generator", "condition_embedder", EMBEDDER_PREFIX, 626.1),
    ],
)
def test_generators(shared_reference: Path, file: str, part: str, prefix: str, size: float) -> None:
    module = build(config(shared_reference, file)["module"][part]["backbone"])
    assert_tensors(module, manifest(shared_reference, f"{file}__{part}"), prefix)
    assert millions(module) == size


@pytest.mark.parametrize(("name", "size"), BARE.items())
def test_encoders_and_decoders(shared_reference: Path, name: str, size: float) -> None:
    expected = manifest(shared_reference, name)
    module = build({"_target_": expected["class_path"], **expected["config"]})
    assert_tensors(module, expected)
    assert millions(module) == size


def test_every_manifest_is_looked_at(shared_reference: Path) -> None:
    names = {path.stem for path in (shared_reference / "manifests").glob("*.json")} - {"SUMMARY"}
    generators = {
        f"{half}_generator__{part}" for half in ("ss", "slat") for part in ("generator", "condition_embedder")
    }
    assert names == generators | set(BARE)


@pytest.mark.parametrize("name", ["ss_decoder", "slat_decoder_mesh", "slat_decoder_gs", "slat_decoder_gs_4"])
def test_released_decoder_configs(shared_reference: Path, name: str) -> None:
    assert_tensors(build(config(shared_reference, name)), manifest(shared_reference, name))


@pytest.mark.parametrize(("name", "assumed"), [("ss_encoder", ENCODER_CONFIG), ("slat_encoder", LATENT_ENCODER_CONFIG)])
def test_our_configs_of_the_released_encoders(shared_reference: Path, name: str, assumed: dict[str, Any]) -> None:
    assert_tensors(build(assumed), manifest(shared_reference, f"{name}__ASSUMED_TRELLIS_CONFIG"))


def test_constants_of_the_released_flow(shared_reference: Path) -> None:
    generator = build(config(shared_reference, "ss_generator")["module"]["generator"]["backbone"])
    guidance = generator.reverse_fn
    assert (guidance.strength, guidance.interval, guidance.p_unconditional) == (2.0, (0.0, 500.0), 0.1)
    assert (generator.self_consistency_prob, generator.self_consistency_cfg_strength) == (0.25, 2.0)
    assert (generator.cfg_modalities, generator.batch_mode) == (("shape",), True)
    assert generator.loss_weights["shape"] == 0


def test_settings_of_the_released_latent_stage(shared_reference: Path) -> None:
    pipeline = config(shared_reference, "pipeline")
    settings = read_latent_settings(pipeline, shared_reference, 8)
    assert (settings.mean, settings.std) == (tuple(pipeline["slat_mean"]), tuple(pipeline["slat_std"]))
    assert (settings.steps, settings.rescale, settings.guidance) == (25, 1, 1)
