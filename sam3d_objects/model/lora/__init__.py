"""LoRA: adapted layers, their injection, named adapters, state and merging."""

from sam3d_objects.model.lora.adapters import (
    adapter_names,
    combine_adapters,
    delete_adapter,
    lora_disabled,
    set_lora_enabled,
    use_adapter,
    using_adapter,
)
from sam3d_objects.model.lora.attention import LoRAMultiheadAttention
from sam3d_objects.model.lora.beside import note_beside
from sam3d_objects.model.lora.config import LoRAConfig
from sam3d_objects.model.lora.convolution import LoRAConv
from sam3d_objects.model.lora.embedding import LoRAEmbedding
from sam3d_objects.model.lora.frame import Frame
from sam3d_objects.model.lora.injection import check_plan, inject_lora, inject_planned, plan_injection
from sam3d_objects.model.lora.kinds import ADAPTABLE, can_adapt, frame_of
from sam3d_objects.model.lora.layer import LoRALayer
from sam3d_objects.model.lora.linear import LoRALinear
from sam3d_objects.model.lora.merging import base_state_dict, merge_lora_weights, merged_model, unmerge_lora_weights
from sam3d_objects.model.lora.movement import Movement, movement, tensor_digests
from sam3d_objects.model.lora.options import DEFAULT_ADAPTER, INITS, LayerOptions
from sam3d_objects.model.lora.paths import collapse_paths, nearest_paths
from sam3d_objects.model.lora.reference import remember
from sam3d_objects.model.lora.setup import setup_from_config, setup_lora_for_medical_finetuning
from sam3d_objects.model.lora.sparse import LoRASparse
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
from sam3d_objects.model.lora.verify import Verification, verify
from sam3d_objects.model.lora.walk import active_adapters, has_lora, lora_layers

__all__ = [
    "ADAPTABLE",
    "ALL_PARAMETERS",
    "DEFAULT_ADAPTER",
    "DEFAULT_OUTPUT_LAYERS",
    "DEFAULT_TARGETS",
    "INITS",
    "MLP_TARGETS",
    "Frame",
    "LayerOptions",
    "LoRAConfig",
    "LoRAConv",
    "LoRAEmbedding",
    "LoRALayer",
    "LoRALinear",
    "LoRAMultiheadAttention",
    "LoRASparse",
    "LoadResult",
    "Movement",
    "Verification",
    "active_adapters",
    "adapter_names",
    "base_state_dict",
    "can_adapt",
    "check_adapter_tensors",
    "check_plan",
    "collapse_paths",
    "combine_adapters",
    "count_parameters",
    "delete_adapter",
    "frame_of",
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
    "note_beside",
    "plan_injection",
    "remember",
    "set_lora_enabled",
    "setup_from_config",
    "setup_lora_for_medical_finetuning",
    "tensor_digests",
    "trainable_names",
    "trained_fully",
    "unfreeze",
    "unmerge_lora_weights",
    "use_adapter",
    "using_adapter",
    "verify",
]
