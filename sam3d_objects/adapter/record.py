"""`sam3d.json`: what an adapter folder says of itself, read without its tensors."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sam3d_objects.adapter.atomic import recover_folder
from sam3d_objects.adapter.meta import AdapterMeta
from sam3d_objects.files import read_json
from sam3d_objects.model.lora import LayerOptions, LoRAConfig

TENSORS = "adapter_model.safetensors"
PEFT_CONFIG = "adapter_config.json"
RECORD = "sam3d.json"
CARD = "README.md"
NAMES = (TENSORS, PEFT_CONFIG, RECORD, CARD)
_FORMAT = 1


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
            "layers": {path: [x.rank, x.alpha, x.dropout] for path, x in self.layers.items()},
            "trained": list(self.trained),
            "parameters": dict(self.parameters),
            "sha256": self.sha256,
        }


def read_adapter(folder: str | os.PathLike[str]) -> AdapterRecord:
    """Read what an adapter remembers, without its tensors.

    Raises:
        ValueError: there is no adapter, a file of it is missing (half written), or `sam3d.json` is damaged or
            newer than this library. The message names the folder.
    """
    path = Path(folder)
    recover_folder(path)
    missing = [name for name in (TENSORS, PEFT_CONFIG, RECORD) if not (path / name).is_file()]
    if len(missing) == 3:
        inner = sorted(file.parent.name for file in path.glob(f"*/{RECORD}"))
        hint = f"; there are adapters inside it: {', '.join(inner)}" if inner else ""
        raise ValueError(f"no adapter at {path}: expected a folder with {', '.join(NAMES[:3])}{hint}")
    if missing:
        raise ValueError(f"the adapter {path} is half written, {' and '.join(missing)} missing: copy it again")
    record = read_json(path / RECORD)
    try:
        return _parse(record)
    except KeyError as error:
        raise ValueError(f"{path / RECORD} is not an adapter's record: it lacks {error}") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path / RECORD} is not an adapter's record: {error}") from error


def _parse(record: Mapping[str, Any]) -> AdapterRecord:
    if record.get("format") != _FORMAT:
        raise ValueError(f"format {record.get('format')!r}, this version of sam3d-medical reads {_FORMAT}")
    return AdapterRecord(
        meta=AdapterMeta.from_dict(record["adapter"]),
        config=LoRAConfig.from_dict(record["lora"]),
        layers={path: LayerOptions(*options) for path, options in record["layers"].items()},
        trained=tuple(record["trained"]),
        parameters=dict(record["parameters"]),
        sha256=str(record["sha256"]),
    )
