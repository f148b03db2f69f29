"""Configs that are YAML, but broken: each gives a ValueError with the file, the key and what was expected."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from sam3d_objects.model import load_model
from sam3d_objects.model.condition.fuser import EmbedderFuser
from sam3d_objects.model.generator import FlowGenerator
from sam3d_objects.model.loading import build_module
from tests.model.release_folder import edit_config, generator_config, latent_generator_config

FLOW = "module.generator.backbone.reverse_fn"
DINO = "module.condition_embedder.backbone.embedder_list.0.0"
ODD: tuple[object, ...] = (None, "x", 0, -1, 3, [], {}, [1], float("nan"))
WHERE = Path("generator.yaml")


def put(node: Any, key: str, value: object) -> None:
    *above, last = key.split(".")
    for step in above:
        node = node[int(step) if isinstance(node, list) else step]
    node[int(last) if isinstance(node, list) else last] = value


def keys(node: Any, key: str = "") -> Iterator[str]:
    steps = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for step, value in steps:
        below = f"{key}.{step}" if key else str(step)
        yield below
        yield from keys(value, below)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (FLOW, None, f"{FLOW}: expected the config of a GuidedNetwork, got NoneType"),
        (FLOW, "x", f"{FLOW}: expected the config of a GuidedNetwork, got str"),
        (f"{FLOW}.backbone", None, f"{FLOW}.backbone: expected the config of a StructureFlow, got NoneType"),
        (f"{FLOW}._target_", ["a"], rf"{FLOW}: unknown _target_ \['a'\]"),
        (f"{FLOW}.backbone.num_heads", 0, rf"{FLOW}.backbone: \S+: num_heads must be a whole number from 1 on, got 0"),
        (f"{FLOW}.backbone.num_heads", 3, rf"{FLOW}.backbone: \S+: num_heads must divide model_channels 16, got 3"),
        (f"{FLOW}.backbone.model_channels", 10.0, r"model_channels must be a whole number from 1 on, got 10\.0"),
        (f"{FLOW}.backbone.qk_rms_norm", "no", r"qk_rms_norm must be true or false, got 'no'"),
        (f"{FLOW}.backbone.latent_mapping", "x", rf"{FLOW}.backbone: \S+: latent_mapping has \[.x.\]; missing: "),
        (
            f"{FLOW}.backbone.latent_mapping.scale.pos_embedder",
            1,
            r"latent_mapping\.scale: .* do not fit: AttributeError",
        ),
        (f"{DINO}.vit", "x", rf"{DINO}: \S+Dino: its arguments \['input_size', 'vit'\] do not fit: TypeError"),
        (f"{DINO}.vit.num_heads", 3, rf"{DINO}.vit: num_heads must divide embed_dim 16, got 3"),
        ("module.condition_embedder.backbone.embedder_list", "x", r"condition_embedder.backbone: \S+EmbedderFuser: "),
    ],
)
def test_one_broken_value(release: Path, key: str, value: object, said: str) -> None:
    edit_config(release / "ss_generator.yaml", lambda config: put(config, key, value))
    with pytest.raises(ValueError, match=rf"ss_generator\.yaml: .*{said}.*; correct it there, or download"):
        load_model(release, stages=("structure",))


def test_a_width_that_the_groups_do_not_divide(release: Path) -> None:
    edit_config(release / "slat_decoder_mesh.yaml", lambda config: put(config, "model_channels", 10))
    said = r"slat_decoder_mesh\.yaml: \S+SLatMeshDecoderTdfyWrapper: its arguments \[.*\] do not fit: AssertionError"
    with pytest.raises(ValueError, match=said):
        load_model(release)


def test_a_node_that_holds_itself(release: Path) -> None:
    (release / "ss_decoder.yaml").write_text("a: &a\n  b: *a\n")
    with pytest.raises(ValueError, match=r"ss_decoder\.yaml: .*holds itself"):
        load_model(release)


def test_a_date_that_there_is_not(release: Path) -> None:
    (release / "ss_decoder.yaml").write_text("a: 2026-13-45\n")
    with pytest.raises(ValueError, match=r"ss_decoder\.yaml: this is no YAML: month must be"):
        load_model(release)


def build(config: Any) -> None:
    """Build a generator and its embedder on the meta device, as loading does."""
    try:
        build_module(config, FlowGenerator, WHERE, "module", "generator", "backbone")
        build_module(config, EmbedderFuser, WHERE, "module", "condition_embedder", "backbone")
    except ValueError as error:
        assert str(error).startswith("generator.yaml: "), error


@pytest.mark.parametrize("config", [generator_config(), latent_generator_config()])
def test_any_odd_value_anywhere(config: dict[str, Any]) -> None:
    """Nothing but ValueError comes of it; values that mean nothing to the modules may pass."""
    places, generator = list(keys(config)), torch.Generator().manual_seed(0)
    for place in places:
        broken = copy.deepcopy(config)
        put(broken, place, ODD[int(torch.randint(len(ODD), (), generator=generator))])
        build(broken)


@pytest.mark.parametrize("config", [generator_config(), latent_generator_config()])
def test_a_config_that_ends_early(config: dict[str, Any]) -> None:
    lines = yaml.safe_dump(config).splitlines(keepends=True)
    for stop in range(1, len(lines)):
        build(yaml.safe_load("".join(lines[:stop])))
