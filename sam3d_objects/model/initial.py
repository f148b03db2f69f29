"""Initial weights: a network as its constructor leaves it, for training from scratch."""

from torch import nn


def draw_initial_weights(module: nn.Module) -> int:
    """Draw anew, in place and from torch's global generator, the weights of a module that train.

    Each layer that owns parameters does it by its `reset_parameters`, with which it was made. A layer whose
    parameters are frozen stays as it is.

    Returns:
        The number of parameters (elements) that were drawn.
    """
    drawn = 0
    for path, layer in module.named_modules():
        own = list(layer.parameters(recurse=False))
        if not any(parameter.requires_grad for parameter in own):
            continue
        reset = getattr(layer, "reset_parameters", None)
        assert reset is not None, f"{path}: {type(layer).__name__} has parameters, and no reset_parameters"
        reset()
        drawn += sum(parameter.numel() for parameter in own)
    return drawn
