"""The card that goes into every adapter folder as README.md."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sam3d_objects import __version__
from sam3d_objects.adapter.meta import AdapterMeta

if TYPE_CHECKING:
    from sam3d_objects.adapter.adapter_set import AdapterSet

RESEARCH_USE = "Research use, not for diagnosis."
_TINY = "tiny"
_NOT_FOR_PEFT = """
PEFT refuses this folder (its `peft_type` is `SAM3D_LORA`); `sam3d_objects.adapter.load_adapter(folder, base)` loads it.
"""


def adapter_card(
    meta: AdapterMeta, parameters: Mapping[str, int], layers: int, file_bytes: int, peft_reads: bool = True
) -> str:
    """Return the card as Markdown.

    Args:
        meta: what the adapter remembers.
        parameters: what `count_parameters` gave for the adapted model.
        layers: how many layers are adapted.
        file_bytes: size of `adapter_model.safetensors`.
        peft_reads: whether PEFT can load the folder; else the card says that it cannot, and what does.
    """
    organs = ", ".join(meta.organs)
    share = 100 * parameters["trainable"] / parameters["total"]
    return f"""---
license: {"apache-2.0" if meta.base_name == _TINY else "other"}
base_model: {_hub_name(meta.base_name)}
tags: [{"lora, " if layers else ""}sam3d-medical, {meta.stage}]
---
# {"LoRA adapter" if layers else "Fully trained weights"} for {organs} ({meta.stage} stage)

**{RESEARCH_USE}**

One marked slice of a scan in, the whole organ as a mesh in patient millimetres out. It is not the model
itself: it needs the base `{meta.base_name}` (fingerprint `{meta.base_fingerprint}`) and refuses any other.

- trained on: {organs}. The network is not told which organ it sees; expect nothing from it on others.
- {_use(meta)}
- written by sam3d-medical {meta.version}
- {layers} adapted layers, {parameters["trainable"]:,} trained numbers ({share:.2f} % of the model)
- size on disk: {_size(file_bytes)}

## Scores

{_scores(meta.metrics)}

## Use

{_command(meta.base_name)}

`sam3d.json` holds how slices must be prepared and the model sampled; the commands read it from there.
{"" if peft_reads else _NOT_FOR_PEFT}
## Licence

{licence_notice(meta.base_name)}

Scans have licences and consents of their own, and an adapter can remember patients: ask before you publish.
{RESEARCH_USE}
"""


def merged_card(adapters: "AdapterSet") -> str:
    """Return the card of a model that adapters were merged into, as Markdown."""
    first = adapters.records[adapters.stages[0]].meta
    lines = [
        f"- {stage}: trained on {', '.join(record.meta.organs)}; SHA-256 `{record.sha256}`"
        for stage, record in adapters.records.items()
    ]
    return f"""---
license: {"apache-2.0" if first.base_name == _TINY else "other"}
base_model: {_hub_name(first.base_name)}
tags: [sam3d-medical, merged]
---
# {first.base_name} with merged adapters for {", ".join(adapters.organs)}

**{RESEARCH_USE}**

The base model's files, names and configs; in the networks below, what the adapters learned is added to the weights.

{chr(10).join(lines)}
- {_use(first)}
- merged by sam3d-medical {__version__}

Adapters of the base do not fit this model any more, and are refused. `sam3d_merged.json` holds what the adapters
remembered.

## Scores

{_scores(first.metrics)}

## Use

    from sam3d_objects.model import load_model
    model = load_model("THIS_FOLDER")

## Licence

{licence_notice(first.base_name)}
{RESEARCH_USE}
"""


def _hub_name(base_name: str) -> str:
    """What the hub calls the base; a folder's own name says nothing there."""
    return base_name if base_name == _TINY else "facebook/sam-3d-objects"


def _command(base_name: str) -> str:
    base = "" if base_name == _TINY else " --base THE_RELEASE"
    return (
        f"    sam3d-med reconstruct --checkpoint THIS_FOLDER{base} --image scan.nii.gz --label labels.nii.gz \\\n"
        "        --classes 1 --plane axial --slice_index 30 --out mesh"
    )


def licence_notice(base_name: str) -> str:
    """Return the notice that the base model's licence requires of what is derived from it."""
    if base_name == _TINY:
        return (
            "The base is the small built-in model, trained on procedural shapes and under Apache-2.0. "
            "This adapter holds nothing of Meta's released weights, to which the SAM License applies."
        )
    return (
        "The base is SAM 3D Objects, whose weights are Meta's and come under the **SAM License** "
        "(<https://github.com/facebookresearch/sam-3d-objects>). This adapter, or a model merged from it, "
        "is derived from them: whoever you give it to must get it under the SAM License, with a copy of that "
        "licence. It excludes some uses and asks that publications acknowledge the model."
    )


def _use(meta: AdapterMeta) -> str:
    contract = meta.contract
    if contract.modality == "ct":
        intensity = f"window {contract.window_hu[0]:g} to {contract.window_hu[1]:g} HU"
    else:
        intensity = f"percentiles {contract.percentiles[0]:g} to {contract.percentiles[1]:g}"
    view = "the whole slice"
    if contract.field_of_view == "mask_margin":
        view = f"the slice cut to the mask and {contract.margin_mm:g} mm around it"
    planes = ", ".join(contract.planes)
    scale = f"; 1 in its positions is {contract.scene_scale_mm:g} mm" if contract.scene_scale_mm else ""
    return f"made for: {contract.modality.upper()} ({intensity}), {planes} slices; it sees {view}{scale}"


def _scores(metrics: Mapping[str, Any]) -> str:
    if not metrics:
        return "None were recorded."
    rows = [(name, value) for name, value in metrics.items() if not isinstance(value, Mapping)]
    text = [_table(("metric", "value"), rows)] if rows else []
    organs = {name: value for name, value in metrics.items() if isinstance(value, Mapping)}
    if organs:
        names = list(dict.fromkeys(metric for value in organs.values() for metric in value))
        text.append(_table(("organ", *names), [(organ, *map(value.get, names)) for organ, value in organs.items()]))
    return "\n\n".join(text)


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [" | ".join(head), " | ".join("---" for _ in head)]
    lines += [" | ".join(_cell(cell) for cell in row) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "no value"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"
