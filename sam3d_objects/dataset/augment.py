"""Photometric augmentation of a slice in [0, 1]: numbers are drawn first, then applied as they are."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from sam3d_objects.arrays import BoolArray, FloatArray


@dataclass(frozen=True)
class Augment:
    """How far images may vary; each change happens with `probability`.

    Attributes:
        probability: of each change.
        gamma: (low, high) exponent, log-uniform.
        contrast: (low, high) factor about the mean, log-uniform.
        brightness: largest shift, in grey levels of [0, 1].
        noise: largest standard deviation of Gaussian noise, in grey levels.
        blur_px: largest standard deviation of a Gaussian blur, in pixels.
        bias: largest relative change that a smooth bias field makes.
        mask_probability: of growing or shrinking the marked organ by one pixel (0: a mask stays as it is).

    Raises:
        ValueError: a probability outside [0, 1], or a range that is not above 0 and ascending.
    """

    probability: float = 0.5
    gamma: tuple[float, float] = (0.7, 1.4)
    contrast: tuple[float, float] = (0.8, 1.25)
    brightness: float = 0.1
    noise: float = 0.05
    blur_px: float = 0.8
    bias: float = 0.2
    mask_probability: float = 0.0

    def __post_init__(self) -> None:
        for name in ("probability", "mask_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"augment.{name} must lie in [0, 1], got {getattr(self, name)}")
        for name in ("gamma", "contrast"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"augment.{name} must be two ascending numbers above 0, got {low}, {high}")
        for name in ("brightness", "noise", "blur_px", "bias"):
            if getattr(self, name) < 0:
                raise ValueError(f"augment.{name} must be at least 0, got {getattr(self, name)}")

    def draw(self, generator: np.random.Generator, shape: tuple[int, int]) -> "Photometric":
        """Draw one change for an image of `shape`; it always takes as many numbers from the generator."""
        on = generator.random(6) < self.probability
        gamma, contrast = (np.exp(generator.uniform(*np.log(pair))) for pair in (self.gamma, self.contrast))
        brightness = generator.uniform(-self.brightness, self.brightness)
        noise, blur_px = generator.uniform(0, self.noise), generator.uniform(0, self.blur_px)
        bias = generator.uniform(-1, 1, size=5) * self.bias / 5
        grain = generator.standard_normal(shape, dtype=np.float32)
        return Photometric(
            gamma=float(gamma) if on[0] else 1.0,
            contrast=float(contrast) if on[1] else 1.0,
            brightness=float(brightness) if on[2] else 0.0,
            noise=grain * np.float32(noise if on[3] else 0),
            blur_px=float(blur_px) if on[4] else 0.0,
            bias=bias if on[5] else np.zeros(5),
        )

    def draw_mask(self, generator: np.random.Generator) -> int:
        """-1, 0 or 1: by how many pixels the mask grows."""
        changed, grows = generator.random(2) < (self.mask_probability, 0.5)
        return (1 if grows else -1) if changed else 0


@dataclass(frozen=True)
class Photometric:
    """One change of an image, fixed.

    Attributes:
        gamma, contrast, brightness, blur_px: see `Augment`.
        noise: (rows, cols) float32, added.
        bias: (5,) coefficients of x, y, x^2, y^2 and xy in the log of the bias field, x and y in [-1, 1].
    """

    gamma: float
    contrast: float
    brightness: float
    noise: FloatArray
    blur_px: float
    bias: FloatArray

    def apply(self, image01: FloatArray, valid: BoolArray) -> FloatArray:
        """Change an image (rows, cols) in [0, 1]; the result lies in [0, 1] and is 0 where not `valid`.

        Pixels that are not valid change nothing: the blur and the mean leave them out.
        """
        if not valid.any():
            return np.zeros_like(image01)
        image = image01.astype(np.float32)
        if self.bias.any():
            y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in image.shape)
            y = y[:, None]
            a, b, c, d, e = self.bias.astype(np.float32)
            image = image * np.exp(a * x + b * y + c * x * x + d * y * y + e * x * y)
        if self.blur_px > 0:
            weight = ndimage.gaussian_filter(valid.astype(np.float32), self.blur_px)
            blurred = ndimage.gaussian_filter(np.where(valid, image, 0), self.blur_px)
            image = blurred / np.maximum(weight, 1e-6)
        mean = image[valid].mean()
        image = (image - mean) * self.contrast + mean + self.brightness
        image = np.clip(image, 0, 1) ** np.float32(self.gamma) + self.noise
        return np.where(valid, np.clip(image, 0, 1), 0).astype(np.float32)


def grow_mask(mask: BoolArray, valid: BoolArray, pixels: int) -> BoolArray:
    """Grow (1) or shrink (-1) a mask by one pixel within `valid`; a mask that would vanish stays as it is."""
    if pixels == 0:
        return mask
    changed = ndimage.binary_dilation(mask) & valid if pixels > 0 else ndimage.binary_erosion(mask)
    return changed if changed.any() else mask
