"""One drawn slice through the tiny model: does the whole way from pixels to a mesh work here?"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from .findings import Finding

if TYPE_CHECKING:
    from sam3d_objects.mesh import Mesh
    from sam3d_objects.volume import SliceInput

HALF_AXES_MM = (24.0, 16.0)
PIXELS, SPACING_MM = 64, 1.5
# How wrong a mesh may be before the installation is to blame; the ellipse turned about its long axis holds 26 ml.
FURTHEST_MM, VOLUMES_ML = 10.0, (3.0, 150.0)


def self_test() -> Iterator[Finding]:
    """Reconstruct a drawn ellipse with the built-in tiny model, on the GPU where there is one."""
    import torch

    from sam3d_objects.adapter import InferenceContract
    from sam3d_objects.model import load_model
    from sam3d_objects.reconstruct import Reconstructor

    device = "cuda" if torch.cuda.is_available() else "cpu"
    contract = InferenceContract(field_of_view="mask_margin", modality="mr", steps=5, samples=2)
    began = time.monotonic()
    try:
        model = load_model("tiny", device=device)
        mesh = Reconstructor(model, contract)(drawn_slice(), seed=0)
    except (ValueError, RuntimeError) as error:
        yield Finding("self-test", f"one slice on {device} failed: {error}", "problem")
        return
    yield judged(mesh, device, time.monotonic() - began)


def drawn_slice() -> "SliceInput":
    """An axial slice of a bright ellipse around the origin, with its mask."""
    import numpy as np

    from sam3d_objects.volume import Volume, slice_input

    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    affine[:2, 3] = -SPACING_MM * (PIXELS - 1) / 2
    x, y = (affine[axis, 3] + SPACING_MM * np.indices((PIXELS, PIXELS))[axis] for axis in range(2))
    inside = (x / HALF_AXES_MM[0]) ** 2 + (y / HALF_AXES_MM[1]) ** 2 < 1
    image = Volume(np.where(inside, 100, 20)[..., None].astype(np.float32), affine)
    return slice_input(image, image.with_voxels(inside[..., None]), "axial", 0)


def judged(mesh: "Mesh", device: str, seconds: float) -> Finding:
    """Say whether a mesh is about where the drawn ellipse is, and about as large."""
    import numpy as np

    distance_mm = float(np.linalg.norm(mesh.bounds.mean(axis=0)[:2]))
    volume_ml = mesh.volume / 1000
    text = f"one slice with the tiny model on {device}: {len(mesh.faces)} faces, {volume_ml:.1f} ml, {seconds:.1f} s"
    low, high = VOLUMES_ML
    if distance_mm <= FURTHEST_MM and low <= volume_ml <= high:
        return Finding("self-test", text)
    wanted = f"expected {low:g} to {high:g} ml within {FURTHEST_MM:g} mm of the slice's centre"
    return Finding("self-test", f"{text}, {distance_mm:.1f} mm away; {wanted}: reinstall the package", "problem")
