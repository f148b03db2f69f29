"""How far the samples of one slice disagree about a surface: what the slice could not say, in mm.

Letters: K samples, V vertices.
"""

from dataclasses import dataclass

import numpy as np

from sam3d_objects.arrays import FloatArray
from sam3d_objects.mesh import Mesh, surface_distance
from sam3d_objects.reconstruct.field import PatientField, PlacedSolid

# A sample's own surface: where half of a cell is inside.
SAMPLE_LEVEL = 0.5


@dataclass(frozen=True, eq=False)
class Prediction:
    """A surface and how sure the model is of each place.

    Attributes:
        mesh: closed, patient mm.
        spread_mm: (V,) float64, see `spread_mm`; None where there are not two samples that could disagree.
    """

    mesh: Mesh
    spread_mm: FloatArray | None


def spread_mm(mesh: Mesh, samples: list[PlacedSolid]) -> FloatArray | None:
    """Return for each vertex of a prediction how far from it the samples' surfaces run, (V,) float64 mm.

    The spread at vertex v is the weighted root mean square

        spread(v) = sqrt(sum_k w_k d_k(v)^2 / sum_k w_k)

    of the distances d_k(v) from v to the nearest point of sample k's own surface (the main parts above one half),
    with the weights w_k that the samples are averaged by. It is a standard deviation about the surface that is stated,
    not about the samples' own middle, so that a surface off all samples is said to be unsure. If the truth is as likely
    as any sample, it is as far from v as they are.

    Args:
        mesh: V vertices, patient mm.
        samples: K; one without a surface (nothing above one half) does not count.

    Returns:
        None where fewer than two samples have a surface: one cannot disagree, and 0 would say that it is sure.
    """
    total, weight, surfaces = np.zeros(len(mesh.vertices)), 0.0, 0
    for sample in samples:
        if sample.field.max() > SAMPLE_LEVEL:
            surface = PatientField(sample.field, sample.cell_to_mm()).mesh(SAMPLE_LEVEL)
            total += sample.weight * np.square(surface_distance(surface, mesh.vertices))
            weight += sample.weight
            surfaces += 1
    return np.sqrt(total / weight) if surfaces > 1 else None
