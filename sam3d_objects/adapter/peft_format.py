"""The two files of an adapter that PEFT reads: names of tensors, and `adapter_config.json` with PEFT's keys
only.

Written after PEFT 0.21 (`LoraConfig`, `get_peft_model_state_dict`); tensors there are called
`base_model.model.<path>.lora_A.weight` and, for modules that train fully (`modules_to_save`),
`base_model.model.<path>.<parameter>`. We use the same convention for our heads, so that one file holds
everything that was trained and no reader can take the adapter without them (trap 6 of the design). A single
parameter that trains while its module stays frozen is stored under the same names, but PEFT has no way to ask
for it and ignores it.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import nn

from sam3d_objects.model.lora import LayerOptions, lora_layers, trained_fully

_PREFIX = "base_model.model."
_MATRICES = (".lora_A", ".lora_B")
_EMBEDDINGS = {"lora_A": "lora_embedding_A", "lora_B": "lora_embedding_B"}
_MAGNITUDE, _PEFT_MAGNITUDE = ".lora_magnitude", ".lora_magnitude_vector"
# PEFT refuses a type that it does not know, instead of loading half of an adapter that it can't express.
OURS_ALONE = "SAM3D_LORA"


def to_peft_name(name: str, looked_up: Collection[str] = ()) -> str:
    """Return PEFT's name of a tensor for ours (`<path>.lora_A` or `<path>.weight`).

    Args:
        name: ours.
        looked_up: paths of adapted embeddings, whose matrices PEFT calls otherwise.
    """
    path, _, leaf = name.rpartition(".")
    if path in looked_up and leaf in _EMBEDDINGS:
        return f"{_PREFIX}{path}.{_EMBEDDINGS[leaf]}"
    if name.endswith(_MAGNITUDE):
        return f"{_PREFIX}{name.removesuffix(_MAGNITUDE)}{_PEFT_MAGNITUDE}"
    return f"{_PREFIX}{name}.weight" if name.endswith(_MATRICES) else f"{_PREFIX}{name}"


def from_peft_name(name: str) -> str:
    """Return our name of a tensor for PEFT's.

    Raises:
        ValueError: it is not the name of an adapter's tensor.
    """
    if not name.startswith(_PREFIX):
        raise ValueError(f"{name!r} is no adapter's tensor: PEFT's names start with {_PREFIX!r}")
    own = name.removeprefix(_PREFIX)
    if own.endswith(_PEFT_MAGNITUDE):
        return own.removesuffix(_PEFT_MAGNITUDE) + _MAGNITUDE
    for leaf, theirs in _EMBEDDINGS.items():
        if own.endswith(f".{theirs}"):
            return own.removesuffix(theirs) + leaf
    matrix = own.removesuffix(".weight")
    return matrix if matrix.endswith(_MATRICES) else own


def peft_config(model: nn.Module, layers: Mapping[str, LayerOptions], base_name: str) -> dict[str, Any]:
    """Return `adapter_config.json` for the adapted layers (path -> options) of a model.

    Layers are listed by their full paths. Rank and alpha are those of most layers, others are named in
    `rank_pattern` and `alpha_pattern`. PEFT has one dropout for all; it matters in training only, so the
    most frequent one is named, and ours keeps each in `sam3d.json`. rsLoRA is written as the alpha that scales alike.
    Where a layer is adapted in a way that PEFT has not (`parts`, PiSSA's start beside the base, DoRA on some layers or
    on convolutions) or stores otherwise (nn.MultiheadAttention), or is none that PEFT knows (our sparse convolutions),
    the type is one that PEFT refuses. Where no layer is adapted PEFT has nothing to load, for it knows no adapter
    without layers; the file then says so with an empty list.
    """
    usual = list(layers.values()) or [LayerOptions()]
    rank = _most_frequent(options.rank for options in usual)
    alpha = _most_frequent(_alpha(options) for options in usual)
    return {
        "peft_type": "LORA" if _peft_can(model, layers) else OURS_ALONE,
        "task_type": None,
        "base_model_name_or_path": base_name,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": _whole(alpha),
        "lora_dropout": _most_frequent(options.dropout for options in usual),
        "target_modules": sorted(layers),
        "rank_pattern": {path: options.rank for path, options in layers.items() if options.rank != rank},
        "alpha_pattern": {
            path: _whole(_alpha(options)) for path, options in layers.items() if _alpha(options) != alpha
        },
        "modules_to_save": _modules_to_save(model) or None,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": usual[0].dora,
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


def looked_up(model: nn.Module) -> set[str]:
    """Return the paths of a model's adapted embeddings."""
    return {path for path, layer in lora_layers(model).items() if layer.looked_up}


def _alpha(options: LayerOptions) -> float:
    """Return the alpha that scales as the options say where the scale is alpha / rank."""
    return options.alpha if not options.rslora else options.scaling * options.rank


def _peft_can(model: nn.Module, layers: Mapping[str, LayerOptions]) -> bool:
    """Whether PEFT has every adapted layer, and stores it as we do."""
    modules = lora_layers(model)
    doras = {options.dora for options in layers.values()}
    for path, options in layers.items():
        plain = modules[path].unadapted()
        known = isinstance(plain, nn.Linear) or (
            isinstance(plain, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Embedding) and not options.dora
        )
        if not known or options.parts or options.init == "pissa":
            return False
    return len(doras) <= 1


def _most_frequent(values: Iterable[Any]) -> Any:
    listed = list(values)
    return max(dict.fromkeys(listed), key=listed.count)


def _whole(value: float) -> float:
    """Return 8 for 8.0: PEFT's own files hold whole numbers."""
    return int(value) if float(value).is_integer() else value
