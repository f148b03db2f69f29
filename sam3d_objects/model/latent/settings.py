"""What the latent stage of one base model is like, beyond its weights."""

from dataclasses import dataclass
from typing import Literal

from sam3d_objects.model.checks import check_number, check_numbers, check_whole

VoxelFeatures = Literal["views", "signed_distance"]

# Of the release's pipeline.yaml.
RELEASED_MEAN = (0.12211431, 0.37204156, -1.26521907, -2.05276058, -3.10432536, -0.11294304, -0.85146744, 0.45506954)
RELEASED_STD = (2.37326008, 2.13174402, 2.2413953, 2.30589401, 2.1191894, 1.8969511, 2.41684989, 2.08374642)


@dataclass(frozen=True)
class LatentSettings:
    """Constants of a base model's latent stage. The defaults are the release's.

    Attributes:
        mean, std: of the latents' channels; the flow sees (latent - mean) / std.
        voxel_features: what the latent encoder takes: 'views' (DINOv2 features gathered from rendered views, the
            release) or 'signed_distance' (27 clamped distances at each voxel's corners, edges, faces and centre).
        steps, rescale, guidance: how to sample.

    Raises:
        ValueError: a value is of another type, not finite or out of its range; the attribute is named.
    """

    mean: tuple[float, ...] = RELEASED_MEAN
    std: tuple[float, ...] = RELEASED_STD
    voxel_features: VoxelFeatures = "views"
    steps: int = 25
    rescale: float = 1.0
    guidance: float = 1.0

    def __post_init__(self) -> None:
        check_numbers("mean", self.mean, len(self.mean))
        check_numbers("std", self.std, len(self.mean), above=0)
        if self.voxel_features not in ("views", "signed_distance"):
            raise ValueError(f"voxel_features must be 'views' or 'signed_distance', got {self.voxel_features!r}")
        check_whole("steps", self.steps)
        check_number("rescale", self.rescale, above=0)
        check_number("guidance", self.guidance)
