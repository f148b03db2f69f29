"""A merged model as a folder like the release's: the same configs, file and tensor names, in safetensors.

Files that no adapter touches are copied byte for byte, those of networks that nothing here reads included. In the files
of adapted networks, tensors that did not change keep their dtype, and those that did are float32: half precision would
round away much of what was learned.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from sam3d_objects.adapter.adapter_set import AdapterSet
from sam3d_objects.adapter.atomic import atomic_folder
from sam3d_objects.adapter.card import merged_card
from sam3d_objects.adapter.untrusted import check_inside
from sam3d_objects.files import atomic_path, write_json
from sam3d_objects.model import SAM3DObjects
from sam3d_objects.model.lora import has_lora, merged_model
from sam3d_objects.model.stages import DECODER, LATENT, STRUCTURE, adapted_module
from sam3d_objects.model.weights import GENERATOR_PREFIX, TINY_FOLDER, read_tensors, read_yaml

MERGED, CARD, PIPELINE = "sam3d_merged.json", "README.md", "pipeline.yaml"
_FLOW = f"{GENERATOR_PREFIX}reverse_fn.backbone."
# Stage -> the part whose file its network is in, and what stands before its names there.
_PLACES = {STRUCTURE: ("ss_generator", _FLOW), LATENT: ("slat_generator", _FLOW), DECODER: ("slat_decoder_mesh", "")}


def export_release(base: str | Path, adapted: SAM3DObjects, adapters: AdapterSet, out: str | os.PathLike[str]) -> None:
    """Write a base model with its adapters merged, as a folder that `load_model` and the release's software read.

    Args:
        base: 'tiny' or the base's folder, as it was given to `load_model`.
        adapted: that model in float32, with the adapters loaded.
        adapters: what was loaded, to be told on the card.
        out: a new folder, or one that was exported before from the same base.

    Raises:
        ValueError: the model's networks are not those of the base's files, its pipeline.yaml names a file outside of
            its folder, or `out` holds other files.
        OSError: the folder can't be written (a full disk); an older one there stays as it was.
    """
    source = TINY_FOLDER if str(base) == "tiny" else Path(base)
    pipeline = read_yaml(source / PIPELINE)
    changed = {}
    for stage in adapters.stages:
        part, prefix = _PLACES[stage]
        key = f"{part}_ckpt_path"
        name = check_inside(str(pipeline[key]))
        state = read_tensors(source / name)
        changed[name] = _with_merged(state, adapted_module(adapted, stage), prefix, str(source / name))
        pipeline[key] = str(Path(name).with_suffix(".safetensors"))
    copied = [file.relative_to(source) for file in _files(source) if str(file.relative_to(source)) not in changed]
    entries = {
        path.parts[0] for path in map(Path, (*map(str, copied), *pipeline_files(pipeline), PIPELINE, MERGED, CARD))
    }
    with atomic_folder(out, {*entries, *(Path(name).parts[0] for name in changed)}) as temporary:
        for path in copied:
            (temporary / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / path, temporary / path)
        for name, state in changed.items():
            target = (temporary / name).with_suffix(".safetensors")
            with atomic_path(target) as written:  # it makes the folder, and a file that others may read
                save_file(state, written, metadata={"format": "pt"})
        (temporary / PIPELINE).write_text(yaml.safe_dump(pipeline, sort_keys=False), encoding="utf-8")
        (temporary / CARD).write_text(merged_card(adapters), encoding="utf-8")
        write_json(temporary / MERGED, _record(adapters))


def pipeline_files(pipeline: Mapping[str, Any]) -> list[str]:
    """Return the files that a pipeline.yaml names."""
    return [str(value) for key, value in pipeline.items() if str(key).endswith("_path") and value]


def _files(source: Path) -> list[Path]:
    """The base's own files: not its card, and no links or hidden folders, such as a download's cache."""
    kept = []
    for file in sorted(source.rglob("*")):
        inner = file.relative_to(source)
        hidden = any(part.startswith((".", "__")) for part in inner.parts)
        if file.is_file() and not hidden and str(inner) not in (PIPELINE, CARD, MERGED):
            kept.append(file)
    return kept


def _with_merged(state: dict[str, Tensor], module: nn.Module, prefix: str, where: str) -> dict[str, Tensor]:
    """Return a file's tensors with those of a merged module in the place of the base's."""
    merged = (merged_model(module) if has_lora(module) else module).state_dict()
    ours = {prefix + name: value for name, value in merged.items()}
    strange = sorted(name for name in ours if name not in state or state[name].shape != ours[name].shape)
    if strange:
        raise ValueError(f"{where} is not the file that this model was loaded from: {', '.join(strange[:5])} differ")
    made = {}
    for name, value in state.items():
        plain = value.float() if value.is_floating_point() else value
        new = ours.get(name)
        same = new is None or torch.equal(new.to("cpu", plain.dtype), plain)
        made[name] = value.clone() if same or new is None else new.to("cpu", plain.dtype).contiguous()
    return made


def _record(adapters: AdapterSet) -> dict[str, Any]:
    return {
        "adapters": {
            stage: {
                "sha256": record.sha256,
                "base_name": record.meta.base_name,
                "base_fingerprint": record.meta.base_fingerprint,
                "adapter": record.meta.to_dict(),
            }
            for stage, record in adapters.records.items()
        }
    }
