"""What the structure stage of one base model is like, beyond its weights."""

from dataclasses import dataclass, field
from typing import Literal

from sam3d_objects.model.checks import check_mapping, check_number, check_numbers, check_whole

Occupancy = Literal["surface", "solid"]
PlaneCue = Literal["none", "colour"]
# What pose_mean and pose_std may speak of, and how many numbers each has.
_POSE_WIDTHS = {"scale": 3, "translation": 3}


@dataclass(frozen=True)
class StructureSettings:
    """Constants of a base model's structure stage. The defaults are the release's.

    Attributes:
        resolution: side of the occupancy grid in voxels.
        latent_side: side of the latent grid; latent_channels: its channels.
        patch: latents are grouped patch x patch x patch to one token outside the network.
        occupancy: what is encoded: the surface's voxels (the release) or the solid's share of each voxel.
        image_size: side in pixels of the condition embedder's inputs.
        plane_cue: 'colour' blends the slice's normal into the image's three channels, red for left-right, green for
            anterior-posterior, blue for superior-inferior, as diffusion imaging colours directions. The network has no
            other way to know along which patient axis the slice was cut; the release was not trained with it.
        pose_mean, pose_std: for `scale` and `translation`, applied on top of the release's own pose encoding.
        steps, rescale, guidance: how to sample.

    Raises:
        ValueError: a value is of another type, not finite or out of its range; the attribute is named.
    """

    resolution: int = 64
    latent_side: int = 16
    latent_channels: int = 8
    patch: int = 1
    occupancy: Occupancy = "surface"
    image_size: int = 518
    plane_cue: PlaneCue = "none"
    pose_mean: dict[str, tuple[float, ...]] = field(default_factory=dict)
    pose_std: dict[str, tuple[float, ...]] = field(default_factory=dict)
    steps: int = 25
    rescale: float = 3.0
    guidance: float = 7.0

    def __post_init__(self) -> None:
        for name in ("resolution", "latent_side", "latent_channels", "patch", "image_size", "steps"):
            check_whole(name, getattr(self, name))
        check_number("rescale", self.rescale, above=0)
        check_number("guidance", self.guidance)
        if self.resolution % self.latent_side or self.latent_side % self.patch:
            raise ValueError(
                f"resolution {self.resolution} must be a multiple of latent_side {self.latent_side}, "
                f"and that of patch {self.patch}"
            )
        for name, allowed in (("occupancy", ("surface", "solid")), ("plane_cue", ("none", "colour"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}")
        self._check_pose()

    def _check_pose(self) -> None:
        check_mapping("pose_mean", self.pose_mean)
        check_mapping("pose_std", self.pose_std)
        if set(self.pose_mean) != set(self.pose_std):
            raise ValueError(f"pose_mean has {sorted(self.pose_mean)}, but pose_std has {sorted(self.pose_std)}")
        for name, mean in self.pose_mean.items():
            if name not in _POSE_WIDTHS:
                raise ValueError(f"pose_mean must speak of {sorted(_POSE_WIDTHS)} alone, got {name!r}")
            check_numbers(f"pose_mean.{name}", mean, _POSE_WIDTHS[name])
            check_numbers(f"pose_std.{name}", self.pose_std[name], _POSE_WIDTHS[name], above=0)

    @property
    def token_count(self) -> int:
        """Shape tokens that the flow sees."""
        return int((self.latent_side // self.patch) ** 3)

    @property
    def token_channels(self) -> int:
        """Channels of a shape token."""
        return int(self.latent_channels * self.patch**3)
