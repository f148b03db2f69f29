"""`--recipe`: what is filled in, by name and by counting, and what was given stays."""

import dataclasses
from pathlib import Path

import pytest

from sam3d_objects.adapter.presets import RECIPE_NAMES
from sam3d_objects.cli import stages
from sam3d_objects.cli.recipe import stage_options
from sam3d_objects.config import TrainOptions
from sam3d_objects.config.train import LORA_DEFAULTS, RECIPES


def lora(options: TrainOptions) -> tuple[int | None, float | None, float | None]:
    return options.lora_rank, options.lora_alpha, options.lora_dropout


class Slices:
    """As many slices and organs as a test says."""

    def __init__(self, slices: int, organs: int) -> None:
        self.slices, self.pairs = slices, [("case", "organ")] * organs

    def __len__(self) -> int:
        return self.slices


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "training_slices", lambda _root, _options: Slices(slices=3_000, organs=250))


def test_the_command_line_knows_the_recipes_that_there_are() -> None:
    assert RECIPES == RECIPE_NAMES


def test_without_a_recipe_the_defaults_are_what_they_were(tmp_path: Path) -> None:
    options = stage_options(TrainOptions(), "structure", tmp_path)
    assert options == TrainOptions().of_stage("structure")
    assert lora(options) == tuple(LORA_DEFAULTS.values()) == (16, 32.0, 0.0)
    assert options.lr == 2e-3
    assert lora(stage_options(TrainOptions(lora_rank=4), "structure", tmp_path)) == (4, 32.0, 0.0)


@pytest.mark.parametrize(
    ("name", "numbers", "lr"),
    [("small", (4, 8.0, 0.1), 2e-3), ("medium", (8, 16.0, 0.05), 2e-3), ("large", (16, 32.0, 0.0), 1e-3)],
)
def test_a_recipe_by_name(
    name: str, numbers: tuple[float, ...], lr: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = stage_options(TrainOptions(recipe=name), "structure", tmp_path)
    assert (lora(options), options.lr, options.recipe) == (numbers, lr, name)
    assert f"structure: recipe {name} (" in capsys.readouterr().out
    usual = dataclasses.replace(TrainOptions().of_stage("structure"), recipe=name)
    given = dataclasses.asdict(options) | {key: getattr(usual, key) for key in (*LORA_DEFAULTS, "lr")}
    assert given == dataclasses.asdict(usual), "nothing else is touched"


def test_what_is_given_wins(tmp_path: Path) -> None:
    given = TrainOptions(recipe="large", lr=3e-3, lora_dropout=0.2)
    options = stage_options(given, "structure", tmp_path)
    assert (options.lr, lora(options)) == (3e-3, (16, 32.0, 0.2))
    assert lora(stage_options(TrainOptions(recipe="large", lora_rank=2), "structure", tmp_path)) == (2, 4.0, 0.0)
    assert lora(stage_options(TrainOptions(recipe="small", lora_alpha=1.0), "latent", tmp_path)) == (4, 1.0, 0.1)


@pytest.mark.usefixtures("counted")
def test_auto_counts_slices_and_for_the_decoder_organs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = TrainOptions(stage="all", recipe="auto")
    chosen = {stage: stage_options(options, stage, tmp_path).recipe for stage in options.stages}
    assert chosen == {"structure": "medium", "latent": "medium", "decoder": "small"}
    printed = capsys.readouterr().out
    assert "structure: recipe medium (3,000 training samples, 2,000 to 5,000 samples): rank 8, alpha 16" in printed
    assert "decoder: recipe small (250 training samples" in printed


def test_a_recipe_is_for_lora(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="recipe is for method lora, which has a rank; got method full"):
        stage_options(TrainOptions(recipe="small", method="full"), "structure", tmp_path)
    with pytest.raises(ValueError, match="recipe is one of none, small"):
        TrainOptions(recipe="tiny")
