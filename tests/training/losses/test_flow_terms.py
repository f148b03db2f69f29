"""The flow's terms are the model's own; here their gradients, against finite differences.

Their values are pinned by the reference vectors (`tests/model/test_losses.py`).
"""

import torch
from torch import Tensor

from sam3d_objects.model.sampler import Latents
from sam3d_objects.training.losses import flow_matching_loss, shortcut_loss


def draw(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


class Bilinear:
    """velocity = (x W + condition) (1 + t / 1000 + d / 1000): every input reaches the output."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def __call__(self, x: Latents, t: Tensor, condition: Tensor, d: Tensor | None) -> Latents:
        assert d is not None
        factor = (1 + (t + d) / 1000)[:, None, None]
        return {"shape": (x["shape"] @ self.weight + condition) * factor}


def test_flow_matching_gradient_is_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    data, noise, condition = (draw(generator, 4, 2, 3) for _ in range(3))
    t = torch.rand(4, generator=generator, dtype=torch.float64)

    def loss(weight: Tensor, data: Tensor) -> Tensor:
        return flow_matching_loss(Bilinear(weight), {"shape": data}, condition, t, {"shape": noise}, {"shape": 0.7})[0]

    assert torch.autograd.gradcheck(loss, (draw(generator, 3, 3).requires_grad_(), data.requires_grad_()))


def test_shortcut_gradient_is_that_of_the_student_alone() -> None:
    """Against finite differences in the student's weight, while the teacher's stays: its target has no gradient."""
    generator = torch.Generator().manual_seed(1)
    data, noise, condition = (draw(generator, 4, 2, 3) for _ in range(3))
    t = 0.5 * torch.rand(4, generator=generator, dtype=torch.float64)
    d = torch.tensor([0.0, 0.25, 0.125, 0.0], dtype=torch.float64)
    weight = draw(generator, 3, 3).requires_grad_()
    no_guidance = torch.zeros(4, dtype=torch.bool)

    def loss(student: Tensor, teacher: Tensor) -> Tensor:
        # The student is the call with a graph; the teacher is called without one.
        network = Bilinear(student)

        def chosen(x: Latents, t: Tensor, condition: Tensor, d: Tensor | None) -> Latents:
            return (network if torch.is_grad_enabled() else Bilinear(teacher))(x, t, condition, d)

        latents, weights = ({"shape": data}, {"shape": noise}), {"shape": 1.0}
        return shortcut_loss(chosen, latents[0], condition, condition, t, latents[1], d, no_guidance, weights)[0]

    (found,) = torch.autograd.grad(loss(weight, weight.detach()), weight)
    teacher, step = weight.detach().clone(), 1e-6
    for row, column in ((0, 0), (1, 2), (2, 1)):
        values = []
        for side in (step, -step):
            moved = weight.detach().clone()
            moved[row, column] += side
            values.append(loss(moved, teacher).item())
        assert abs(found[row, column].item() - (values[0] - values[1]) / (2 * step)) < 1e-6
