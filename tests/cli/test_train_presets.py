"""`--preset`, `--freeze` and `--recipe` of the training command, down to the adapter that is left."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sam3d_objects.adapter import read_adapter
from sam3d_objects.cli.train import train_adapter
from sam3d_objects.config import TrainOptions
from tests.cli.test_train import data_root, of, small_base

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
        ({"preset": "auto", "lora_targets": ("*",)}, "both say what is adapted"),
        ({"shortcut_weight": 0.5, "strategy": "fsdp"}, r"shortcut_weight 0\.5 does not .* take strategy ddp, or"),
        ({"shortcut_weight": 1.0, "strategy": "fsdp", "stage": "all"}, "does not go with strategy fsdp"),
    ],
)
def test_what_does_not_go_together(changes: dict[str, Any], message: str) -> None:
    make: Callable[..., TrainOptions] = TrainOptions
    with pytest.raises(ValueError, match=message):
        make(**changes)
