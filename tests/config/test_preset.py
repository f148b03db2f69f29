"""Presets load, and a mistyped section or key is an error that names the nearest."""

import dataclasses
from pathlib import Path

import pytest

from sam3d_objects.config import SECTIONS, TrainOptions, load_preset, make_options, read_preset

REPOSITORY = Path(__file__).resolve().parents[2]


def write(folder: Path, text: str) -> Path:
    """Write a preset and return its path."""
    path = folder / "preset.yaml"
    path.write_text(text, encoding="utf-8")
    return path


SHIPPED = [path for folder in ("configs", "benchmarks") for path in sorted((REPOSITORY / folder).glob("*.yaml"))]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_every_shipped_preset_loads(path: Path) -> None:
    made = load_preset(path)
    assert set(made) == set(SECTIONS)
    for section, values in read_preset(path).items():
        defaults = dataclasses.asdict(SECTIONS[section]())
        assert set(values) <= set(defaults)


def test_there_are_presets_to_load() -> None:
    assert {path.stem for path in (REPOSITORY / "configs").glob("*.yaml")} == {
        "demo",
        "structure",
        "latent",
        "decoder",
        "full",
        "release",
    }


def test_a_preset_sets_what_it_says_and_leaves_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path, "train:\n  lr: 1e-3\n  epochs: 7\nprepare:\n  window_hu: [-100, 300]\n  test_nifti: a/b\n")
    made = load_preset(path)
    assert made["train"] == TrainOptions(lr=1e-3, epochs=7)
    assert made["prepare"].window_hu == (-100, 300)
    assert made["prepare"].test_nifti == Path("a/b")


def test_dotted_overrides_win_over_the_preset(tmp_path: Path) -> None:
    path = write(tmp_path, "train:\n  epochs: 7\n  lora_rank: 2\n")
    made = load_preset(path, {"train.epochs": 9, "evaluate.samples": 4})
    assert (made["train"].epochs, made["train"].lora_rank, made["evaluate"].samples) == (9, 2, 4)


def test_an_empty_preset_is_all_defaults(tmp_path: Path) -> None:
    assert load_preset(write(tmp_path, "")) == {name: cls() for name, cls in SECTIONS.items()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trian:\n  epochs: 3\n", r"section 'trian' does not exist\. Did you mean 'train'\?"),
        ("train:\n  epoch: 3\n", r"train: key 'epoch' does not exist\. Did you mean 'epochs'\?"),
        ("train:\n  zzz: 3\n", r"key 'zzz' does not exist\. There are: stage, method, base"),
        ("train: 3\n", r"section 'train' holds keys and values, got 3"),
        ("- train\n", r"expected sections .* got list"),
        ("train: [1\n", r"preset\.yaml is not valid YAML"),
        ("train:\n  epochs: many\n", r"TrainOptions\.epochs is a whole number or nothing; got 'many'"),
        ("train:\n  lr: fast\n", r"TrainOptions\.lr is a number or nothing; got 'fast'"),
    ],
)
def test_a_bad_preset_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_preset(write(tmp_path, text))


def test_an_override_that_names_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'train\.epocs' does not exist\. Did you mean 'train\.epochs'\?"):
        load_preset(write(tmp_path, ""), {"train.epocs": 1})
    with pytest.raises(ValueError, match="no_section"):
        load_preset(write(tmp_path, ""), {"no_section": 1})


def test_make_options_names_the_nearest_key() -> None:
    with pytest.raises(ValueError, match=r"TrainOptions: key 'lora_rnk' does not exist\. Did you mean 'lora_rank'"):
        make_options(TrainOptions, {"lora_rnk": 3})


def test_a_section_as_lightning_writes_it_is_the_same(tmp_path: Path) -> None:
    lightning = "train:\n  class_path: sam3d_objects.config.TrainOptions\n  init_args: {epochs: 7, lora_rank: 2}\n"
    plain = "train: {epochs: 7, lora_rank: 2}\n"
    assert read_preset(write(tmp_path, lightning)) == read_preset(write(tmp_path, plain))
    with pytest.raises(ValueError, match="expected class_path TrainOptions and init_args"):
        read_preset(write(tmp_path, lightning.replace("TrainOptions", "EvaluateOptions")))
    with pytest.raises(ValueError, match=r"init_args holds keys and values, got \[1\]"):
        read_preset(write(tmp_path, "train: {class_path: TrainOptions, init_args: [1]}\n"))
