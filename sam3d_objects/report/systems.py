"""Systems: what the names in an evaluation stand for, so that no ceiling or variant is taken for a rival."""

import re

MODELS = ("adapted", "base", "merged")
"""Systems that are the model itself; the others are what a user would try instead."""

CEILING = "ceiling_"
"""Systems of this prefix know the truth: they bound what any method can score."""

CEILING_MEANING = "what the scorer or a grid leaves of the true organ: no method can pass it"

_WORDS = {
    "adapted": ("adapted model", "the base model with the trained adapter"),
    "base": ("base model", "the model before any training on these data"),
    "merged": ("merged model", "the adapter written into the weights: must equal the adapted model"),
    "extrusion": ("extrusion", "the marked slice, drawn out to the organ's usual depth"),
    "ellipsoid": ("ellipsoid", "an ellipsoid through the marked slice"),
    "mean_shape": ("mean shape", "the mean of the training organs, fitted to the slice"),
    "nearest_shape": ("nearest shape", "the training organ that fits the slice best"),
    "pca_shape": ("PCA shape model", "a statistical shape model of the training organs, fitted to the slice"),
    "direct": ("direct U-Net", "a network trained from scratch on the same patients"),
    "ceiling_mesh": ("ceiling: true mesh", "the true surface itself, through the same scorer"),
    "ceiling_grid64": ("ceiling: 64³ grid", "the true organ at the resolution of a 64³ grid"),
    "ceiling_grid32": ("ceiling: 32³ grid", "the true organ at the resolution of a 32³ grid"),
    "ceiling_encode": ("ceiling: encode, decode", "the true organ through the model's encoder and decoder"),
}
_VARIANTS = {"nofit": "not fitted to the slice", "noscale": "size not fitted to the slice"}


def kind(system: str) -> str:
    """`model`, `variant` (of a model: other samples, no fit ...), `baseline` or `ceiling`."""
    if system.startswith(CEILING):
        return "ceiling"
    if system in MODELS:
        return "model"
    return "variant" if system.split("_")[0] in MODELS else "baseline"


def title(system: str) -> str:
    """The name for people; a name that is not known keeps its words."""
    if system in _WORDS:
        return _WORDS[system][0]
    if kind(system) == "variant":
        model, *parts = system.split("_")
        return ", ".join([_WORDS[model][0], *(_variant(part) for part in parts)])
    return system.replace("_", " ")


def _variant(part: str) -> str:
    samples = re.fullmatch(r"k(\d+)", part)
    return f"K = {samples[1]}" if samples else _VARIANTS.get(part, part)


def description(system: str) -> str:
    """What a system is, in a line; empty where that is not known."""
    if system in _WORDS:
        return _WORDS[system][1]
    if kind(system) == "variant":
        return f"the {title(system.split('_')[0])} with another setting of the sampling"
    return ""


def phrase(system: str) -> str:
    """The name within a sentence, with its article where it takes one."""
    return f"the {title(system)}" if system in _WORDS else title(system)
