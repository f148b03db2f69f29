"""Terms at the corners of cubes: numbers worked by hand, and gradients against finite differences."""

import math

import pytest
import torch
from torch import Tensor

from sam3d_objects.training.losses import calibrated_scale, clamped_sdf_loss, sign_loss


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_sign_loss_by_hand() -> None:
    # Logit -4 x 0.5 = -2 of being inside, where 4 x 0.25 = 1 is the logit of what is right.
    p, q = 1 / (1 + math.exp(2)), 1 / (1 + math.exp(-1))
    expected = -q * math.log(p) - (1 - q) * math.log(1 - p)
    assert sign_loss(column(0.5), column(-0.25)).item() == pytest.approx(expected)
    # Far from the surface: nothing where the side is right, |logit| where it is wrong; the mean of both.
    far = sign_loss(column(50.0, -50.0), column(40.0, 40.0)).item()
    assert far == pytest.approx(4 * 50 / 2)


def test_sign_loss_is_least_at_the_calibrated_distance_and_pulls_from_the_wrong_side() -> None:
    distances = column(-0.7, -0.1, 0.0, 0.3)
    scalars = (0.2 * distances).requires_grad_()
    (gradient,) = torch.autograd.grad(sign_loss(scalars, distances, scale=0.2), scalars)
    assert gradient.abs().max() < 1e-12
    wrong = column(-9.0, 9.0).requires_grad_()
    (gradient,) = torch.autograd.grad(sign_loss(wrong, column(5.0, -5.0)), wrong)
    assert torch.allclose(gradient, column(-2.0, 2.0))  # a step against it raises the first, lowers the second


def test_clamped_sdf_loss_by_hand() -> None:
    # 0.2 / 0.1 = 2 against 1; 0.9 / 0.1 and 7 both clamp to 3; -1 against 1.
    loss = clamped_sdf_loss(column(0.2, 0.9, -0.1), column(1.0, 7.0, 1.0), scale=0.1)
    assert loss.item() == pytest.approx((1 + 0 + 2) / 3)
    assert clamped_sdf_loss(column(0.5), column(4.0), scale=1.0, clamp_cubes=1.0).item() == pytest.approx(0.5)


@pytest.mark.parametrize("term", [sign_loss, clamped_sdf_loss])
def test_gradients_are_finite_differences(term: object) -> None:
    assert callable(term)
    generator = torch.Generator().manual_seed(0)
    scalars = torch.randn(20, generator=generator, dtype=torch.float64).requires_grad_()
    distances = 2 * torch.randn(20, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda s: term(s, distances, 0.5), (scalars,))


def test_the_scale_is_that_of_the_corners_near_the_surface() -> None:
    distances = column(-2, -1, 0.5, 1, 2, 20)
    assert calibrated_scale(0.05 * distances, distances) == pytest.approx(0.05)
    scalars = 0.05 * distances
    scalars[-1], scalars[0] = -8.0, 7.0  # beyond the clamp, and one that is quite wrong
    assert calibrated_scale(scalars, distances) == pytest.approx(0.05)


def test_what_has_no_scale_or_no_corner_says_so() -> None:
    with pytest.raises(ValueError, match="no corner lies within 3 cubes"):
        calibrated_scale(column(1.0), column(5.0))
    with pytest.raises(ValueError, match="all zero"):
        calibrated_scale(column(0.0, 0.0), column(1.0, -1.0))
    with pytest.raises(ValueError, match=r"got \(0,\) and \(0,\)"):
        sign_loss(column(), column())
    with pytest.raises(ValueError, match=r"got \(1,\) and \(2,\)"):
        clamped_sdf_loss(column(1.0), column(1.0, 2.0), 1.0)
