"""Targets of the structure stage: what the frozen encoder makes of an organ, and how much of it the decoder
gives back.

Letters: R grid side, T shape tokens, C their channels.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sam3d_objects.files import atomic_path
from sam3d_objects.mesh import SOLID_SUPERSAMPLE, Mesh, occupancy_grid
from sam3d_objects.model import SAM3DObjects, fingerprint

_BATCH = 8


@dataclass(frozen=True)
class StructureTarget:
    """What the flow shall learn for one shape.

    Attributes:
        tokens: (T, C) float32, the posterior mean, not normalised.
        iou: overlap of the shape's occupancy with what the frozen decoder makes of the tokens, in [0, 1].
    """

    tokens: Tensor
    iou: float


def occupancy_iou(logits: Tensor, occupancy: Tensor) -> float:
    """Return |A and B| / |A or B| of logits > 0 and occupancy > 0.5; 1 where both are empty."""
    decoded, given = logits > 0, occupancy > 0.5
    union = int((decoded | given).sum())
    return int((decoded & given).sum()) / union if union else 1.0


class StructureTargets:
    """Makes structure targets once and keeps them in a folder, keyed by the SHA-256 of all that made them.

    Args:
        model: its encoder and decoder are used, frozen, in float32.
        folder: where targets are kept; files of other models and shapes may lie beside them.
    """

    def __init__(self, model: SAM3DObjects, folder: Path) -> None:
        self.model, self.folder = model, folder
        settings = model.settings
        maker = f"{settings} {SOLID_SUPERSAMPLE} {fingerprint(model.structure_encoder)} "
        self._maker = (maker + fingerprint(model.structure_decoder)).encode()

    def key(self, mesh_object: Mesh) -> str:
        """Return the key of a shape's target: 64 hex digits."""
        digest = hashlib.sha256(self._maker)
        for array in (mesh_object.vertices, mesh_object.faces):
            digest.update(str(array.shape).encode() + array.tobytes())
        return digest.hexdigest()

    def targets(self, meshes_object: Iterable[Mesh]) -> Iterator[StructureTarget]:
        """Yield the target of each closed shape in object coordinates, from the folder where it is there."""
        shapes = iter(meshes_object)
        while chunk := list(islice(shapes, _BATCH)):
            paths = [self.folder / f"{self.key(mesh)}.safetensors" for mesh in chunk]
            found = [_read(path) for path in paths]
            made = iter(self._make([mesh for mesh, kept in zip(chunk, found, strict=True) if kept is None]))
            for path, kept in zip(paths, found, strict=True):
                yield kept or _keep(path, next(made))

    @torch.no_grad()
    def _make(self, meshes_object: Sequence[Mesh]) -> list[StructureTarget]:
        if not meshes_object:
            return []
        settings = self.model.settings
        grids = [occupancy_grid(mesh, settings.resolution, settings.occupancy) for mesh in meshes_object]
        # Never one alone: torch convolves a batch of one in 3D by a path that is several times slower, and
        # rounds otherwise. From two on, a shape's target does not depend on what is beside it.
        padded = grids if len(grids) > 1 else grids * 2
        occupancy = torch.from_numpy(np.stack(padded))[:, None].to(self.model.device)
        tokens = self.model.encode_structure(occupancy).float()
        logits = self.model.decode_structure(tokens)
        return [
            StructureTarget(tokens[i].cpu().clone(), occupancy_iou(logits[i], occupancy[i])) for i in range(len(grids))
        ]


def _keep(path: Path, target: StructureTarget) -> StructureTarget:
    with atomic_path(path) as temporary:
        save_file({"tokens": target.tokens}, temporary, metadata={"iou": repr(target.iou)})
    return target


def _read(path: Path) -> StructureTarget | None:
    """Return a kept target; None where there is none, or where the file is damaged and must be made again."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            return StructureTarget(file.get_tensor("tokens").clone(), float(file.metadata()["iou"]))
    except SafetensorError:
        return None


def check_targets(ious: Iterable[tuple[str, float]], bar: float) -> None:
    """Refuse targets whose encode -> decode overlap is under the bar.

    Args:
        ious: (name of the shape, IoU) pairs.
        bar: the least IoU; 0 accepts all.

    Raises:
        ValueError: some are under the bar; the message names them, worst first, and says what can be done.
    """
    poor = sorted((iou, name) for name, iou in ious if iou < bar)
    if not poor:
        return
    listed = ", ".join(f"{name} ({iou:.2f})" for iou, name in poor[:20])
    more = f" and {len(poor) - 20} more" if len(poor) > 20 else ""
    raise ValueError(
        f"{len(poor)} shapes have an encode -> decode IoU under {bar:.2f}: {listed}{more}. "
        "Leave these cases out, use a base with a finer grid, or lower the bar (target_iou_bar)"
    )
