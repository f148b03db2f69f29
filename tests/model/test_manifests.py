"""The full-size modules have exactly the released tensors; nothing is allocated."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from sam3d_objects.model.instantiate import instantiate
from sam3d_objects.model.weights import EMBEDDER_PREFIX, ENCODER_CONFIG, GENERATOR_PREFIX

MILLION = 1e6


def manifest(reference: Path, name: str) -> dict[str, Any]:
    return json.loads((reference / "manifests" / f"{name}.json").read_text(encoding="utf-8"))


def assert_tensors(module: nn.Module, expected: dict[str, Any], prefix: str = "") -> None:
    wanted = {tensor["key"]: tuple(tensor["shape"]) for tensor in expected["tensors"]}
    assert {prefix + name: tuple(value.shape) for name, value in module.state_dict().items()} == wanted
    parameters = {prefix + name for name, _ in module.named_parameters()}
    assert parameters == {tensor["key"] for tensor in expected["tensors"] if tensor["kind"] == "param"}
    assert all(value.is_meta for value in module.state_dict().values())


@pytest.fixture(scope="module")
def released_node(shared_reference: Path) -> dict[str, Any]:
    return yaml.safe_load((shared_reference / "release_configs" / "ss_generator.yaml").read_text())["module"]


@pytest.mark.parametrize(
    ("part", "name", "prefix", "millions"),
    [
        ("generator", "ss_generator__generator", GENERATOR_PREFIX, 960.0),
        ("condition_embedder", "ss_generator__condition_embedder", EMBEDDER_PREFIX, 634.5),
    ],
)
def test_structure_generator(
    shared_reference: Path, released_node: dict[str, Any], part: str, name: str, prefix: str, millions: float
) -> None:
    with torch.device("meta"):
        module = instantiate(released_node[part]["backbone"])
    assert_tensors(module, manifest(shared_reference, name), prefix)
    assert round(sum(p.numel() for p in module.parameters()) / MILLION, 1) == millions


@pytest.mark.parametrize(("name", "millions"), [("ss_encoder__ASSUMED_TRELLIS_CONFIG", 59.3), ("ss_decoder", 73.7)])
def test_structure_vae(shared_reference: Path, name: str, millions: float) -> None:
    expected = manifest(shared_reference, name)
    with torch.device("meta"):
        module = instantiate({"_target_": expected["class_path"], **expected["config"]})
    assert_tensors(module, expected)
    assert round(sum(p.numel() for p in module.parameters()) / MILLION, 1) == millions


def test_our_config_of_the_released_encoder(shared_reference: Path) -> None:
    with torch.device("meta"):
        encoder = instantiate(ENCODER_CONFIG)
    assert_tensors(encoder, manifest(shared_reference, "ss_encoder__ASSUMED_TRELLIS_CONFIG"))


def test_released_decoder_config(shared_reference: Path) -> None:
    config = yaml.safe_load((shared_reference / "release_configs" / "ss_decoder.yaml").read_text())
    with torch.device("meta"):
        decoder = instantiate(config)
    assert_tensors(decoder, manifest(shared_reference, "ss_decoder"))


def test_constants_of_the_released_flow(released_node: dict[str, Any]) -> None:
    with torch.device("meta"):
        generator = instantiate(released_node["generator"]["backbone"])
    guidance = generator.reverse_fn
    assert (guidance.strength, guidance.interval, guidance.p_unconditional) == (2.0, (0.0, 500.0), 0.1)
    assert (generator.self_consistency_prob, generator.self_consistency_cfg_strength) == (0.25, 2.0)
    assert (generator.cfg_modalities, generator.batch_mode) == (("shape",), True)
    assert generator.loss_weights["shape"] == 0
