"""What the tiny model scores on shapes that its pretraining never drew."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from sam3d_objects.adapter import InferenceContract
from sam3d_objects.arrays import BoolArray
from sam3d_objects.model.sam3d import SAM3DObjects
from sam3d_objects.model.sparse import SparseTensor
from sam3d_objects.model.structure.voxels import enclosed
from sam3d_objects.pretraining.bank import FIELD_STEP, ShapeBank
from sam3d_objects.pretraining.latent_vae import distances_at, shell_batch
from sam3d_objects.pretraining.slices import RenderedSlice, render_slice
from sam3d_objects.reconstruct import PatientField, Reconstructor, average

CONTRACT = InferenceContract(field_of_view="mask_margin", modality="mr", steps=5, samples=8, threshold=0.45)


@dataclass(frozen=True)
class HeldOutScores:
    """Means over held-out shapes.

    Attributes:
        round_trip: Dice of encode -> decode on the structure's grid.
        reconstruction: Dice of the structure rebuilt from one random slice, in patient space; K = 8, 5 steps, fitted.
        extrusion_of_half: Dice of the same slices if the mask is extruded to half its width: a floor.
        latent_round_trip_percent: distance to the true surface of the vertices that the latent encoder and the mesh
            decoder make of the true shell, percent of the longest side.
        latent_sampled_percent: the same, of latents drawn for the true shell from one random slice.
        shapes: how many.
    """

    round_trip: float
    reconstruction: float
    extrusion_of_half: float
    latent_round_trip_percent: float
    latent_sampled_percent: float
    shapes: int


def dice(first: BoolArray, second: BoolArray) -> float:
    """Dice of two masks that are not both empty."""
    return 2 * int((first & second).sum()) / int(first.sum() + second.sum())


@torch.no_grad()
def score_held_out(model: SAM3DObjects, bank: ShapeBank, seed: int) -> HeldOutScores:
    """Score every shape of `bank`, which must come from another seed than the pretraining's."""
    solids = torch.from_numpy(bank.solids).float()[:, None] / 255
    decoded = torch.cat([model.decode_structure(model.encode_structure(part)) for part in solids.split(16)])
    round_trip = [dice((a > 0).numpy(), (b > 0.5).numpy()) for a, b in zip(decoded, solids, strict=True)]
    generator = np.random.default_rng(seed)
    rebuilt: list[float] = []
    extruded: list[float] = []
    encoded: list[float] = []
    sampled: list[float] = []
    for index in range(len(bank)):
        rendered = render_slice(bank, index, generator)
        # The contract's 3 mm margin would cut these slices, whose sizes vary, again: the model sees them as rendered.
        field = average(Reconstructor(model, CONTRACT).samples_of(rendered.image01, rendered.slice, seed))
        grid, truth = truth_on_grid(bank, index, rendered)
        rebuilt.append(dice(on_grid(field, grid) > CONTRACT.threshold, truth))
        extruded.append(dice(extrusion(rendered, grid), truth))
        for distances, latents in ((encoded, true_latents), (sampled, drawn_latents)):
            distances.append(surface_distance_percent(model, bank, index, latents(model, bank, index, rendered)))
    return HeldOutScores(
        round_trip=float(np.mean(round_trip)),
        reconstruction=float(np.mean(rebuilt)),
        extrusion_of_half=float(np.mean(extruded)),
        latent_round_trip_percent=float(np.mean(encoded)),
        latent_sampled_percent=float(np.mean(sampled)),
        shapes=len(bank),
    )


def true_latents(model: SAM3DObjects, bank: ShapeBank, index: int, rendered: RenderedSlice) -> SparseTensor:
    """What the latent encoder makes of a shape's shell: its posterior mean (N, 8)."""
    shell = shell_batch(bank, [index]).voxels
    return shell.replace(model.latent_stage.encoder(shell)[0])


def drawn_latents(model: SAM3DObjects, bank: ShapeBank, index: int, rendered: RenderedSlice) -> SparseTensor:
    """Latents (N, 8) drawn for a shape's shell, given the slice."""
    shell, stage = shell_batch(bank, [index]).voxels, model.latent_stage
    normal = rendered.camera.camera_axes[2]
    prepared = model.condition_inputs(rendered.image01, rendered.slice.mask, rendered.pointmap, normal)
    condition = stage.embed({name: value[None] for name, value in prepared.tensors.items()})
    return shell.replace(stage.sample(condition, shell.grid, torch.Generator().manual_seed(index)))


def surface_distance_percent(model: SAM3DObjects, bank: ShapeBank, index: int, latents: SparseTensor) -> float:
    """Mean distance of the decoded vertices to the true surface, percent of the shape's longest side."""
    interior = enclosed(torch.from_numpy(bank.solids[index] > 127)[None, None], latents.grid.coordinates)
    (surface,) = model.latent_stage.decode(latents.features, latents.grid, interior)
    return 100 * float(distances_at(bank, index, surface.vertices).abs().mean())


def truth_on_grid(bank: ShapeBank, index: int, rendered: RenderedSlice) -> tuple[np.ndarray, BoolArray]:
    """Return patient points (R, R, R, 3) of a cube twice the shape's size and which of them are inside the shape."""
    axis = (np.arange(64) + 0.5) / 64 * 2 - 1
    unit = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1)  # object coordinates
    voxels = unit * float(bank.sizes_vox[index]) + bank.centers_vox[index]
    field = bank.fields[index].astype(np.float32) * FIELD_STEP
    values = ndimage.map_coordinates(field, voxels.transpose(3, 0, 1, 2), order=1, cval=-1.0)
    return rendered.frame.to_patient(unit), values > 0


def on_grid(field: PatientField, points_mm: np.ndarray) -> np.ndarray:
    """Sample a patient field at points (..., 3), 0 outside its grid."""
    inverse = np.linalg.inv(field.affine)
    index = points_mm @ inverse[:3, :3].T + inverse[:3, 3]
    return ndimage.map_coordinates(field.values, np.moveaxis(index, -1, 0), order=1, cval=0.0)


def extrusion(rendered: RenderedSlice, points_mm: np.ndarray) -> BoolArray:
    """Which points (..., 3) lie in the slice's mask extruded to half the mask's width."""
    plane, mask = rendered.slice.plane, rendered.slice.mask
    pixel = plane.mm_to_pixel(points_mm.reshape(-1, 3))
    inside = ndimage.map_coordinates(mask.astype(np.float32), pixel[:, :2].T, order=0, cval=0.0) > 0
    row_mm, col_mm = plane.pixel_spacing_mm
    width_mm = float(np.sqrt(mask.sum() * row_mm * col_mm))
    return (inside & (np.abs(pixel[:, 2]) < width_mm / 4)).reshape(points_mm.shape[:-1])
