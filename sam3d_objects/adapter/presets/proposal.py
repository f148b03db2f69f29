"""`auto`: targets that are read off a model's own modules, each with the reason.

What is looked for is a block: a numbered module (`layers.3`) with attention inside. Its attention projections and
feed-forward layers are adapted; what stands behind the last block is a head. A model without attention has every
layer adapted but the last. It is a proposal: whether a loss reaches a layer cannot be seen in the modules.
"""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from sam3d_objects.adapter.presets.freeze import ADAPTERS_ONLY, HEADS, as_patterns
from sam3d_objects.adapter.presets.preset import AUTO, Part, Preset
from sam3d_objects.model.lora import LayerOptions, collapse_paths, plan_injection

ATTENTION, MLP, LAYERS = "attention", "mlp", "layers"
_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)
# Layers of a block that steer it (by time, class or position) rather than carry its tokens.
_STEERING = re.compile(r"modulation|adaln|emb_layers|position|rel_pos|pos_emb|router", re.IGNORECASE)
_INPUT = re.compile(r"input|emb", re.IGNORECASE)  # Registered behind the blocks at times, and no head.


@dataclass(frozen=True)
class Decision:
    """What is proposed for one layer.

    Attributes:
        role: the role whose target it is (`attention`, `mlp`, `layers`); empty: it has no adapter.
        reason: why, in words.
    """

    role: str
    reason: str


@dataclass(frozen=True)
class Proposal:
    """A preset made for one model.

    Attributes:
        preset: with the roles that were found, heads and norms.
        decisions: path -> decision, of each layer that could have an adapter.
        text: the decisions for people, paths that differ in numbers as one.
    """

    preset: Preset
    decisions: Mapping[str, Decision]
    text: str


def propose(model: nn.Module, rank: int = Preset.rank) -> Proposal:
    """Propose what to adapt in a model, without touching it.

    Args:
        model: any module.
        rank: of the adapters; layers of which they would be no smaller part are left out.

    Raises:
        ValueError: the model has no layer that could have an adapter, or none that is worth one.
    """
    candidates = _candidates(model)
    blocks = _attention_blocks(model)
    decisions = {path: _decide(path, candidates[path], blocks, model, rank) for path in candidates}
    if not blocks:
        decisions[list(decisions)[-1]] = Decision("", "the last layer: a head")
    roles: dict[str, list[str]] = defaultdict(list)
    for path, decision in decisions.items():
        if decision.role:
            roles[decision.role].append(path)
    if not roles:
        reasons = _text(model, decisions, ())
        raise ValueError(f"{AUTO} finds nothing to adapt in this {type(model).__name__}; name a preset\n{reasons}")
    adapted = {path for paths in roles.values() for path in paths}
    heads = _heads(model, blocks, adapted) if blocks else (list(decisions)[-1],)
    part = Part(
        targets={role: _patterns(paths, decisions) for role, paths in roles.items()},
        heads=heads,
        norms=_norms(model, blocks, adapted),
    )
    preset = Preset(
        name=AUTO,
        description=f"proposed for {type(model).__name__}",
        parts={"model": part},
        freeze=(HEADS,) if heads else (ADAPTERS_ONLY,),
    )
    return Proposal(preset, decisions, _text(model, decisions, heads))


