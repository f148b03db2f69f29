"""`sam3d.json`: what an adapter folder says of itself, read without its tensors."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam3d_objects.adapter.atomic import recover_folder
from sam3d_objects.adapter.meta import AdapterMeta
from sam3d_objects.adapter.untrusted import check_entries, read_json_file
from sam3d_objects.adapter.untrusted.limits import (
    MOST_CARD_BYTES,
    MOST_JSON_BYTES,
    MOST_RANK,
    MOST_TENSOR_BYTES,
)
from sam3d_objects.files import nearest
from sam3d_objects.model.lora import LayerOptions, LoRAConfig

TENSORS = "adapter_model.safetensors"
PEFT_CONFIG = "adapter_config.json"
RECORD = "sam3d.json"
CARD = "README.md"
NAMES = (TENSORS, PEFT_CONFIG, RECORD, CARD)
MOST_BYTES = {
    TENSORS: MOST_TENSOR_BYTES,
    PEFT_CONFIG: MOST_JSON_BYTES,
    RECORD: MOST_JSON_BYTES,
    CARD: MOST_CARD_BYTES,
}
"""The files of an adapter folder, and how large each may be."""
_FORMAT = 1
_KEYS = ("format", "adapter", "lora", "layers", "trained", "parameters", "sha256")


@dataclass(frozen=True)
class AdapterRecord:
    """What `sam3d.json` holds.

    Attributes:
        meta: what the adapter remembers for its use.
        config: the LoRA options as they were asked for.
        layers: path -> options of each adapted layer.
        trained: names of the tensors that were trained fully.
        parameters: what `count_parameters` gave for the adapted model.
        sha256: of the tensor file.
    """

    meta: AdapterMeta
    config: LoRAConfig
    layers: Mapping[str, LayerOptions]
    trained: tuple[str, ...]
    parameters: Mapping[str, int]
    sha256: str

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return {
            "format": _FORMAT,
            "adapter": self.meta.to_dict(),
            "lora": self.config.to_dict(),
            "layers": {path: x.to_list() for path, x in self.layers.items()},
            "trained": list(self.trained),
            "parameters": dict(self.parameters),
            "sha256": self.sha256,
        }


def read_adapter(folder: str | os.PathLike[str]) -> AdapterRecord:
    """Read what an adapter remembers, without its tensors.

    Raises:
        ValueError: there is no adapter, a file of it is missing (half written), is no plain file or too large, or
            `sam3d.json` is damaged, newer than this library or holds what no record does. The message names the folder.
    """
    path = Path(folder)
    recover_folder(path)
    if path.is_dir():
        check_entries(path, MOST_BYTES)
    missing = [name for name in (TENSORS, PEFT_CONFIG, RECORD) if not (path / name).is_file()]
    if len(missing) == 3:
        inner = sorted(file.parent.name for file in path.glob(f"*/{RECORD}"))
        hint = f"; there are adapters inside it: {', '.join(inner)}" if inner else ""
        raise ValueError(f"no adapter at {path}: expected a folder with {', '.join(NAMES[:3])}{hint}")
    if missing:
        raise ValueError(f"the adapter {path} is half written, {' and '.join(missing)} missing: copy it again")
    return read_record(path / RECORD)


def read_record(path: Path) -> AdapterRecord:
    """Read a record's file alone.

    Raises:
        ValueError: it is damaged, newer than this library or holds what no record does; the message names the file.
    """
    record = read_json_file(path)
    try:
        return _parse(record)
    except KeyError as error:
        raise ValueError(f"{path} is not an adapter's record: it lacks {error}") from error
    except (ValueError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"{path} is not an adapter's record: {error}") from error


def _parse(record: Mapping[str, Any]) -> AdapterRecord:
    if record.get("format") != _FORMAT:
        raise ValueError(f"format {record.get('format')!r}, this version of sam3d-medical reads {_FORMAT}")
    for key in record:
        if key not in _KEYS:
            raise ValueError(f"it has the unknown key {key!r}.{nearest(key, _KEYS)}")
    for path, options in record["layers"].items():
        if isinstance(options[0], int) and options[0] > MOST_RANK:
            raise ValueError(f"{path} has the rank {options[0]:,}, an adapter's is at most {MOST_RANK:,}")
    return AdapterRecord(
        meta=AdapterMeta.from_dict(record["adapter"]),
        config=LoRAConfig.from_dict(record["lora"]),
        layers={path: LayerOptions.from_list(options) for path, options in record["layers"].items()},
        trained=tuple(record["trained"]),
        parameters=dict(record["parameters"]),
        sha256=str(record["sha256"]),
    )
