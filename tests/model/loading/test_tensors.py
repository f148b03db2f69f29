"""Weight files give tensors, or an error that names them; nothing in them is run."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sam3d_objects.model import load_model
from sam3d_objects.model.weights import read_tensors


class Payload:
    """Runs code when a careless reader unpickles it."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.mark}",)


def test_a_pickle_payload_is_refused(release: Path, tmp_path: Path) -> None:
    mark = tmp_path / "executed"
    torch.save({"state_dict": {"a": Payload(mark)}}, release / "ss_decoder.ckpt")
    with pytest.raises(
        ValueError, match=r"ss_decoder\.ckpt: refused, for it holds more than tensors \(\w+\.system\)"
    ) as error:
        load_model(release)
    assert "weights_only" not in str(error.value), "torch's hint how to run the code is not passed on"
    with (release / "ss_decoder.ckpt").open("wb") as stream:
        pickle.dump({"a": Payload(mark)}, stream)
    with pytest.raises(ValueError, match=r"ss_decoder\.ckpt: refused"):
        load_model(release)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([torch.zeros(2)], "expected a mapping of names to tensors, found list; download it again"),
        (torch.zeros(3), "expected a mapping of names to tensors, found Tensor"),
        ({"state_dict": [1]}, "expected a mapping of names to tensors, found list"),
        ({"a": torch.zeros(2), "b": 1}, "'b': expected a name and a tensor, found str and int"),
        ({"state_dict": {"a": None}}, "'a': expected a name and a tensor, found str and NoneType"),
        ({7: torch.zeros(2)}, "7: expected a name and a tensor, found int and Tensor"),
    ],
)
def test_what_is_no_state_dict(tmp_path: Path, content: object, said: str) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ValueError, match=rf"w\.pt: {said}"):
        read_tensors(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "w.pt",
            b"hello world, and more",
            r"damaged .*\(it begins with b'hello world, and'; KeyError: 101\); download",
        ),
        (
            "w.pt",
            b"module:\n  a: 1\n",
            r"refused, for it begins with b'module:\\n  a: 1\\n', and is damaged or holds more",
        ),
        ("w.safetensors", b"hello", r"damaged .*\(it begins with b'hello'; SafetensorError: "),
    ],
)
def test_a_text_in_place_of_weights(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: {said}"):
        read_tensors(tmp_path / name)


def test_torch_s_long_texts_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save({"a": torch.zeros(999)}, path)
    whole = path.read_bytes()
    for length in (10, 100, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"damaged or no weight file") as error:
            read_tensors(path)
        said = str(error.value).removeprefix(str(path))
        assert len(said) < 250 and "\n" not in said and "miniz" not in said


@pytest.mark.parametrize("kind", ["zip.pt", "old.pt", "s.safetensors"])
def test_damage_anywhere_is_a_value_error(tmp_path: Path, kind: str) -> None:
    path, state = tmp_path / kind, {f"layer.{i}": torch.randn(7, 5) for i in range(3)}
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip.pt")
    assert {n: tuple(v.shape) for n, v in read_tensors(path).items()} == dict.fromkeys(state, (7, 5))
    whole, generator = path.read_bytes(), np.random.default_rng(0)
    damaged = [whole[:length] for length in range(1, len(whole), max(1, len(whole) // 40))]
    for _ in range(150):
        flipped = bytearray(whole)
        for place in generator.integers(len(whole), size=3):
            flipped[place] ^= int(generator.integers(1, 256))
        damaged.append(bytes(flipped))
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            read_tensors(path)
        except ValueError as error:
            assert str(path) in str(error)
            refused += 1
    assert refused >= 40
