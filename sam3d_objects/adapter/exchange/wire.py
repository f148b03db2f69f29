"""An adapter as bytes: safetensors, which is numbers and names and cannot run code, with bounds on all of it."""

import json
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load, save

from sam3d_objects.adapter.exchange.parameters import AdapterParameters, Key, Layer, Manifest

FORMAT = "sam3d-medical exchange 1"
MOST_HEADER_BYTES = 8 << 20
MOST_SAMPLES = 10**12
_RECORD = "sam3d"
_SPARE_BYTES = 64 << 10
_LENGTH_BYTES = 8  # safetensors begins with the header's length, little endian
_DTYPES = ("float32", "float64")
_MALFORMED = (KeyError, TypeError, AttributeError, UnicodeDecodeError, OverflowError, RecursionError)


def encode(parameters: AdapterParameters) -> bytes:
    """Return parameters as the bytes of a safetensors file, always the same; `decode` is the way back."""
    manifest = parameters.manifest
    about = {
        "format": FORMAT,
        "base_fingerprint": manifest.base_fingerprint,
        "keys": [key.name for key in manifest.keys],
        "layers": {path: _listed(layer) for path, layer in manifest.layers.items()},
        "held": manifest.held,
        "samples": parameters.samples,
    }
    # One entry: with two their order, and so the bytes, would be another one each time.
    return save(parameters.by_name, metadata={_RECORD: json.dumps(about)})


def most_bytes(manifest: Manifest) -> int:
    """Return how large a message with such an adapter can be; anything larger is something else."""
    names = sum(2 * len(key.name) + 256 for key in manifest.keys) + sum(len(path) + 64 for path in manifest.layers)
    names += sum(8 * len(layer.parts) for layer in manifest.layers.values())
    return manifest.nbytes + names + _SPARE_BYTES


def decode(data: bytes, limit: int) -> AdapterParameters:
    """Read parameters from bytes that somebody sent.

    Args:
        data: what `encode` gave.
        limit: more bytes than that are refused unread; see `most_bytes`.

    Raises:
        ValueError: too large, damaged, not an adapter, or arrays that are misshapen or not finite.
    """
    if len(data) > limit:
        raise ValueError(f"a message of {len(data)} bytes; an adapter such as ours has at most {limit}")
    try:
        about = _about(data)
        arrays = load(data)
        keys = tuple(_key(name, arrays) for name in about["keys"])
        layers = {path: _layer(*values) for path, values in about["layers"].items()}
        manifest = Manifest(str(about["base_fingerprint"]), keys, layers, str(about["held"]))
        samples = about["samples"]
    except (SafetensorError, json.JSONDecodeError, *_MALFORMED) as error:
        raise ValueError(f"these bytes are no adapter: {type(error).__name__}: {error}") from error
    if len(keys) != len(arrays) or len({key.name for key in keys}) != len(keys):
        raise ValueError("these bytes are no adapter: its arrays are not those that it lists")
    if not isinstance(samples, int) or samples > MOST_SAMPLES:
        raise ValueError(f"samples must be a whole number of at most {MOST_SAMPLES}, got {samples!r}")
    return AdapterParameters(manifest, tuple(arrays[key.name] for key in keys), samples)


def _about(data: bytes) -> Mapping[str, Any]:
    """Read what we wrote into the header's metadata, which `safetensors.numpy.load` does not return."""
    length = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if len(data) < _LENGTH_BYTES or length > min(MOST_HEADER_BYTES, len(data) - _LENGTH_BYTES):
        raise ValueError(f"these bytes are no adapter: a header of {length} bytes in a message of {len(data)}")
    about = json.loads(json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])["__metadata__"][_RECORD])
    if about["format"] != FORMAT:
        raise ValueError(f"expected the format {FORMAT!r}, got {about['format']!r}")
    return about


def _listed(layer: Layer) -> list[Any]:
    return [layer.rank, layer.scaling, *([layer.parts] if layer.parts else [])]


def _layer(rank: Any, scaling: Any, parts: Any = "") -> Layer:
    return Layer(int(rank), float(scaling), str(parts))


def _key(name: Any, arrays: Mapping[str, Any]) -> Key:
    array = arrays[name]
    if array.dtype.name not in _DTYPES:
        raise ValueError(f"{name} is {array.dtype}; an adapter's arrays are {' or '.join(_DTYPES)}")
    return Key(str(name), tuple(array.shape), array.dtype.name)
