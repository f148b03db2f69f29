"""Device and dtype, as a person says them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sam3d_objects.cli.models import torch_device
from sam3d_objects.model import load_model
from sam3d_objects.model.loading.placement import available_devices, chosen_device, parse_device, parse_dtype
from sam3d_objects.training.precision import resolve_device


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_a_dtype_by_its_name(release: Path, name: str) -> None:
    expected = getattr(torch, name)
    assert parse_dtype(name) == parse_dtype(expected) == expected
    model = load_model(release, dtype=name, stages=("structure",))
    assert {value.dtype for value in model.state_dict().values()} == {expected}


@pytest.mark.parametrize("dtype", [torch.float64, "half", "float64", None])
def test_a_dtype_that_is_not_offered(release: Path, dtype: object) -> None:
    with pytest.raises(ValueError, match=r"dtype must be one of float32, bfloat16, float16, .* got (torch|'|None)"):
        load_model(release, dtype=dtype)  # type: ignore[arg-type]


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "hpu", "", None])
@pytest.mark.parametrize("offload", [False, True])
def test_a_device_that_is_not_here(release: Path, device: str, offload: bool) -> None:
    with pytest.raises(ValueError, match=rf"device {device!r} is unknown, or this machine .* none; give one of cpu"):
        load_model(release, device=device, offload=offload)


def test_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.cuda.is_available():
        assert "cuda:0" in available_devices() and parse_device("cuda").type == "cuda"
    else:
        with pytest.raises(ValueError, match=r"device 'cuda' is unknown, .* give one of cpu"):
            parse_device("cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert available_devices() == ["cpu", "cuda:0", "cuda:1"]
    assert parse_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("here", [False, True])
def test_auto_is_a_cuda_gpu_or_the_cpu_even_where_there_is_mps(monkeypatch: pytest.MonkeyPatch, here: bool) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: here)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(here))
    expected = "cuda" if here else "cpu"
    assert chosen_device("auto") == torch_device("auto") == expected
    assert resolve_device("auto") == (expected, 0)
    assert chosen_device("cuda:3") == "cuda:3"


@pytest.mark.parametrize("ask", [chosen_device, parse_device, torch_device, resolve_device])
def test_mps_is_refused_with_the_reason(monkeypatch: pytest.MonkeyPatch, ask: Callable[[str], object]) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with pytest.raises(ValueError, match=r"device 'mps(:0)?': Apple's MPS has no float64.*use cpu"):
        ask("mps")
    with pytest.raises(ValueError, match="has no float64"):
        ask("mps:0")
