"""Compiled and checkpointed networks train as plain ones do."""

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from sam3d_objects.training import LoopOptions, MedicalTrainer, Stage, StructureStage
from sam3d_objects.training.compiling import compile_network
from tests.training.small_model import small_latent_stage
from tests.training.stage_factories import make_structure
from tests.training.toy_stage import ToyStage

TOLERANCE = 1e-4
# PyTorch's compiler uses what PyTorch gave up.
TORCH_WARNS = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
COMPILER = pytest.mark.skipif(not shutil.which("g++"), reason="compiled kernels for a CPU need a C++ compiler")


def train(stage: Stage, folder: Path, **options: Any) -> MedicalTrainer:
    chosen = LoopOptions(**{"epochs": 1, "batch_size": 3, "device": "cpu", "lr": 0.01, **options})
    loop = MedicalTrainer(stage, chosen, folder, console=Console(file=io.StringIO()))
    loop.train()
    return loop


def losses(loop: MedicalTrainer) -> list[dict[str, float]]:
    return [row["train"] for row in loop.counters.history]


@COMPILER
@TORCH_WARNS
def test_compiled_kernels_give_the_same_losses(tmp_path: Path) -> None:
    """Dropout and all; `benchmarks/training_throughput.py` compiles the structure flow, which takes a minute."""
    plain, compiled = (
        train(ToyStage(train=6, validation=0), tmp_path / str(on), epochs=3, compile=on) for on in (False, True)
    )
    for one, other in zip(losses(plain), losses(compiled), strict=True):
        assert other == pytest.approx(one, rel=TOLERANCE)


def one_block(data_root: Path, folder: Path) -> Stage:
    stage = make_structure(data_root, folder)
    assert isinstance(stage, StructureStage)
    del stage.module.blocks[1:]  # type: ignore[union-attr, operator]  # a module list
    stage.validation_samples = ()
    return stage


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # PyTorch's compiler does so
def test_the_structure_flow_is_traced_whole_and_keeps_its_names(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced with its gradient, LoRA and dropout; the kernels are PyTorch's own, because compiling takes a minute."""
    compile_with = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module, **_: compile_with(module, backend="aot_eager", fullgraph=True))
    ends = []
    for on in (False, True):
        loop = train(one_block(data_root, tmp_path / "targets"), tmp_path / str(on), compile=on)
        saved = load_file(tmp_path / str(on) / "last" / "adapter_model.safetensors")
        ends.append((losses(loop), sorted(loop.learner.parameters), sorted(saved)))
    assert ends[1][0][0] == pytest.approx(ends[0][0][0], rel=TOLERANCE)
    assert ends[1][1:] == ends[0][1:]


def test_networks_of_voxels_are_not_compiled() -> None:
    latent = small_latent_stage()
    for network in (latent.flow, latent.mesh_decoder):
        with pytest.raises(ValueError, match="works on voxels"):
            compile_network(network)


def test_checkpointed_activations_change_nothing(data_root: Path, tmp_path: Path) -> None:
    ends = []
    for on in (False, True):
        folder = tmp_path / str(on)
        train(make_structure(data_root, tmp_path / "targets"), folder, epochs=2, checkpoint_activations=on)
        ends.append((folder / "last" / "adapter_model.safetensors").read_bytes())
    assert ends[0] == ends[1]


def test_checkpointing_may_be_turned_on_when_a_run_is_resumed() -> None:
    assert LoopOptions(checkpoint_activations=True).record() == LoopOptions().record()
    assert LoopOptions(compile=True).record() != LoopOptions().record()
