"""One text that says what of a model trains: which layers are adapted, and how many numbers that is."""

from collections import defaultdict

from torch import nn

from sam3d_objects.model.lora.injection import lora_layers
from sam3d_objects.model.lora.paths import group_paths
from sam3d_objects.model.lora.trainable import count_parameters, trained_fully


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
        dropout = f" dropout {layer.dropout_rate:g}" if layer.dropout_rate else ""
        kinds[
            f"{layer.in_features}->{layer.out_features} r{layer.rank} alpha {layer.alpha:g}{dropout}"
            + ("" if layer.enabled else " (disabled)")
        ].append(path)
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
