"""What PEFT's `adapter_config.json` asks for, or why it cannot be had here."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sam3d_objects.adapter.untrusted.limits import MOST_RANK
from sam3d_objects.model.lora import LayerOptions

# They change where the base starts from, or what the layer computes: option -> why it is refused unless it is off.
_ELSEWHERE = {
    "lora_bias": "it adds a bias to B",
    "layer_replication": "it changes the base model's layers",
    "trainable_token_indices": "single rows of an embedding are not translated",
    "target_parameters": "it adapts bare parameters and no layers",
    "megatron_config": "it is made for Megatron's parallel layers",
    "alora_invocation_tokens": "aLoRA is switched on by tokens",
    "use_qalora": "QALoRA pools the inputs of its layers",
    "use_bdlora": "BD-LoRA's matrices are block-diagonal",
    "arrow_config": "Arrow routes between adapters",
    "kasa_config": "KaSA's singular values are not translated",
    "velora_config": "VeLoRA compresses activations",
    "monteclora_config": "MonteCLoRA samples its matrices",
    "fan_in_fan_out": "it is made for transposed layers (GPT-2's Conv1D)",
}
# These say where training began, what it was called, or which layers to look for (the tensors tell them).
_NEUTRAL = {
    "alpha_pattern",
    "auto_mapping",
    "base_model_name_or_path",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_alpha",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
    "use_dora",
    "use_rslora",
}
# The ways to begin that leave the base's weights as they are. PiSSA, OLoRA, LoftQ, CorDA and others take a part of the
# base away first, so that their A and B mean nothing beside the plain base.
_STARTS = (True, False, None, "gaussian", "eva", "orthogonal")
# What a key of rank_pattern or alpha_pattern may hold. PEFT runs it as a regular expression; of a stranger's only those
# are run that take no time: no groups, and few repetitions.
_PLAIN_PATTERN = re.compile(r"\^?[\w.\-\\*+$]{1,300}")
_MOST_REPEATS = 3


@dataclass(frozen=True)
class PeftConfig:
    """What matters of a PEFT LoRA config.

    Attributes:
        base_name: the base model's name, '' where there is none.
        rank, alpha, dropout: of layers that no pattern names.
        rank_pattern, alpha_pattern: the end of a path, or an expression for it -> rank, alpha.
        rank_stabilised: whether updates are scaled by alpha / sqrt(rank) (rsLoRA, arXiv 2312.03732).
        dora: whether the lengths of rows were learned apart (DoRA, arXiv 2402.09353).
    """

    base_name: str
    rank: int
    alpha: float
    dropout: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    rank_stabilised: bool
    dora: bool

    @classmethod
    def from_values(cls, values: Any, where: str) -> "PeftConfig":
        """Read the values of an `adapter_config.json`.

        Raises:
            ValueError: no LoRA, an option that computes something else than our layers do, one that is not known, or a
                value of the wrong kind; `where` and the reason are named.
        """
        if not isinstance(values, dict):
            raise ValueError(f"{where} is not PEFT's config: {type(values).__name__}, not an object")
        reason = _refusal(values)
        if reason:
            raise ValueError(f"{where}: {reason}")
        base = values.get("base_model_name_or_path")
        made = cls(
            base_name=base if isinstance(base, str) else "",
            rank=_number(values, "r", where, whole=True, default=8),
            alpha=_number(values, "lora_alpha", where, default=8),
            dropout=_number(values, "lora_dropout", where, default=0),
            rank_pattern=_pattern(values, "rank_pattern", where, whole=True),
            alpha_pattern=_pattern(values, "alpha_pattern", where),
            rank_stabilised=bool(values.get("use_rslora")),
            dora=bool(values.get("use_dora")),
        )
        try:
            LayerOptions(made.rank, made.alpha, made.dropout)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        return made

    def options(self, path: str) -> LayerOptions:
        """Return how the layer at a path is adapted."""
        rank = int(_matching(self.rank_pattern, path, self.rank))
        alpha = float(_matching(self.alpha_pattern, path, self.alpha))
        return LayerOptions(rank, alpha, self.dropout, rslora=self.rank_stabilised, dora=self.dora)


def _refusal(values: Mapping[str, Any]) -> str:
    """Return why a config can't be translated; '' where it can."""
    if values.get("peft_type") != "LORA":
        return f"peft_type is {values.get('peft_type')!r}; only LORA is read here"
    if values.get("bias") not in (None, "none"):
        return f"bias is {values['bias']!r}: the base's biases were trained, which is not translated; only 'none' is"
    if values.get("init_lora_weights", True) not in _STARTS:
        return (
            f"init_lora_weights is {values['init_lora_weights']!r}, which changes the base's weights before training; "
            "convert the adapter in PEFT (save_pretrained with path_initial_model_for_weight_conversion)"
        )
    for option, why in _ELSEWHERE.items():
        if values.get(option):
            return f"{option} is on: {why}"
    unknown = sorted(key for key in values if key not in _NEUTRAL and key not in _ELSEWHERE and values[key])
    if unknown:
        return f"the option {unknown[0]!r} is not known here, and may change what the layers compute"
    return ""


def _number(values: Mapping[str, Any], key: str, where: str, *, whole: bool = False, default: int) -> Any:
    value = values.get(key)
    return _checked(default if value is None else value, key, where, whole)


def _checked(value: Any, key: str, where: str, whole: bool) -> Any:
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise ValueError(f"{where}: {key} is {value!r}, not a {'whole ' * whole}number")
    if whole and not 1 <= value <= MOST_RANK:
        raise ValueError(f"{where}: {key} is {value:,}; a rank lies between 1 and {MOST_RANK:,}")
    return value


def _pattern(values: Mapping[str, Any], key: str, where: str, whole: bool = False) -> dict[str, Any]:
    pattern = values.get(key) or {}
    if not isinstance(pattern, dict):
        raise ValueError(f"{where}: {key} is {type(pattern).__name__}, not an object of paths and numbers")
    for path, value in pattern.items():
        repeats = sum(path.count(mark) for mark in "*+")
        if not _PLAIN_PATTERN.fullmatch(path) or repeats > _MOST_REPEATS:
            raise ValueError(
                f"{where}: {key} has the expression {path[:80]!r}, which is not run for a stranger (groups, sets, or "
                f"more than {_MOST_REPEATS} repetitions); write the layers' paths out"
            )
        try:
            re.compile(path)
        except re.error as error:
            raise ValueError(f"{where}: {key} has {path[:80]!r}, which is no expression: {error}") from error
        _checked(value, f"{key} of {path}", where, whole)
    return pattern


def _matching(pattern: Mapping[str, Any], path: str, default: float) -> float:
    """Return the value of the first key that the path ends with (PEFT's `get_pattern_key`)."""
    for key, value in pattern.items():
        # A key that begins with `^` is the whole path, as in PEFT.
        if re.match(rf"(.*\.)?({key})$", path):
            return value
    return default
