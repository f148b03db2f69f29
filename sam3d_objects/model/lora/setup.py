"""The one call that makes a model ready for fine-tuning: adapters in, base frozen, heads on request."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from sam3d_objects.model.lora.config import LoRAConfig
from sam3d_objects.model.lora.injection import inject_lora
from sam3d_objects.model.lora.options import DEFAULT_ADAPTER
from sam3d_objects.model.lora.summary import lora_summary
from sam3d_objects.model.lora.targets import DEFAULT_OUTPUT_LAYERS, Targets
from sam3d_objects.model.lora.trainable import (
    count_parameters,
    freeze_base_params,
    norms_of_adapted_blocks,
    unfreeze,
)


def setup_lora_for_medical_finetuning(
    model: nn.Module,
    rank: int = 4,
    alpha: float = 8.0,
    dropout: float = 0.0,
    unfreeze_output_layers: bool = True,
    output_layer_names: Sequence[str] | None = None,
    *,
    rslora: bool = False,
    init: str = "kaiming",
    dora: bool = False,
    parts: str = "",
    target_modules: Targets | None = None,
    patterns: Mapping[str, Mapping[str, Any]] | None = None,
    trained_modules: Sequence[str] = (),
    unfreeze_norms: bool = False,
    adapter: str = DEFAULT_ADAPTER,
    strict: bool = True,
    seed: int | None = None,
    generator: torch.Generator | None = None,
    verbose: bool = True,
) -> dict[str, int]:
    """Adapt a model's attention (or what is named) with LoRA, freeze its base and unfreeze its output heads.

    Args:
        model: changed in place.
        rank, alpha, dropout, rslora, init, dora, parts, target_modules, patterns, adapter, strict, seed, generator: as
            in `inject_lora`.
        unfreeze_output_layers: let output heads train fully; they are saved with the adapter.
        output_layer_names: globs or regular expressions of the heads' full paths; default: the heads of our
            networks (`DEFAULT_OUTPUT_LAYERS`), of which at least one must be there.
        trained_modules: globs or regular expressions of anything else that trains fully.
        unfreeze_norms: let the normalisation layers of the blocks that hold an adapter train fully.
        verbose: print which layers are adapted, and the counts.

    Returns:
        The counts of `count_parameters`: total, trainable, lora.

    Raises:
        ValueError: a pattern that finds nothing, each named with the nearest paths, or an option out of
            range.
    """
    inject_lora(
        model,
        target_modules,
        rank,
        alpha,
        dropout,
        rslora=rslora,
        init=init,
        dora=dora,
        parts=parts,
        patterns=patterns,
        adapter=adapter,
        strict=strict,
        seed=seed,
        generator=generator,
    )
    freeze_base_params(model)  # Also where the targets found nothing and strict is off.
    if unfreeze_output_layers:
        _unfreeze_heads(model, output_layer_names, strict)
    unfreeze(model, trained_modules, strict)
    if unfreeze_norms:
        unfreeze(model, norms_of_adapted_blocks(model), strict)
    if verbose:
        print(lora_summary(model))
    return count_parameters(model)


def setup_from_config(
    model: nn.Module,
    config: LoRAConfig,
    *,
    adapter: str = DEFAULT_ADAPTER,
    seed: int | None = None,
    generator: torch.Generator | None = None,
) -> dict[str, int]:
    """Adapt a model in place as a config says, silently; returns the counts of `count_parameters`."""
    if config.without_lora:
        freeze_base_params(model)
        unfreeze(model, config.trained_modules)
        return count_parameters(model)
    return setup_lora_for_medical_finetuning(
        model,
        config.rank,
        config.alpha,
        config.dropout,
        unfreeze_output_layers=False,
        rslora=config.rslora,
        init=config.init,
        dora=config.dora,
        parts=config.parts,
        target_modules=config.target_modules,
        patterns=config.patterns,
        trained_modules=config.trained_modules,
        adapter=adapter,
        seed=seed,
        generator=generator,
        verbose=False,
    )


def _unfreeze_heads(model: nn.Module, names: Sequence[str] | None, strict: bool) -> None:
    if names is not None:
        unfreeze(model, names, strict)
    elif not unfreeze(model, DEFAULT_OUTPUT_LAYERS, strict=False) and strict:
        raise ValueError(
            f"the model has no output layer that matches {' or '.join(map(repr, DEFAULT_OUTPUT_LAYERS))}: "
            "name its heads in output_layer_names, or set unfreeze_output_layers=False"
        )
