"""The targets of a whole data set, made ahead of training: in several processes, resumable."""

import multiprocessing
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch

from sam3d_objects.dataset import SPLITS, Manifest, TS_SAM3D_Dataset
from sam3d_objects.dataset.pool import cpu_count, run_all
from sam3d_objects.dataset.target_figures import TargetFigures
from sam3d_objects.mesh import Mesh
from sam3d_objects.model import SAM3DObjects, load_model
from sam3d_objects.training.stages.shapes import ShapeKey
from sam3d_objects.training.targets.figures import figures_of, note_figures
from sam3d_objects.training.targets.inversion import InversionOptions
from sam3d_objects.training.targets.latent import AUTO, ENCODER, LatentTarget, LatentTargets
from sam3d_objects.training.targets.structure import StructureTarget, StructureTargets

TARGETS_FOLDER = "targets"  # in the prepared folder
_SHAPES_A_JOB = 8  # the structure encoder takes so many together


@dataclass(frozen=True)
class TargetRequest:
    """Which targets of which shapes.

    Attributes:
        data_root: prepared folder; targets are kept in its `targets/`.
        stage: `structure` or `latent`.
        base: 'tiny' or the folder of a base model.
        organs: structures; empty: all.
        variants, seed, allow_mirror: of the training shapes, as training has them; others are taken as they are.
        source, inversion: of latent targets.
        device: where the networks work.
    """

    data_root: Path
    stage: str
    base: str = "tiny"
    organs: tuple[str, ...] = ()
    variants: int = 1
    seed: int = 0
    allow_mirror: bool = False
    source: str = AUTO
    inversion: InversionOptions = field(default_factory=InversionOptions)
    device: str = "cpu"


@dataclass(frozen=True)
class MadeTarget:
    """What became of one shape: its figures in mm, and the surface distance as a share of its longest side."""

    key: ShapeKey
    figures: TargetFigures
    distance_share: float


@dataclass(frozen=True)
class _Job:
    request: TargetRequest
    split: str
    keys: tuple[ShapeKey, ...]


def build_targets(request: TargetRequest, workers: int | None = None, show_progress: bool = True) -> list[MadeTarget]:
    """Make the targets that are not there yet, of every patient, and note in the manifest how good all of them are.

    Args:
        request: see there.
        workers: processes beside this one, each with one thread; 0: none; default: one for each CPU where the
            networks work on the CPU and there is more than one job.
        show_progress: whether to show a bar with the time left.

    Raises:
        ValueError: no prepared folder, no such structure, or no such source of latents.
    """
    jobs = [job for split in _splits(request) for job in _jobs(request, split)]
    if workers is None:
        workers = cpu_count() if request.device == "cpu" and len(jobs) > 1 else 0
    made = run_all(_make, jobs, workers, f"{request.stage} targets", show_progress)
    shapes = [shape for job in made for shape in job]
    model, maker = _workshop(request)
    figures = {shape.key: shape.figures for shape in shapes}
    if isinstance(maker, LatentTargets):
        half, source = model.latent_stage.fingerprint, maker.source
    else:
        half, source = model.fingerprint, ENCODER
    note_figures(request.data_root, request.stage, figures, model.name, half, source)
    return shapes


def _splits(request: TargetRequest) -> list[str]:
    """The sides whose patients have one of the structures; where there is none, the data set says what is wrong."""
    manifest = Manifest.load(request.data_root)
    wanted = set(request.organs or manifest.structures)
    present = {manifest.split[case.patient] for case in manifest.cases if wanted & case.organs.keys()}
    return [split for split in SPLITS if split in present] or ["train"]


@lru_cache(maxsize=8)
def _dataset(request: TargetRequest, split: str) -> TS_SAM3D_Dataset:
    return TS_SAM3D_Dataset(
        request.data_root,
        split,
        request.organs or None,
        variants=request.variants if split == "train" else 1,
        seed=request.seed,
        allow_mirror=request.allow_mirror,
    )


def _jobs(request: TargetRequest, split: str) -> list[_Job]:
    dataset = _dataset(request, split)
    keys = [(*pair, variant) for pair in dataset.pairs for variant in range(dataset.variants)]
    starts = range(0, len(keys), _SHAPES_A_JOB)
    return [_Job(request, split, tuple(keys[start : start + _SHAPES_A_JOB])) for start in starts]


@lru_cache(maxsize=1)
def _workshop(request: TargetRequest) -> tuple[SAM3DObjects, StructureTargets | LatentTargets]:
    """The model and what makes its targets, once in each process."""
    folder = request.data_root / TARGETS_FOLDER
    if request.stage == "structure":
        model = load_model(request.base, device=request.device, stages=("structure",))
        return model, StructureTargets(model, folder)
    model = load_model(request.base)
    device = torch.device(request.device)
    return model, LatentTargets(model, folder, request.source, request.inversion, device)


def _make(job: _Job) -> list[MadeTarget]:
    if multiprocessing.parent_process() is not None:
        torch.set_num_threads(1)  # processes are enough
    dataset, (_, maker) = _dataset(job.request, job.split), _workshop(job.request)
    frames = [dataset.frame(*key) for key in job.keys]
    meshes = [dataset.geometry(*key) for key in job.keys]
    shapes = (Mesh(frame.to_object(mesh.vertices), mesh.faces) for frame, mesh in zip(frames, meshes, strict=True))
    targets: Iterable[StructureTarget | LatentTarget] = maker.targets(shapes)
    return [
        MadeTarget(key, figures_of(target, frame.size_mm), target.distance.mean)
        for key, frame, target in zip(job.keys, frames, targets, strict=True)
    ]
