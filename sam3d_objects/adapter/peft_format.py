"""The two files of an adapter that PEFT reads: names of tensors, and `adapter_config.json` with PEFT's keys
only.

Written after PEFT 0.21 (`LoraConfig`, `get_peft_model_state_dict`); tensors there are called
`base_model.model.<path>.lora_A.weight` and, for modules that train fully (`modules_to_save`),
`base_model.model.<path>.<parameter>`. We use the same convention for our heads, so that one file holds
everything that was trained and no reader can take the adapter without them (trap 6 of the design). A single
parameter that trains while its module stays frozen is stored under the same names, but PEFT has no way to ask
for it and ignores it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from sam3d_objects.model.lora import LayerOptions, trained_fully

_PREFIX = "base_model.model."
_MATRICES = (".lora_A", ".lora_B")


def to_peft_name(name: str) -> str:
    """Return PEFT's name of a tensor for ours (`<path>.lora_A` or `<path>.weight`)."""
    return f"{_PREFIX}{name}.weight" if name.endswith(_MATRICES) else f"{_PREFIX}{name}"


def from_peft_name(name: str) -> str:
    """Return our name of a tensor for PEFT's.

    Raises:
        ValueError: it is not the name of an adapter's tensor.
    """
    if not name.startswith(_PREFIX):
        raise ValueError(f"{name!r} is no adapter's tensor: PEFT's names start with {_PREFIX!r}")
    own = name.removeprefix(_PREFIX)
    matrix = own.removesuffix(".weight")
    return matrix if matrix.endswith(_MATRICES) else own


def peft_config(model: nn.Module, layers: Mapping[str, LayerOptions], base_name: str) -> dict[str, Any]:
    """Return `adapter_config.json` for the adapted layers (path -> options) of a model.

    Layers are listed by their full paths. Rank and alpha are those of most layers, others are named in
    `rank_pattern` and `alpha_pattern`. PEFT has one dropout for all; it matters in training only, so the
    most frequent one is named, and ours keeps each in `sam3d.json`. Where no layer is adapted PEFT has nothing to
    load, for it knows no adapter without layers; the file then says so with an empty list.
    """
    usual = list(layers.values()) or [LayerOptions()]
    rank = _most_frequent(options.rank for options in usual)
    alpha = _most_frequent(options.alpha for options in usual)
    return {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base_name,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": _whole(alpha),
        "lora_dropout": _most_frequent(options.dropout for options in usual),
        "target_modules": sorted(layers),
        "rank_pattern": {path: options.rank for path, options in layers.items() if options.rank != rank},
        "alpha_pattern": {path: _whole(options.alpha) for path, options in layers.items() if options.alpha != alpha},
        "modules_to_save": _modules_to_save(model) or None,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
    }


def _modules_to_save(model: nn.Module) -> list[str]:
    """Return the paths of fully trained modules that own parameters: PEFT can't wrap mere containers."""
    found: list[str] = []
    for path in trained_fully(model)[0]:
        for inner, module in model.get_submodule(path).named_modules(prefix=path):
            owns = any(True for _ in module.parameters(recurse=False))
            nested = any(inner.startswith(f"{outer}.") for outer in found)
            if owns and not nested and not isinstance(module, nn.ParameterDict | nn.ParameterList):
                found.append(inner)
    return found


def _most_frequent(values: Iterable[Any]) -> Any:
    listed = list(values)
    return max(dict.fromkeys(listed), key=listed.count)


def _whole(value: float) -> float:
    """Return 8 for 8.0: PEFT's own files hold whole numbers."""
    return int(value) if float(value).is_integer() else value