def _candidates(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that an adapter can be put on, in the model's order; nothing inside another of them."""
    paths = set(plan_injection(model, _any_module, LayerOptions(), {}))
    modules = {path: module for path, module in model.named_modules() if path in paths}
    return {path: module for path, module in modules.items() if not any(p in paths for p in _parents(path))}


def _any_module(_path: str, _module: nn.Module) -> bool:
    return True


def _parents(path: str) -> list[str]:
    parts = path.split(".")
    return [".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]


def _attention_blocks(model: nn.Module) -> tuple[str, ...]:
    """Return the paths of the numbered modules that have attention inside, the innermost of nested ones."""
    attention = [path for path, module in model.named_modules() if path and _is_attention(path, module)]
    blocks = {next((p for p in _parents(path) if p.rpartition(".")[2].isdigit()), "") for path in attention}
    return tuple(path for path, _ in model.named_modules() if path in blocks - {""})


def _is_attention(path: str, module: nn.Module) -> bool:
    return bool(_ATTENTION.search(path.rpartition(".")[2]) or _ATTENTION.search(type(module).__name__))


def _name(path: str, module: nn.Module) -> str:
    """Return the class of an attention, or what it is called where its class says nothing."""
    kind = type(module).__name__
    return kind if _ATTENTION.search(kind) else path.rpartition(".")[2]


def _decide(path: str, module: nn.Module, blocks: tuple[str, ...], model: nn.Module, rank: int) -> Decision:
    parents = _parents(path)
    block = next((p for p in parents if p in blocks), None)
    kind = type(module).__name__
    weight = getattr(module, "weight", None)
    if isinstance(module, nn.Embedding):
        return Decision("", "a table of tokens or positions")
    if blocks and block is None:
        return Decision("", "outside the attention blocks: an input layer or a head")
    if _STEERING.search(path[len(block or "") :]):
        return Decision("", "steers the block, its tokens do not pass here")
    if getattr(module, "groups", 1) > 1:
        return Decision("", "a convolution in groups: it is small already")
    if weight is not None and rank * (weight.shape[0] + weight[0].numel()) >= weight.numel():
        return Decision("", f"at rank {rank} an adapter would be no smaller than the layer")
    if block is None:
        return Decision(LAYERS, f"{kind} of a model without attention")
    around = [p for p in [path, *parents] if len(p) > len(block)]
    for outer in around:
        if _is_attention(outer, model.get_submodule(outer)):
            return Decision(ATTENTION, f"projection of {_name(outer, model.get_submodule(outer))}")
    return Decision(MLP, f"feed-forward of {type(model.get_submodule(block)).__name__}")


def _heads(model: nn.Module, blocks: tuple[str, ...], adapted: set[str]) -> tuple[str, ...]:
    """Return what has parameters behind the last block, the outermost modules, but for lone norms and inputs."""
    names = [name for name, _ in model.named_parameters()]
    last = max(index for index, name in enumerate(names) if any(name.startswith(f"{block}.") for block in blocks))
    free = [name for name in names[last + 1 :] if name.rpartition(".")[0] not in adapted and not _INPUT.search(name)]
    behind = as_patterns(model, free)
    modules = dict(model.named_modules())
    found = {path: modules[path] for path in behind if path in modules}
    return tuple(path for path, module in found.items() if not (_is_norm(module) or isinstance(module, nn.Embedding)))


def _norms(model: nn.Module, blocks: tuple[str, ...], adapted: set[str]) -> tuple[str, ...]:
    """Return the norms with parameters in the blocks that hold an adapter."""
    used = tuple(f"{block}." for block in blocks if any(path.startswith(f"{block}.") for path in adapted))
    return tuple(path for path, module in model.named_modules() if path.startswith(used) and _is_norm(module))


def _is_norm(module: nn.Module) -> bool:
    return "norm" in type(module).__name__.lower() and any(True for _ in module.parameters(recurse=False))


def _patterns(paths: list[str], decisions: Mapping[str, Decision]) -> tuple[str, ...]:
    """Return a regular expression for paths that differ in numbers, or the paths where it would find others."""
    templates: dict[str, list[str]] = defaultdict(list)
    for path in paths:
        parts = (r"\d+" if part.isdigit() else re.escape(part) for part in path.split("."))
        templates[r"\.".join(parts)].append(path)
    patterns: list[str] = []
    for template, members in templates.items():
        found = {path for path in decisions if re.fullmatch(template, path)}
        whole = len(members) > 1 and found == set(members)
        patterns += [f"re:{template}"] if whole else members
    return tuple(patterns)


def _text(model: nn.Module, decisions: Mapping[str, Decision], heads: tuple[str, ...]) -> str:
    groups: dict[Decision, list[str]] = defaultdict(list)
    for path, decision in decisions.items():
        if not any(outer in heads for outer in (path, *_parents(path))):
            groups[decision].append(path)
    rows = [
        (f"{'adapt' if decision.role else 'leave':5}", line, f"{decision.role}: {decision.reason}".lstrip(": "))
        for decision, paths in sorted(groups.items(), key=lambda item: not item[0].role)
        for line in collapse_paths(paths)
    ]
    rows += [("head ", line, "behind the last block; the strategy heads trains it") for line in collapse_paths(heads)]
    width = max((len(line) for _, line, _ in rows), default=0)
    lines = [f"preset {AUTO}, proposed for {type(model).__name__}"]
    return "\n".join([*lines, *(f"  {what}  {line:<{width}}  {reason}" for what, line, reason in rows)])
