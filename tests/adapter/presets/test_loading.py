"""One configuration, written plainly, as Lightning does, and on a command line."""

from pathlib import Path

import pytest
import yaml
from jsonargparse import ArgumentParser

from sam3d_objects.adapter.presets import PresetConfig, load_config
from sam3d_objects.model.lora import LoRAConfig

EOMT = PresetConfig("eomt", freeze=("heads", "norms"), recipe="small", rank=8)
PLAIN = "preset: eomt\nfreeze: [heads, norms]\nrecipe: small\nrank: 8\n"
LIGHTNING = """
class_path: sam3d_objects.adapter.presets.PresetConfig
init_args:
  preset: eomt
  freeze: heads, norms
  recipe: small
  rank: 8
"""


@pytest.mark.parametrize("text", [PLAIN, LIGHTNING, LIGHTNING.replace("sam3d_objects.adapter.presets.", "")])
def test_a_file_in_either_way_is_the_same(text: str, tmp_path: Path) -> None:
    (tmp_path / "eomt.yaml").write_text(text)
    assert load_config(tmp_path / "eomt.yaml") == EOMT
    whole = yaml.safe_dump({"model": {"init_args": {"adapter": yaml.safe_load(text)}}, "trainer": {"max_epochs": 3}})
    (tmp_path / "lightning.yaml").write_text(whole)
    assert load_config(tmp_path / "lightning.yaml", at="model.init_args.adapter") == EOMT


def test_overrides_win_with_or_without_init_args(tmp_path: Path) -> None:
    (tmp_path / "eomt.yaml").write_text(LIGHTNING)
    made = load_config(tmp_path / "eomt.yaml", ["rank=4", "--init_args.dropout=0.2", "freeze=[norms]", "preset=clip"])
    assert made == PresetConfig("clip", freeze=("norms",), recipe="small", rank=4, dropout=0.2)
    assert load_config({}, ["preset=dinov2"]) == PresetConfig("dinov2")


def test_lora_s_own_configuration_and_an_option_of_one_pattern() -> None:
    record = {"rank": 4, "target_modules": ["*.qkv"], "patterns": {"*.proj": {"rank": 2}}}
    made = load_config(record, ["alpha=4", "patterns.blocks.*.attn.proj.rank=1", "patterns.*.proj.dropout=0.5"])
    assert made == LoRAConfig(
        rank=4,
        alpha=4,
        target_modules=("*.qkv",),
        patterns={"*.proj": {"rank": 2, "dropout": 0.5}, "blocks.*.attn.proj": {"rank": 1}},
    )
    assert record["patterns"] == {"*.proj": {"rank": 2}}, "the source stays"
    lightning = {"class_path": "sam3d_objects.model.lora.LoRAConfig", "init_args": record}
    assert load_config(lightning) == load_config(record) == LoRAConfig.from_dict(record)


class Segmenter:
    """A Lightning module that is told what to adapt."""

    def __init__(self, adapter: PresetConfig) -> None:
        self.adapter = adapter


def test_lightning_s_own_parser_builds_it_too() -> None:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Segmenter, "model")
    in_a_file = yaml.safe_load(LIGHTNING.replace("heads, norms", "[heads, norms]"))
    made = parser.instantiate(parser.parse_object({"model": {"adapter": in_a_file}}))
    assert made.model.adapter == EOMT
    made = parser.instantiate(parser.parse_args(["--model.adapter.preset=eomt", "--model.adapter.rank=8"]))
    assert made.model.adapter == PresetConfig("eomt", rank=8)


def test_to_dict_and_back() -> None:
    assert PresetConfig.from_dict(yaml.safe_load(yaml.safe_dump(EOMT.to_dict()))) == EOMT


@pytest.mark.parametrize(
    ("content", "overrides", "message"),
    [
        ("class_path: os.system\ninit_args: {command: ls}", [], "one of .*PresetConfig.* got 'os.system'"),
        ("class_path: evil.LoRAConfig", [], "got 'evil.LoRAConfig'"),
        ("class_path: LoraConfig", [], r"got 'LoraConfig'\. Did you mean 'LoRAConfig'"),
        ("class_path: LoRAConfig\nrank: 4", [], "beside class_path stands init_args only; got rank"),
        ("class_path: LoRAConfig\ninit_args: [4]", [], r"init_args holds keys and values, got \[4\]"),
        ("preset: eomt\nrnk: 4", [], r"got 'rnk'\. Did you mean 'rank'"),
        ("rank: 4\nalfa: 4", [], r"got 'alfa'\. Did you mean 'alpha'"),
        ("preset: eomt\nrank: 0", [], "rank is a whole number of at least 1, got 0"),
        ("preset: eomt\nfreeze: [head]", [], r"got 'head'\. Did you mean 'heads'"),
        ("preset: eomt\nfreeze: [adapters_only, norms]", [], "adapters_only goes with no other"),
        ("preset: eomt\nfreeze: 3", [], "freeze is a list of names, got 3"),
        ("preset: eomt\nrecipe: big", [], "recipe is one of none, small"),
        ("- rank", [], "holds keys and values, got list"),
        ("rank: 4", ["rank"], "an override is KEY=VALUE, got 'rank'"),
        ("rank: 4", ["lora.rank=4"], "'lora.rank' is no key"),
        ("rank: 4", ["rank=[4"], "has no YAML value"),
        ("rank: {4", [], "is not valid YAML"),
    ],
)
def test_what_is_wrong_is_said(content: str, overrides: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(ValueError, match=message):
        load_config(tmp_path / "config.yaml", overrides)


def test_a_place_or_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no 'modle' on the way to modle\.adapter\. Did you mean 'model'"):
        load_config({"model": {}}, at="modle.adapter")
    with pytest.raises(ValueError, match="can't be read"):
        load_config(tmp_path / "none.yaml")
