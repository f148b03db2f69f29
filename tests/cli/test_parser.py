"""From a typed function to a command line and back."""

from pathlib import Path
from typing import Annotated, Any

import pytest

from sam3d_objects.cli.parser import CommandParser
from sam3d_objects.config import PhantomOptions, PrepareOptions, TrainOptions


def one(
    data_root: Annotated[Path, "the data"],
    options: TrainOptions,
    spacing_mm: Annotated[tuple[float, ...], "spacing"] = (),
    quick: Annotated[bool, "be quick"] = True,
    index: Annotated[int | None, "a slice"] = None,
) -> None:
    """One set of options: flags are flat."""


def several(
    phantoms: PhantomOptions,
    prepare: PrepareOptions,
    train: TrainOptions,
    out: Annotated[Path | None, "where"] = None,
) -> None:
    """Several sets: flags are dotted, and often used ones have a short form."""


def parse(function: Any, line: str) -> dict[str, Any]:
    """Parse a command line given as one text."""
    return CommandParser("program", function).parse(line.split())


def test_defaults_are_the_dataclass_s() -> None:
    values = parse(one, "--data_root d")
    assert values == {
        "data_root": Path("d"),
        "options": TrainOptions(),
        "spacing_mm": (),
        "quick": True,
        "index": None,
    }


def test_flat_flags_of_every_kind() -> None:
    values = parse(
        one,
        "--data_root d --epochs 3 --lr=1e-3 --no_augment --resume --lora_targets *.to_q re:x "
        "--spacing_mm 0.5 2 --no_quick --index 7",
    )
    assert values["options"] == TrainOptions(
        epochs=3, lr=1e-3, augment=False, resume=True, lora_targets=("*.to_q", "re:x")
    )
    assert list(values["spacing_mm"]) == [0.5, 2.0]
    assert (values["quick"], values["index"]) == (False, 7)


def test_a_short_form_reaches_every_section_that_has_it_and_dotted_flags_win() -> None:
    values = parse(several, "--seed 5 --train.seed 6 --classes 1+2,3 --epochs 4 --prepare.margin_mm 2")
    assert values["phantoms"] == PhantomOptions(seed=5)
    assert values["prepare"] == PrepareOptions(seed=5, classes="1+2,3", margin_mm=2.0)
    assert values["train"] == TrainOptions(seed=6, epochs=4)


def test_flags_win_over_the_preset(tmp_path: Path) -> None:
    preset = tmp_path / "preset.yaml"
    preset.write_text("train:\n  epochs: 7\n  lora_rank: 2\n  augment: false\n")
    assert parse(one, f"--data_root d --config {preset} --epochs 9")["options"] == TrainOptions(
        epochs=9, lora_rank=2, augment=False
    )
    made = parse(several, f"--config={preset} --lora_rank 3 --train.augment")
    assert made["train"] == TrainOptions(epochs=7, lora_rank=3)


@pytest.mark.parametrize("flag", ["--train.no_augment", "--no_train.augment"])
def test_a_dotted_option_can_be_switched_off(flag: str) -> None:
    assert parse(several, flag)["train"] == TrainOptions(augment=False)


def test_a_number_as_a_class_stays_a_text() -> None:
    assert parse(several, "--classes 1")["prepare"].classes == "1"


@pytest.mark.parametrize(
    ("function", "line", "message"),
    [
        (one, "--data_root d --epoch 3", r"unknown option --epoch\. Did you mean '--epochs'\?"),
        (one, "--data_root d --lora-rank 3", r"unknown option --lora-rank\. Did you mean '--lora_rank'\?"),
        (one, "--data_root d --zzzzzz", r"unknown option --zzzzzz\. \(see --help\)"),
        (several, "--train.epoch 3", r"Did you mean '--train\.epochs'\?"),
        (one, "--epochs 3", "required: data_root"),
        (one, "--data_root d extra", "unrecognized arguments: extra"),
        (one, "--data_root d --epochs many", "epochs.*many"),
        (one, "--data_root d --epochs 0", r"TrainOptions\.epochs is at least 1; got 0"),
        (one, "--data_root d --precision fp8", r"precision is one of auto, 32, bf16, 16; got 'fp8'"),
        (several, "--lr", "expected one argument"),
    ],
)
def test_wrong_use_is_named(function: Any, line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(function, line)


def test_a_preset_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    preset = tmp_path / "preset.yaml"
    preset.write_text("train:\n  epochz: 7\n")
    with pytest.raises(ValueError, match=r"preset\.yaml: train: key 'epochz' .* Did you mean 'epochs'\?"):
        parse(one, f"--data_root d --config {preset}")


def test_help_names_every_option_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(one, "--help")
    text = " ".join(capsys.readouterr().out.split())
    assert "One set of options" in text
    for name in (
        "--data_root",
        "--epochs N",
        "--no_augment",
        "--lora_targets",
        "be quick",
        f"[{TrainOptions().patience}]",
        "[structure 75, latent 6, decoder 12]",
    ):
        assert name in text
