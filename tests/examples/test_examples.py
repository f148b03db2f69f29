"""Each example of `examples/` runs, holds what it claims, and is listed; one whose claim is broken fails."""

import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from sam3d_objects.model.lora import LoRALayer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NEEDS = {
    "sam3d": (),
    "adapter_arithmetic": (),
    "eomt": ("transformers", "scipy"),
    "vit_mae": ("transformers",),
    "clip_federated": ("transformers",),
    "peft_in_and_out": ("transformers", "peft"),
}
# The last line that each prints before its last claim is checked.
SAYS = {
    "sam3d": "loss on draws it never saw",
    "adapter_arithmetic": "unmerged: every tensor as before",
    "eomt": "taken out and loaded to the last bit",
    "vit_mae": "WRONG: the base changed: vit.layernorm.weight",
    "clip_federated": "svd: ",
    "peft_in_and_out": "PiSSA in PEFT: refused",
}


def run(name: str) -> None:
    """Run an example in this process, as `python examples/NAME.py` does, and leave torch's generator as it was."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        # PEFT 0.21 asks transformers 5.23 for it.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


@pytest.mark.parametrize("name", NEEDS)
def test_it_holds(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    for package in NEEDS[name]:
        pytest.importorskip(package, reason=f"{package} is not installed")
    run(name)
    assert SAYS[name] in capsys.readouterr().out


def test_a_broken_claim_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    right = LoRALayer.pieces_of

    def averaged_apart(self: LoRALayer, name: str, weight: float = 1.0) -> list[object]:
        """A factor that reaches A and B each, as where they are averaged apart."""
        return list(right(self, name, weight * weight))

    monkeypatch.setattr(LoRALayer, "pieces_of", averaged_apart)
    with pytest.raises(AssertionError, match="the sum less the liver"):
        run("adapter_arithmetic")


def test_as_a_command() -> None:
    found = subprocess.run(
        [sys.executable, str(EXAMPLES / "adapter_arithmetic.py")], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert SAYS["adapter_arithmetic"] in found.stdout


def test_all_are_listed_tested_and_short() -> None:
    files = {file.stem: file.read_text(encoding="utf-8") for file in EXAMPLES.glob("*.py")}
    assert set(files) == set(NEEDS) == set(SAYS)
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for name, text in files.items():
        assert f"[{name}.py]({name}.py)" in table
        assert f"python examples/{name}.py" in text, "its first lines say how to run it"
        assert len(text.splitlines()) <= 75, "an example is read in one go"
