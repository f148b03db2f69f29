"""`sam3d-med adapter ...` as a user calls it."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from sam3d_objects.adapter import read_adapter_set
from sam3d_objects.cli.adapter import ADAPTER_COMMANDS
from sam3d_objects.cli.main import FAILED, WRONG_USE, as_flags, main
from sam3d_objects.model import load_model

Capture = pytest.CaptureFixture[str]


def run(words: Sequence[object], capsys: Capture) -> str:
    """Run `sam3d-med adapter ...` and return what it prints."""
    assert main(["adapter", *map(str, words)]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def test_the_overview_names_every_command(capsys: Capture) -> None:
    assert main(["adapter", "--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in ADAPTER_COMMANDS)
    assert main(["adapter"]) == WRONG_USE
    assert main(["--help"]) == 0
    assert "  adapter " in capsys.readouterr().out


@pytest.mark.parametrize("command", ADAPTER_COMMANDS)
def test_every_command_explains_itself(command: str, capsys: Capture) -> None:
    text = run([command, "--help"], capsys)
    assert f"usage: sam3d-med adapter {command}" in text
    assert f"sam3d-med adapter {command} --" in text, "the help shows an example"


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["lst"], WRONG_USE, "no command 'lst'. Did you mean 'list'?"),
        (["list"], WRONG_USE, "registry"),
        (["list", "/nowhere"], FAILED, "no registry at /nowhere"),
        (["list", "hf://clinic"], FAILED, "a place on the hub is hf://USER/REPOSITORY"),
        (["info", "/nowhere"], FAILED, "no adapter at /nowhere"),
        (["diff", "a"], WRONG_USE, "second"),
        (["diff", "a", "b", "c"], WRONG_USE, "unrecognized arguments: c"),
        (["merge", "a", "b", "--weights", "1", "--out", "c"], FAILED, "2 adapters need as many --weights, got 1"),
        (["export", "a", "--out", "b", "--formats", "onyx"], FAILED, "got 'onyx'. Did you mean 'onnx'?"),
        (["push", "a", "b"], FAILED, "give --name"),
        (["pull", "/nowhere", "--out", "b"], FAILED, "/nowhere"),
    ],
)
def test_wrong_use_is_one_line(words: list[str], status: int, message: str, capsys: Capture) -> None:
    assert main(["adapter", *words]) == status
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_words_in_front_are_named() -> None:
    assert as_flags(ADAPTER_COMMANDS["diff"], ["a", "b"]) == ["--first", "a", "--second", "b"]
    assert as_flags(ADAPTER_COMMANDS["merge"], ["a", "b", "--out", "c"]) == ["--adapters", "a", "b", "--out", "c"]
    assert as_flags(ADAPTER_COMMANDS["info"], ["--adapter", "a"]) == ["--adapter", "a"]
    assert as_flags(ADAPTER_COMMANDS["info"], ["a", "b"]) == ["--adapter", "a", "b"]


def test_from_a_run_to_a_registry_and_back(adapter: Path, random_base: Path, tmp_path: Path, capsys: Capture) -> None:
    registry = tmp_path / "registry"
    assert "registry/ball/one" in run(["push", adapter, registry, "ball/one"], capsys)
    table = run(["list", registry], capsys).splitlines()
    assert table[1].split()[:3] == ["ball/one", "structure", "ball"]
    run(["pull", "--registry", registry, "--name", "ball/one", "--out", tmp_path / "mine"], capsys)
    assert "both compute the same" in run(["diff", adapter, tmp_path / "mine"], capsys)
    assert "organs        ball" in run(["info", tmp_path / "mine"], capsys)
    words = ["merge", adapter, tmp_path / "mine", "--weights", 1, -0.5, "--rank", 1, "--base", random_base]
    text = run([*words, "--out", tmp_path / "half"], capsys)
    assert f"1 x {adapter} + -0.5 x " in text and "cut back to rank 1: the worst layer is " in text
    assert "  50 %  " not in text
    text = run(["diff", adapter, tmp_path / "half"], capsys)
    assert "they compute different things" in text and "adapter.training.sum_of" in text


def test_a_merged_model_is_a_base(adapter_set: Path, random_base: Path, tmp_path: Path, capsys: Capture) -> None:
    words = ["export", adapter_set, "--base", random_base, "--out", tmp_path / "out", "--formats", "release"]
    assert "as --base" in run(words, capsys)
    merged = load_model(tmp_path / "out" / "model")
    adapted = load_model(random_base)
    read_adapter_set(adapter_set).load(adapted)
    generator = torch.Generator().manual_seed(0)
    latents = {name: torch.randn(shape, generator=generator) for name, shape in adapted.latent_shapes(1).items()}
    condition = torch.randn(1, 4, adapted.condition_embedder.embed_dim, generator=generator)
    with torch.no_grad():
        ours, theirs = (m.structure_flow(latents, torch.tensor([500.0]), condition) for m in (adapted, merged))
    for name in ours:
        assert (ours[name] - theirs[name]).abs().max() <= 1e-5 * ours[name].abs().max()
    record = json.loads((tmp_path / "out" / "model" / "sam3d_merged.json").read_text())
    assert list(record["adapters"]) == ["structure", "latent", "decoder"]
