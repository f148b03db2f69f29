"""Targets on disk: one file each, named by the SHA-256 of all that made it."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from sam3d_objects.files import atomic_path
from sam3d_objects.mesh import Mesh
from sam3d_objects.training.targets.distance import SurfaceDistance

Kept = tuple[dict[str, Tensor], dict[str, str]]
"""Tensors by name, and texts by name."""


def shape_key(maker: str, mesh_object: Mesh) -> str:
    """Return the key of what a maker makes of a shape: 64 hex digits.

    Args:
        maker: all that matters beside the shape: fingerprints of weights, options.
        mesh_object: the shape, as it is made from.
    """
    digest = hashlib.sha256(maker.encode())
    for array in (mesh_object.vertices, mesh_object.faces):
        digest.update(str(array.shape).encode() + array.tobytes())
    return digest.hexdigest()


def keep(path: Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str]) -> None:
    """Write a target's file, whole or not at all."""
    with atomic_path(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata=dict(texts))


def read_kept(path: Path) -> Kept | None:
    """Return a kept target; None where there is none, or where the file is damaged and must be made again."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  # not a mapping
            return tensors, dict(file.metadata() or {})
    except SafetensorError:
        return None


def is_kept(path: Path) -> bool:
    """Return whether there is a kept target that can be read, by its header alone, which says how long the file is."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, framework="pt"):
            return True
    except SafetensorError:
        return False


def distance_texts(distance: SurfaceDistance) -> dict[str, str]:
    """A surface distance as texts; `distance_from_texts` is the way back, to the last bit."""
    return {"assd": repr(distance.mean), "p95": repr(distance.p95)}


def distance_from_texts(texts: Mapping[str, str]) -> SurfaceDistance:
    """Read what `distance_texts` gave."""
    return SurfaceDistance(float(texts["assd"]), float(texts["p95"]))
