"""Bytes from a site: to the last bit the same, and nothing but an adapter gets through."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from sam3d_objects.adapter.exchange import decode, encode, most_bytes
from sam3d_objects.adapter.exchange.wire import FORMAT, MOST_HEADER_BYTES
from tests.adapter.exchange.adapters import BASE, drawn

SENT = drawn(1, samples=17)
LIMIT = most_bytes(SENT.manifest)


def message(change: dict[str, Any], arrays: dict[str, Any] | None = None) -> bytes:
    """A message such as ours with another record, or other arrays."""
    about = {"format": FORMAT, "base_fingerprint": BASE, "keys": ["x"], "layers": {}, "held": "", "samples": 1} | change
    return save(arrays or {"x": np.ones(2, np.float32)}, metadata={"sam3d": json.dumps(about)})


def test_all_comes_back_to_the_last_bit() -> None:
    assert encode(SENT) == encode(SENT)
    found = decode(encode(SENT), LIMIT)
    assert found.manifest == SENT.manifest
    assert found.samples == 17
    for sent, came in zip(SENT.arrays, found.arrays, strict=True):
        assert np.array_equal(sent, came) and sent.dtype == came.dtype


def test_the_limit_is_just_above_what_an_adapter_needs() -> None:
    data = encode(SENT)
    assert len(data) <= LIMIT < len(data) + (80 << 10)
    with pytest.raises(ValueError, match=rf"a message of {len(data)} bytes; .* at most 100"):
        decode(data, 100)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "a header of 0 bytes"),
        (b"\xff" * 64, "a header of 18446744073709551615 bytes"),
        ((MOST_HEADER_BYTES + 1).to_bytes(8, "little") + b" " * 64, "a header of"),
        (encode(SENT)[:-3], "no adapter: SafetensorError"),
        (pickle.dumps({"x": 1}) + b" " * 64, "a header of"),
        (save({"x": np.ones(2, np.float32)}), "KeyError: '__metadata__'"),
        (save({"x": np.ones(2, np.float32)}, metadata={"else": "x"}), "KeyError: 'sam3d'"),
        (message({"format": "sam3d-medical exchange 2"}), "expected the format 'sam3d-medical exchange 1'"),
        (save({"x": np.ones(2, np.float32)}, metadata={"sam3d": "3"}), "TypeError"),
        (message({"keys": ["y"]}), "KeyError: 'y'"),
        (message({"keys": ["x", "x"]}), "not those that it lists"),
        (message({"keys": []}), "not those that it lists"),
        (message({}, {"x": np.ones(2, np.int64)}), "x is int64; an adapter's arrays are float32 or float64"),
        (message({}, {"x": np.full(2, np.inf, np.float32)}), "x holds NaN or infinity"),
        (message({"samples": 10**15}), "samples must be a whole number of at most"),
        (message({"samples": -1}), "samples must be a whole number of 0 or more"),
        (message({"layers": {"x": [1e400, 1]}}), "no adapter: OverflowError"),
        (message({"layers": {"x": 3}}), "no adapter: TypeError"),
        (message({"layers": None}), "no adapter: AttributeError"),
    ],
)
def test_what_is_no_adapter_is_refused_with_its_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        decode(data, 1 << 20)


def test_a_bomb_of_nested_json_is_refused() -> None:
    with pytest.raises(ValueError, match=r"no adapter: (RecursionError|JSONDecodeError)"):
        decode(save({"x": np.ones(2, np.float32)}, metadata={"sam3d": "[" * 100_000}), 1 << 20)


@settings(max_examples=150, deadline=None)
@given(place=st.integers(0, len(encode(SENT)) - 1), value=st.integers(0, 255))
def test_a_changed_byte_is_another_number_or_a_value_error(place: int, value: int) -> None:
    data = bytearray(encode(SENT))
    data[place] = value
    try:
        found = decode(bytes(data), LIMIT)
    except ValueError:
        return
    assert all(np.isfinite(array).all() for array in found.arrays)


def test_nothing_in_this_package_reads_a_pickle() -> None:
    package = Path(__file__).resolve().parents[3] / "sam3d_objects"
    for folder in ("adapter/exchange", "federated"):
        for file in (package / folder).rglob("*.py"):
            text = file.read_text(encoding="utf-8")
            assert "import pickle" not in text and "allow_pickle=True" not in text and "torch.load" not in text
