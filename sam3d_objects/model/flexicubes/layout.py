"""How the mesh decoder's channels are laid out."""

from dataclasses import dataclass
from typing import Self

from torch import Tensor

CORNERS = 8
SDF = 8  # one a corner
DEFORM = 24  # 8 x 3
BETA, ALPHA, GAMMA = 12, 8, 1
WEIGHTS = BETA + ALPHA + GAMMA
COLOUR = 48  # 8 x 6: base colour and normal


@dataclass(frozen=True)
class FeatureLayout:
    """The order sdf, deform, weights (beta, alpha, gamma), then colour if there is any."""

    colour: bool

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """Channels of sdf, deform, weights, colour; the last is 0 without colour."""
        return SDF, DEFORM, WEIGHTS, COLOUR if self.colour else 0

    @property
    def channels(self) -> int:
        """101, or 53 without colour."""
        return sum(self.sizes)

    @classmethod
    def of(cls, channels: int) -> Self:
        """The layout with that many channels.

        Raises:
            ValueError: for a number that is neither 101 nor 53.
        """
        for layout in (cls(colour=True), cls(colour=False)):
            if layout.channels == channels:
                return layout
        raise ValueError(
            f"mesh features have {cls(True).channels} channels, or {cls(False).channels} without colour; got {channels}"
        )

    def split(self, features: Tensor) -> tuple[list[Tensor], Tensor]:
        """Split features (N, 101) or (N, 53) into views.

        Returns:
            what cubes say about their corners: sdf (N, 8, 1), deform (N, 8, 3) and, with colour, colour (N, 8, 6); and
            the raw weights (N, 21).
        """
        # Split at once: every slice on its own would cost a full-size gradient.
        sdf, deform, weights, colour = features.split(self.sizes, dim=1)
        quantities = [sdf.unflatten(1, (CORNERS, 1)), deform.unflatten(1, (CORNERS, 3))]
        if self.colour:
            quantities.append(colour.unflatten(1, (CORNERS, 6)))
        return quantities, weights
