"""Sizes and flags of modules in a base model's configs, checked by their names before a module is built of them."""

from collections.abc import Mapping
from typing import Any

from sam3d_objects.model.checks import check_number, check_whole

# Whole numbers from 1 on, wherever a config has them.
_WIDTHS = ("model_channels", "cond_channels", "in_channels", "out_channels", "latent_channels", "embed_dim")
_DEPTHS = ("num_blocks", "num_io_res_blocks", "num_res_blocks", "num_res_blocks_middle", "depth")
_SIDES = ("resolution", "img_size", "input_size", "patch_size", "window_size")
_COUNTS = (*_WIDTHS, *_DEPTHS, *_SIDES, "num_heads", "norm_groups", "token_len")
_SCALES = ("mlp_ratio", "projection_net_hidden_dim_multiplier")
_FLAGS = ("is_shortcut_model", "normalize_images", "prenorm_features", "qk_rms_norm", "reshape_input_to_cube")
_WIDTH_LISTS = ("channels", "io_block_channels")
# What `num_heads` divides, under the names that configs have for it.
_ATTENTION_WIDTHS = ("model_channels", "embed_dim")


def check_node_values(values: Mapping[Any, Any]) -> None:
    """Check the entries of a node, also of one without a target, such as a ViT's; other names may hold anything.

    Raises:
        ValueError: an entry is of another type or out of its range, or the heads do not divide the width; it is named.
    """
    for key in _COUNTS:
        check_whole(key, values.get(key, 1))
    for key in _SCALES:
        check_number(key, values.get(key, 1), above=0)
    for key in _FLAGS:
        if not isinstance(values.get(key, False), bool):
            raise ValueError(f"{key} must be true or false, got {values[key]!r}")
    for key in _WIDTH_LISTS:
        widths = values.get(key, [])
        if not isinstance(widths, list):
            raise ValueError(f"{key} must be a list of whole numbers, got {widths!r}")
        for index, width in enumerate(widths):
            check_whole(f"{key}[{index}]", width)
    for key in _ATTENTION_WIDTHS:
        if key in values and values[key] % values.get("num_heads", 1):
            raise ValueError(f"num_heads must divide {key} {values[key]}, got {values['num_heads']}")
