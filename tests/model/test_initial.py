"""Initial weights are those that constructors draw."""

import pytest
import torch
from torch import nn

from sam3d_objects.model.initial import draw_initial_weights
from sam3d_objects.model.stages import STAGES, adapted_module
from sam3d_objects.pretraining.tiny import new_tiny_model


def spread(module: nn.Module) -> dict[str, float]:
    """Root mean square of each parameter."""
    return {name: float(p.detach().square().mean().sqrt()) for name, p in module.named_parameters()}


@pytest.mark.parametrize("stage", STAGES)
def test_drawn_weights_are_new_and_as_large_as_the_constructors(stage: str) -> None:
    torch.manual_seed(0)
    made = adapted_module(new_tiny_model(), stage)
    expected, before = spread(made), {name: p.detach().clone() for name, p in made.named_parameters()}
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.fill_(7.0)
    torch.manual_seed(1)
    count = draw_initial_weights(made)
    assert count == sum(p.numel() for p in made.parameters())
    for name, parameter in made.named_parameters():
        constant = parameter.numel() > 1 and bool((before[name] == before[name].flatten()[0]).all())
        assert torch.equal(parameter, before[name]) == constant, name
        # Of a few hundred numbers the root mean square is known to about 5 %.
        few = parameter.numel() < 200
        assert spread(made)[name] == pytest.approx(expected[name], rel=0.6 if few else 0.15), name


def test_the_draw_is_the_global_generators_and_frozen_layers_stay() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    layers = nn.Sequential(first, second)
    second.requires_grad_(False)
    frozen = second.weight.clone()
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        assert draw_initial_weights(layers) == 20
        drawn.append(first.weight.detach().clone())
    assert torch.equal(*drawn)
    assert torch.equal(second.weight, frozen)
