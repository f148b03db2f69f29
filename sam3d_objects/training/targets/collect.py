"""The targets of a stage's shapes, with lines for people, a note in the manifest, and the gate."""

import time
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

import numpy as np

from sam3d_objects.mesh import Mesh
from sam3d_objects.model import SAM3DObjects
from sam3d_objects.training.progress import readable_time
from sam3d_objects.training.stage import Say
from sam3d_objects.training.stages.shapes import ShapeKey, StageShapes, shape_name
from sam3d_objects.training.targets.figures import figures_of, note_figures
from sam3d_objects.training.targets.gates import check_distances, check_targets
from sam3d_objects.training.targets.latent import ENCODER, LatentTarget, LatentTargets
from sam3d_objects.training.targets.structure import StructureTarget, StructureTargets

_SECONDS_BETWEEN_LINES = 15.0
Target = TypeVar("Target", covariant=True)


class Maker(Protocol[Target]):
    """`StructureTargets` or `LatentTargets`."""

    def targets(self, meshes_object: Iterable[Mesh]) -> Iterator[Target]:
        """Yield the target of each shape."""
        ...


def structure_targets(
    model: SAM3DObjects, maker: StructureTargets, shapes: StageShapes, bar: float, say: Say
) -> dict[ShapeKey, StructureTarget]:
    """Make or read the structure targets of a stage's shapes, and note in the manifest how good they are.

    Args:
        model: its name and fingerprint go into the manifest.
        maker: of that model.
        shapes: of the stage.
        bar: the least IoU; 0 accepts all.
        say: called with lines for people.

    Raises:
        ValueError: some are under the bar; the message names them.
    """
    targets = _collected(maker, shapes, say)
    figures = {key: figures_of(target, shapes.size_mm(key)) for key, target in targets.items()}
    note_figures(shapes.train.data_root, "structure", figures, model.name, model.fingerprint, ENCODER)
    ious = {shape_name(key): target.iou for key, target in targets.items()}
    worst = min(ious, key=lambda name: ious[name])
    say(
        f"targets: {len(ious)} shapes, encode -> decode IoU {np.mean(list(ious.values())):.3f}, least "
        f"{ious[worst]:.3f} ({worst}); {_distance_text(targets, shapes)}"
    )
    check_targets(ious.items(), bar)
    return targets


def latent_targets(
    model: SAM3DObjects, maker: LatentTargets, shapes: StageShapes, bar: float, say: Say
) -> dict[ShapeKey, LatentTarget]:
    """Make or read the latent targets of a stage's shapes, as `structure_targets` does.

    Args:
        bar: the largest mean surface distance, as a share of the shape's longest side; 0 accepts all.
    """
    say(f"latent targets by the {maker.source}: {maker.reason}")
    targets = _collected(maker, shapes, say)
    figures = {key: figures_of(target, shapes.size_mm(key)) for key, target in targets.items()}
    note_figures(shapes.train.data_root, "latent", figures, model.name, model.latent_stage.fingerprint, maker.source)
    say(f"targets: {len(targets)} shapes, {_distance_text(targets, shapes)}")
    check_distances(((shape_name(key), target.distance.mean) for key, target in targets.items()), bar)
    return targets


def _collected(maker: Maker[Target], shapes: StageShapes, say: Say) -> dict[ShapeKey, Target]:
    keys = shapes.keys
    targets: dict[ShapeKey, Target] = {}
    said = began = time.monotonic()
    for key, target in zip(keys, maker.targets(shapes.mesh_object(key) for key in keys), strict=True):
        targets[key] = target
        if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
            said = time.monotonic()
            left = readable_time((said - began) / len(targets) * (len(keys) - len(targets)))
            say(f"targets: {len(targets)} of {len(keys)}, {left} left")
    return targets


def _distance_text(targets: dict[ShapeKey, StructureTarget] | dict[ShapeKey, LatentTarget], shapes: StageShapes) -> str:
    distances = {key: target.distance.mean * shapes.size_mm(key) for key, target in targets.items()}
    worst = max(distances, key=lambda key: distances[key])
    mean = np.mean(list(distances.values()))
    return f"surface distance {mean:.3f} mm, most {distances[worst]:.3f} mm ({shape_name(worst)})"
