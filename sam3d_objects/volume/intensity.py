"""Raw intensities to [0, 1]: a Hounsfield window for CT, percentiles for MR and ultrasound."""

from dataclasses import dataclass

import numpy as np

from sam3d_objects.arrays import AnyArray, FloatArray
from sam3d_objects.files import nearest

MODALITIES = ("ct", "mr", "us")


@dataclass(frozen=True)
class Intensity:
    """How the intensities of a modality are brought to [0, 1].

    Attributes:
        modality: 'ct', 'mr' or 'us'.
        window_hu: lower and upper end of the CT window; the default is the usual abdominal one
            (level 40, width 400).
        percentiles: for MR and US, the percentiles that become 0 and 1.

    Raises:
        ValueError: an unknown modality, an empty window, or percentiles that do not rise within [0, 100].
    """

    modality: str
    window_hu: tuple[float, float] = (-160.0, 240.0)
    percentiles: tuple[float, float] = (0.5, 99.5)

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise ValueError(
                f"expected a modality of {', '.join(MODALITIES)}, got {self.modality!r}."
                f"{nearest(str(self.modality), MODALITIES)}"
            )
        window_hu, percentiles = _pair("window_hu", self.window_hu), _pair("percentiles", self.percentiles)
        if percentiles[0] < 0 or percentiles[1] > 100:
            raise ValueError(f"expected percentiles within 0 and 100, got {percentiles}")
        object.__setattr__(self, "window_hu", window_hu)
        object.__setattr__(self, "percentiles", percentiles)

    def normalise(self, image: AnyArray, reference: AnyArray | None = None) -> FloatArray:
        """Map intensities to [0, 1]; what lies beyond the window or the percentiles is clipped.

        Args:
            image: any shape, HU for CT.
            reference: the intensities whose percentiles are taken (MR and US; CT does not look at them),
                any shape; `image` itself by default.

        Returns:
            float32 of the image's shape. All 0 where the reference is constant. Where both percentiles
            fall on one value (a scan that is nearly all background), its smallest and largest values are
            taken instead.

        Raises:
            ValueError: NaN or infinite intensities, or an empty reference.
        """
        _check_finite("image", image)
        if self.modality == "ct":
            low, high = self.window_hu
        else:
            low, high = self._range(image if reference is None else reference)
        if high <= low:
            return np.zeros(image.shape, dtype=np.float32)
        # float64: an MR scan may reach 1e6, where float32 differences are coarse.
        scaled = (np.asarray(image, dtype=np.float64) - low) / (high - low)
        return np.clip(scaled, 0.0, 1.0).astype(np.float32)

    def _range(self, reference: AnyArray) -> tuple[float, float]:
        if reference.size == 0:
            raise ValueError("expected intensities to take percentiles of, got an empty reference")
        _check_finite("reference", reference)
        low, high = np.percentile(reference, self.percentiles)
        # More than 99 % of one value would turn everything else black or white.
        if high <= low:
            low, high = reference.min(), reference.max()
        return float(low), float(high)


def quantile_summary(voxels: AnyArray) -> FloatArray:
    """Return the 1001 quantiles of a volume at 0, 0.1, ... 100 percent, (1001,) float64.

    Given as `reference`, it stands for the volume: percentiles that are multiples of 0.1 come out the same,
    others by interpolation, without sorting the whole scan again for each slice.
    """
    quantiles: FloatArray = np.percentile(voxels, np.linspace(0.0, 100.0, 1001))
    return quantiles


def _check_finite(what: str, values: AnyArray) -> None:
    bad = int((~np.isfinite(values)).sum())
    if bad:
        raise ValueError(f"expected finite intensities, got {bad} NaN or infinite values in the {what}")


def _pair(name: str, values: tuple[float, float]) -> tuple[float, float]:
    if len(values) != 2 or not np.isfinite(values).all() or not values[0] < values[1]:
        raise ValueError(f"expected {name} as two rising numbers, got {values}")
    return float(values[0]), float(values[1])
