"""LoRA: adapted layers, their injection, state and merging."""

from sam3d_objects.model.lora.config import LayerOptions, LoRAConfig
from sam3d_objects.model.lora.injection import (
    check_plan,
    has_lora,
    inject_lora,
    inject_planned,
    lora_disabled,
    lora_layers,
    plan_injection,
    set_lora_enabled,
)
from sam3d_objects.model.lora.layers import LoRALinear
from sam3d_objects.model.lora.merging import base_state_dict, merge_lora_weights, merged_model
from sam3d_objects.model.lora.movement import Movement, movement, tensor_digests
from sam3d_objects.model.lora.paths import collapse_paths, nearest_paths
from sam3d_objects.model.lora.setup import setup_from_config, setup_lora_for_medical_finetuning
from sam3d_objects.model.lora.state import (
    LoadResult,
    check_adapter_tensors,
    get_lora_state_dict,
    load_lora_state_dict,
)
from sam3d_objects.model.lora.summary import lora_summary
from sam3d_objects.model.lora.targets import ALL_PARAMETERS, DEFAULT_OUTPUT_LAYERS, DEFAULT_TARGETS, MLP_TARGETS
from sam3d_objects.model.lora.trainable import (
    count_parameters,
    freeze_base_params,
    get_lora_params,
    norms_of_adapted_blocks,
    trainable_names,
    trained_fully,
    unfreeze,
)

__all__ = [
    "ALL_PARAMETERS",
    "DEFAULT_OUTPUT_LAYERS",
    "DEFAULT_TARGETS",
    "MLP_TARGETS",
    "LayerOptions",
    "LoRAConfig",
    "LoRALinear",
    "LoadResult",
    "Movement",
    "base_state_dict",
    "check_adapter_tensors",
    "check_plan",
    "collapse_paths",
    "count_parameters",
    "freeze_base_params",
    "get_lora_params",
    "get_lora_state_dict",
    "has_lora",
    "inject_lora",
    "inject_planned",
    "load_lora_state_dict",
    "lora_disabled",
    "lora_layers",
    "lora_summary",
    "merge_lora_weights",
    "merged_model",
    "movement",
    "nearest_paths",
    "norms_of_adapted_blocks",
    "plan_injection",
    "set_lora_enabled",
    "setup_from_config",
    "setup_lora_for_medical_finetuning",
    "tensor_digests",
    "trainable_names",
    "trained_fully",
    "unfreeze",
]
