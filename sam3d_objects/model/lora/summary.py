"""One text that says what of a model trains: which layers are adapted, and how many numbers that is."""

from collections import defaultdict

from torch import nn

from sam3d_objects.model.lora.layer import LoRALayer
from sam3d_objects.model.lora.options import DEFAULT_ADAPTER
from sam3d_objects.model.lora.paths import group_paths
from sam3d_objects.model.lora.trainable import count_parameters, trained_fully
from sam3d_objects.model.lora.walk import lora_layers


def lora_summary(model: nn.Module) -> str:
    """Return a text for people: adapted layers grouped by path, shape and options, what trains fully, and
    counts.

    For the released structure flow it reads, shortened::

        LoRA on 240 layers
          blocks.{0..23}.self_attn.to_qkv.shape  1024->3072 r4 alpha 8  x24
        trained fully
          latent_mapping.shape.out_layer
        trainable 2,576,404 of 962,518,037 parameters (0.268 %), of which LoRA 2,555,904
    """
    layers = lora_layers(model)
    kinds: dict[str, list[str]] = defaultdict(list)
    for path, layer in layers.items():
        for name in layer.options:
            kinds[_layer_text(layer, name)].append(path)
    rows = [
        (line, f"{kind}  x{len(members)}")
        for kind, paths in kinds.items()
        for line, members in group_paths(paths).items()
    ]
    width = max((len(line) for line, _ in rows), default=0)
    lines = [f"LoRA on {len(layers)} layers" if layers else "no LoRA"]
    lines += [f"  {line:<{width}}  {text}" for line, text in rows]
    modules, parameters = trained_fully(model)
    if modules or parameters:
        lines += ["trained fully", *(f"  {line}" for line in group_paths(modules + parameters))]
    counts = count_parameters(model)
    percent = 100 * counts["trainable"] / max(counts["total"], 1)
    lines.append(
        f"trainable {counts['trainable']:,} of {counts['total']:,} parameters ({percent:.3f} %), "
        f"of which LoRA {counts['lora']:,}"
    )
    return "\n".join(lines)


def _layer_text(layer: LoRALayer, name: str) -> str:
    """Return size and options of one adapter of a layer, such as `1024->3072 r4 alpha 8`."""
    options, (rows, columns) = layer.options[name], layer.matrix(layer.original_weight).shape
    words = [f"{columns}->{rows} r{options.rank} alpha {options.alpha:g}"]
    words += [f"dropout {options.dropout:g}"] if options.dropout else []
    words += ["rslora"] if options.rslora else []
    words += [options.init] if options.init != "kaiming" else []
    words += ["dora"] if options.dora else []
    words += [f"parts {options.parts}"] if options.parts else []
    words += [f"adapter {name}"] if name != DEFAULT_ADAPTER else []
    words += [] if layer.enabled else ["(disabled)"]
    words += [] if name in layer.active else ["(not in use)"]
    return " ".join(words)
