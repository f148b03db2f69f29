"""Ceilings: systems that know the truth, and show what is lost before any model errs.

They are no methods. A `Ceiling` is not a `Predictor`: it cannot be called with a slice, its name begins with
`ceiling_`, and summaries keep it apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from sam3d_objects.arrays import FloatArray
from sam3d_objects.evaluation.cases import Material
from sam3d_objects.evaluation.predictor import Predictor, Stated
from sam3d_objects.evaluation.truth import Truth
from sam3d_objects.mesh import Mesh, ObjectFrame, main_parts, object_grid_affine, occupancy_grid, surface_from_field

PREFIX = "ceiling_"
ENCODE = f"{PREFIX}encode"
_EVEN = 0.5  # the share of a voxel at which the surface runs

RoundTrip = Callable[[FloatArray], FloatArray]
"""Occupancy (R, R, R) float32 in [0, 1] -> the solid's shares (R, R, R) in [0, 1] that a model gives back of it."""


class Ceiling:
    """A system that is given the truth in place of the slice.

    Args:
        title: for people, beside its figures.
        make: the truth -> what is left of its mesh, patient mm, at its true place and size.
    """

    def __init__(self, title: str, make: Callable[[Truth], Mesh]) -> None:
        self.title = title
        self._make = make
        self._last: tuple[Truth, Mesh] | None = None

    def mesh(self, truth: Truth) -> Mesh:
        """What is left of the truth; made once for all slices of an organ that follow one another."""
        if self._last is None or self._last[0] is not truth:
            self._last = truth, self._make(truth)
        return self._last[1]


def is_ceiling(name: str) -> bool:
    """Whether a system's name is a ceiling's."""
    return name.startswith(PREFIX)


def answer(system: Predictor | Ceiling, material: Material, seed: int) -> Mesh | Stated:
    """What a system makes of a case: a predictor is shown the slice alone, a ceiling the truth."""
    if isinstance(system, Ceiling):
        return system.mesh(material.truth)
    return system(material.slice, seed)


def on_grid(truth: Truth, resolution: int, occupancy: str = "solid", round_trip: RoundTrip | None = None) -> Mesh:
    """The truth as R^3 voxels of its own box, and, where there is one, through a model's encoder and decoder.

    Args:
        truth: of one organ.
        resolution: R.
        occupancy: what the voxels hold: `solid`, the share that is inside, or `surface`, 1 where the surface is.
        round_trip: what is done with them; required for `surface`, whose voxels are no solid.

    Returns:
        the surface where a voxel's share is one half, patient mm; after a round trip that of its main parts, as
        reconstructions are cut.

    Raises:
        ValueError: nothing of the organ is left.
    """
    assert round_trip is not None or occupancy == "solid", "surface voxels need a model to be a solid again"
    frame = ObjectFrame.from_points(truth.mesh.bounds)
    grid: FloatArray = occupancy_grid(
        Mesh(frame.to_object(truth.mesh.vertices), truth.mesh.faces), resolution, occupancy
    )
    shares = grid if round_trip is None else main_parts(round_trip(grid), _EVEN)
    return surface_from_field(shares, _EVEN, frame.object_affine() @ object_grid_affine(len(shares)))


def _true_mesh(truth: Truth) -> Mesh:
    return truth.mesh


CEILINGS: Mapping[str, Ceiling] = MappingProxyType(
    {
        f"{PREFIX}mesh": Ceiling("the true mesh, through the scorer", _true_mesh),
        f"{PREFIX}grid64": Ceiling("the truth on a 64^3 grid of its own box", partial(on_grid, resolution=64)),
        f"{PREFIX}grid32": Ceiling("the truth on a 32^3 grid of its own box", partial(on_grid, resolution=32)),
    }
)
"""The ceilings that need no model."""


def encode_ceiling(round_trip: RoundTrip, resolution: int, occupancy: str) -> Ceiling:
    """`ceiling_encode`: the truth through a model's encoder and decoder.

    Args:
        round_trip: encode and decode.
        resolution, occupancy: of the grid that the encoder takes, as `on_grid` has them.
    """
    return Ceiling(
        f"the truth on a {resolution}^3 grid, encoded and decoded",
        partial(on_grid, resolution=resolution, occupancy=occupancy, round_trip=round_trip),
    )
