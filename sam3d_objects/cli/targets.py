"""`sam3d-med targets`: what training learns from, made ahead of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sam3d_objects.config.targets import TargetOptions

from .organs import organ_names

if TYPE_CHECKING:
    from sam3d_objects.training.targets import MadeTarget, TargetRequest

STAGES = ("structure", "latent")


def targets(
    data_root: Annotated[Path, "prepared data set (from `sam3d-med prepare`)"],
    options: TargetOptions,
) -> None:
    """Make the training targets of a prepared data set, in parallel, and check them.

    Each organ goes through the base's encoder (or an inversion of its mesh decoder) and back. How much comes back, the
    IoU and the surface distance in mm, is printed and written to the data set's manifest; shapes under the bar are
    named, and the command fails. Training makes what is missing itself, in one process. It can be killed and run
    again; what is done stays done.

        sam3d-med targets --data_root data/hippocampus --workers 8

    Research use, not for diagnosis.
    """
    from sam3d_objects.dataset import Manifest
    from sam3d_objects.training.stages.shapes import shape_name
    from sam3d_objects.training.targets import build_targets, check_distances, check_targets, figure_table

    Manifest.load(data_root)  # what is wrong with the data is said before a model is read
    made: dict[str, list[MadeTarget]] = {}
    for stage in STAGES if options.stage == "all" else (options.stage,):
        shapes = build_targets(_request(data_root, stage, options), options.workers)
        table = figure_table({shape.key: shape.figures for shape in shapes})
        print(f"{stage}: {len(shapes)} shapes\n{table}")
        made[stage] = shapes
    ious = [(shape_name(shape.key), shape.figures.iou or 0.0) for shape in made.get("structure", [])]
    check_targets(ious, options.target_iou_bar)
    distances = [(shape_name(shape.key), shape.distance_share) for shape in made.get("latent", [])]
    check_distances(distances, options.target_distance_bar)


def _request(data_root: Path, stage: str, options: TargetOptions) -> "TargetRequest":
    """Say to the training package what the command line was told; for latents also, to people, who makes them."""
    from sam3d_objects.model import load_model
    from sam3d_objects.training.targets import InversionOptions, TargetRequest, resolve_source

    from .models import torch_device

    if stage == "latent":
        source, reason = resolve_source(load_model(options.base).latent_stage, options.source)
        print(f"latent targets by the {source}: {reason}")
    return TargetRequest(
        data_root=data_root,
        stage=stage,
        base=options.base,
        organs=tuple(organ_names(options.organs) or ()),
        variants=options.variants,
        seed=options.seed,
        allow_mirror=options.allow_mirror,
        source=options.source,
        inversion=InversionOptions(steps=options.inversion_steps, prior_weight=options.inversion_prior),
        device=str(torch_device(options.device)),
    )
