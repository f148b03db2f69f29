"""`--preset`, `--freeze` and `--recipe` of the training command, down to the adapter that is left."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import sam3d_objects.model
from sam3d_objects.adapter import read_adapter
from sam3d_objects.cli import train as train_module
from sam3d_objects.cli.ahead import check_stages
from sam3d_objects.cli.stages import STAGE_CLASSES, stage_arguments
from sam3d_objects.cli.train import train_adapter
from sam3d_objects.config import TrainOptions
from sam3d_objects.config.train import LORA_ONLY
from sam3d_objects.model.loading import AbsentModule
from sam3d_objects.model.stages import STAGES
from tests.cli.test_train import data_root, of, small_base
from tests.training.small_model import small_model, whole_model

__all__ = ["data_root", "small_base"]  # fixtures


def trained(data_root: Path, run: Path, **changes: Any) -> Any:
    train_adapter(data_root, run, of("structure", **changes))
    return read_adapter(run / "best")


@pytest.mark.usefixtures("small_base")
def test_a_run_with_a_recipe_a_preset_and_a_strategy_leaves_an_adapter_that_says_so(
    data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = trained(
        data_root, tmp_path / "run", recipe="auto", lora_rank=None, preset="sam3d_structure", freeze=("norms",)
    )
    assert (record.config.rank, record.config.alpha, record.config.dropout) == (4, 8.0, 0.1)
    assert all("norm" in name for name in record.trained) and record.trained
    assert any("mlp" in path for path in record.layers)
    printed = capsys.readouterr().out
    assert "structure: recipe small (" in printed and "freeze norms: " in printed


@pytest.mark.usefixtures("small_base")
def test_a_strategy_alone_keeps_the_stage_s_layers(data_root: Path, tmp_path: Path) -> None:
    record = trained(data_root, tmp_path / "run", freeze=("adapters_only",), lora_mlp=False)
    assert record.trained == () and not any("mlp" in path for path in record.layers)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "auto", "method": "full"}, "preset is for method lora; got method full"),
        ({"freeze": ("heads",), "method": "scratch"}, "freeze is for method lora"),
        ({"lora_rank": 16, "method": "full"}, "lora_rank is for method lora; got .* leave lora_rank out, or take"),
        ({"lora_dropout": 0.0, "method": "full"}, "lora_dropout is for method lora"),
        ({"lora_targets": ("*",), "method": "scratch"}, "lora_targets is for method lora; got method scratch"),
        ({"lora_mlp": False, "method": "full"}, "lora_mlp is for method lora"),
        ({"train_heads": False, "method": "full", "stage": "decoder"}, "train_heads is for method lora"),
        ({"preset": "auto", "lora_targets": ("*",)}, "both say what is adapted"),
        ({"shortcut_weight": 0.5, "strategy": "fsdp"}, r"shortcut_weight 0\.5 does not .* take strategy ddp, or"),
        ({"shortcut_weight": 1.0, "strategy": "fsdp", "stage": "all"}, "does not go with strategy fsdp"),
    ],
)
def test_what_does_not_go_together(changes: dict[str, Any], message: str) -> None:
    make: Callable[..., TrainOptions] = TrainOptions
    with pytest.raises(ValueError, match=message):
        make(**changes)


@pytest.mark.usefixtures("small_base")
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "sam3d_structure"}, r"stage latent, found out before .* 'sam3d_structure': .* LatentFlow"),
        ({"lora_targets": ("blocks.*.self_attn.to_qkv.shape",)}, r"stage latent, .*to_qkv\.shape' matches nothing"),
        ({"lora_targets": ("*.cross_attn.*",)}, r"stage decoder, .*cross_attn"),
        ({"latent_source": "encoder"}, r"stage latent, .*latent targets by the encoder: not there"),
    ],
)
def test_what_would_stop_a_later_stage_stops_before_the_first_trains(
    data_root: Path,
    tmp_path: Path,
    changes: dict[str, Any],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(train_module, "_train_stage", lambda *_: pytest.fail("a stage is trained"))
    if "latent_source" in changes:
        model = whole_model(latent_side=8)
        model.latent_stage.encoder = AbsentModule("not there")  # type: ignore[assignment]  # as loaded
        monkeypatch.setattr(sam3d_objects.model, "load_model", lambda *_, **__: model)
    with pytest.raises(ValueError, match=message):
        train_adapter(data_root, tmp_path / "run", of("all", **changes))
    assert not (tmp_path / "run").exists() and capsys.readouterr().out == ""


def test_a_base_without_a_latent_half_stops_before_the_structure_trains(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sam3d_objects.model, "load_model", lambda *_, **__: small_model())
    with pytest.raises(ValueError, match=r"stage latent, found out before .* its latent stage is not loaded"):
        train_adapter(data_root, tmp_path / "run", of("all"))
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("small_base")
def test_what_suits_all_stages_passes_and_nothing_is_said(data_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_stages(data_root, of("all", preset="auto", recipe="small", lora_rank=None))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("method", ["full", "scratch"])
@pytest.mark.parametrize("stage", STAGES)
def test_without_lora_its_options_stay_open_and_the_run_s_record_has_the_defaults(method: str, stage: str) -> None:
    options = TrainOptions(stage=stage, method=method).of_stage(stage)
    assert options.of_stage(stage) == options, "defaults that were filled in are not taken for given ones"
    assert {getattr(options, name) for name in LORA_ONLY} == {None, "", ()} and options.epochs is not None
    _, cls = STAGE_CLASSES[stage]
    with_lora = TrainOptions(stage=stage).of_stage(stage)
    recorded = dataclasses.asdict(cls(**stage_arguments(options, cls)))
    assert recorded == dataclasses.asdict(cls(**stage_arguments(with_lora, cls))) | {"method": method}
