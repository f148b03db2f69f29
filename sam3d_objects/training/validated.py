"""What judges a network beside its loss: metrics, and pictures for people."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Validated:
    """What a validator found.

    Attributes:
        metrics: by name; the stage's `score` chooses the best by them.
        pictures: by name, (Y, X, 3) uint8 RGB; they go to TensorBoard.

    Raises:
        ValueError: a picture of another shape or dtype; the message names it.
    """

    metrics: Mapping[str, float]
    pictures: Mapping[str, Picture] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, picture in self.pictures.items():
            if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
                raise ValueError(f"picture {name!r} must be (Y, X, 3) of uint8, got {picture.shape} of {picture.dtype}")


Validator = Callable[[], Validated]
