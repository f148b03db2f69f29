"""`sam3d-med adapter ...`: what one does with adapters that are there: find, tell, compare, add up, give and get."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if TYPE_CHECKING:
    from sam3d_objects.adapter import AdapterSet
    from sam3d_objects.model import SAM3DObjects

FORMATS = ("release", "program", "onnx")
HUB = "hf://"


def list_adapters(
    registry: Annotated[str, "a folder with adapters below it, or hf://USER/REPOSITORY[/FOLDER][@REVISION]"],
) -> None:
    """List the adapters of a folder or of a repository on the Hugging Face Hub.

    Any folder is a registry: training's own (runs), or one that adapters were pushed to. The table tells of each its
    name, stage, organs, base model, rank, how many numbers were trained, the Dice score that training measured on
    validation patients, and its size. Damaged ones are named with the reason. Nothing is run, and no tensor is read.

        sam3d-med adapter list --registry runs
        sam3d-med adapter list --registry hf://clinic/hippocampus
        sam3d-med adapter list runs
    """
    from sam3d_objects.adapter.registry import HubPlace, find_adapters, find_on_hub, hub_client, registry_table

    if registry.startswith(HUB):
        print(registry_table(find_on_hub(HubPlace.parse(registry), hub_client())))
    else:
        print(registry_table(find_adapters(registry)))


def info(
    adapter: Annotated[Path, "adapter folder, or a set of them (such as runs/hippocampus/best)"],
) -> None:
    """Tell all that an adapter remembers: base, layers, how it is used, scores, data, licence.

    The base's fingerprint says which model it belongs to; any other is refused. The data's fingerprint says which
    prepared data set it was trained on, without telling the data.

        sam3d-med adapter info --adapter runs/hippocampus/best
    """
    from sam3d_objects.adapter import read_adapter_set
    from sam3d_objects.adapter.record import TENSORS
    from sam3d_objects.adapter.registry import info_text

    adapters = read_adapter_set(adapter)
    for stage, record in adapters.records.items():
        folder = adapters.folders[stage]
        print(f"{folder}\n{info_text(record, (folder / TENSORS).stat().st_size)}\n")


def diff(
    first: Annotated[Path, "adapter folder"],
    second: Annotated[Path, "another one"],
) -> None:
    """Tell in what two adapters differ: options, layers, tensors, and by how much.

    A layer's update is alpha / rank B A, and updates are compared, not A and B, of which many pairs have one product:
    100 % means that the second is as far from the first as no update at all. The largest differences come first.

        sam3d-med adapter diff --first runs/a/best --second runs/b/best
    """
    from sam3d_objects.adapter.registry import compare_adapters, difference_text

    print(difference_text(compare_adapters(first, second)))


def merge(
    adapters: Annotated[tuple[Path, ...], "adapter folders of one stage and base"],
    out: Annotated[Path, "folder for the adapter that is their sum"],
    weights: Annotated[tuple[float, ...], "one for each adapter; default: their mean"] = (),
    rank: Annotated[int | None, "cut the sum back to this rank; default: the sum of the ranks, exact"] = None,
    base: Annotated[str, "base model: tiny (built in), or the folder of the released files [tiny]"] = "tiny",
) -> None:
    """Add up adapters, each with a weight, to one adapter.

    The updates B A are added up, exactly; A and B apart would give something else. The rank of the sum is that of all
    together, unless --rank cuts it back, and then what is lost is told. Scores are not taken over: measure the sum with
    `sam3d-med eval`. To put an adapter into the base model's weights for good, see `sam3d-med adapter export`.

        sam3d-med adapter merge --adapters runs/site1/best runs/site2/best --weights 0.7 0.3 --out runs/both
        sam3d-med adapter merge --adapters runs/liver/best --weights 0.5 --out runs/half

    Research use, not for diagnosis.
    """
    from sam3d_objects.adapter import read_adapter
    from sam3d_objects.adapter.registry import Part, sum_adapters
    from sam3d_objects.model.stages import adapted_module, stage_fingerprint

    if weights and len(weights) != len(adapters):
        raise ValueError(f"{len(adapters)} adapters need as many --weights, got {len(weights)}")
    shares = weights or (1 / len(adapters),) * len(adapters)
    parts = [Part(folder, weight) for folder, weight in zip(adapters, shares, strict=True)]
    stage = read_adapter(adapters[0]).meta.stage
    model = _base(base, [stage])
    lost = sum_adapters(parts, adapted_module(model, stage), stage_fingerprint(model, stage), out, rank)
    print(f"{out}: {' + '.join(f'{part.weight:g} x {part.folder}' for part in parts)}")
    if rank is not None:
        print(f"cut back to rank {rank}: the worst layer is {100 * lost:.3g} % off the exact sum")


def export(
    adapter: Annotated[Path, "adapter folder, or a set of them"],
    out: Annotated[Path, "folder for what is exported"],
    formats: Annotated[tuple[str, ...], f"of {', '.join(FORMATS)}, see above for what each is [release]"] = (),
    base: Annotated[str, "base model: tiny (built in), or the folder of the released files [tiny]"] = "tiny",
) -> None:
    """Merge an adapter into its base model, and write that for other software.

    release: OUT/model, a folder with the base's configs, file names and tensor names, in safetensors. The release's
    own software reads it, and so does --base OUT/model here. Only the files of adapted networks differ from the base's.

    program: OUT/NETWORK.pt2 for torch.export.load, of the condition embedder, the structure flow and the structure
    decoder; any batch up to 64.

    onnx: OUT/NETWORK.onnx of the same three (pip install "sam3d-medical[onnx]"). The networks of the latent stage work
    on sparse voxels and have no such form. Each program and each ONNX file is run and held against the model before it
    is kept.

        sam3d-med adapter export --adapter runs/hippocampus/best --out exported
        sam3d-med adapter export --adapter runs/hippocampus/best --out exported --formats release program onnx

    Whoever you give a merged model to must get it under the base's licence. Research use, not for diagnosis.
    """
    from sam3d_objects.adapter import read_adapter_set
    from sam3d_objects.adapter.export import export_release
    from sam3d_objects.files import nearest

    formats = tuple(formats) or FORMATS[:1]
    for name in formats:
        if name not in FORMATS:
            raise ValueError(f"the formats are {', '.join(FORMATS)}; got {name!r}.{nearest(name, FORMATS)}")
    adapters = read_adapter_set(adapter)
    model = _base(base, adapters.stages)
    adapters.load(model)
    model.eval().requires_grad_(False)
    if "release" in formats:
        export_release(base, model, adapters, out / "model")
        print(f"{out / 'model'}: {adapters.contract.modality} model for {', '.join(adapters.organs)}, as --base")
    _export_networks(model, adapters, out, formats)


def push(
    adapter: Annotated[Path, "adapter folder, or a set of them"],
    registry: Annotated[str, "a folder, or hf://USER/REPOSITORY[/FOLDER]"],
    name: Annotated[str, "what it is called there, such as hippocampus/site1"] = "",
    public: Annotated[bool, "a repository that is made for it on the hub can be read by anybody"] = False,
) -> None:
    """Copy an adapter into a registry: a folder, or a repository on the Hugging Face Hub.

    It is checked first, and only an adapter's four files go, whatever else lies in its folder. An older one of the same
    name is replaced. Repositories are made private. Adapters can remember patients: ask before you publish.

        sam3d-med adapter push --adapter runs/hippocampus/best --registry /share/adapters --name hippocampus/site1
        sam3d-med adapter push --adapter runs/hippocampus/best --registry hf://clinic/adapters --name hippocampus

    For the hub: pip install "sam3d-medical[download]", then `hf auth login`.
    """
    from sam3d_objects.adapter.registry import HubPlace, hub_client, push_folder, push_to_hub

    if registry.startswith(HUB):
        place = HubPlace.parse(registry).below(name)
        push_to_hub(adapter, place, hub_client(), public=public)
        print(f"{adapter} is now {place}")
    elif not name:
        raise ValueError(f"give --name, what the adapter is called in {registry}")
    else:
        print(f"{adapter} is now {push_folder(adapter, Path(registry), name)}")


def pull(
    registry: Annotated[str, "a folder, or hf://USER/REPOSITORY[/FOLDER][@REVISION]"],
    out: Annotated[Path, "folder for the adapter"],
    name: Annotated[str, "which one, as `sam3d-med adapter list` tells; default: the one at REGISTRY itself"] = "",
) -> None:
    """Fetch an adapter from a registry, checked as one from a stranger.

    Nothing of it can run: tensors are safetensors, and records JSON. Sizes are known before anything is fetched, files
    that no adapter has are left, and links, damaged headers, odd numbers and whatever does not fit are refused with the
    reason. OUT gets its name only when all is in order.

        sam3d-med adapter pull --registry hf://clinic/adapters --name hippocampus --out adapters/hippocampus
        sam3d-med adapter pull --registry /share/adapters --name hippocampus/site1 --out adapters/site1

    Research use, not for diagnosis.
    """
    from sam3d_objects.adapter.registry import HubPlace, hub_client, pull_folder, pull_from_hub

    if registry.startswith(HUB):
        pull_from_hub(HubPlace.parse(registry).below(name), out, hub_client())
    else:
        pull_folder(Path(registry), name, out)
    print(f"{out}: as it was there; `sam3d-med adapter info --adapter {out}` tells what it is")


ADAPTER_COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_adapters,
    "info": info,
    "diff": diff,
    "merge": merge,
    "export": export,
    "push": push,
    "pull": pull,
}


def _base(base: str, stages: Sequence[str]) -> "SAM3DObjects":
    from sam3d_objects.model import load_model

    return load_model(base, stages=("structure",) if set(stages) == {"structure"} else ("structure", "latent"))


def _export_networks(model: "SAM3DObjects", adapters: "AdapterSet", out: Path, formats: Sequence[str]) -> None:
    from sam3d_objects.adapter.export import DENSE, dense_network, export_onnx, export_program, traced
    from sam3d_objects.model.lora import has_lora, merge_lora_weights
    from sam3d_objects.model.stages import adapted_module

    writers = {"program": (export_program, "pt2"), "onnx": (export_onnx, "onnx")}
    asked = [writers[name] for name in writers if name in formats]
    if not asked:
        return
    for stage in adapters.stages:
        module = adapted_module(model, stage)
        if has_lora(module):
            merge_lora_weights(module)
    for name in DENSE:
        network = dense_network(model, name)
        program = traced(network)
        for write, suffix in asked:
            path = out / f"{name}.{suffix}"
            apart = write(network, program, path)
            print(f"{path}: {', '.join(network.inputs)} -> {', '.join(network.outputs)}; {apart:.1e} off eager")
