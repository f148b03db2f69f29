"""Direct regression: a U-Net that turns a marked slice into the organ's signed distances in a box around the mask.

It is what an engineer would try first: it sees what the model sees, answers with one surface, and like the other
baselines is made for one organ. The box stands on the slice camera's axes, named by the patient's directions, so that
an organ stands alike in every plane; along the slice's normal the network has one output channel a layer, for a slice
shows nothing that varies there.

Letters: B batch, S side of the box in points, C = 7 input channels.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from monai.networks.nets import UNet
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from scipy import ndimage
from scipy.optimize import linear_sum_assignment
from torch import nn

from sam3d_objects.arrays import AnyArray, FloatArray
from sam3d_objects.evaluation.slice_frame import (
    DistanceField,
    label_slice,
    mask_center_mm,
    thinned,
    training_indices,
)
from sam3d_objects.files import atomic_path
from sam3d_objects.mesh import Mesh, main_parts, surface_from_field
from sam3d_objects.mesh.edge import signed_distances_mm
from sam3d_objects.volume import PLANES, Intensity, SliceInput, SlicePlane, Volume, condition_image

SIDE = 32
CHANNELS = 7
"""Distance to the mask's edge, image, two coordinates, and which of three directions the slice's normal is."""
_WIDTHS, _STRIDES = (32, 64, 128), (2, 2)
_SPARE = 1.08  # a test organ may reach farther than every training organ
_CLIP = 0.15  # of the longest organ: farther from the surface, a distance says nothing more about the shape


def box_axes(plane: SlicePlane) -> tuple[FloatArray, int]:
    """The slice camera's axes, ordered and signed as patient right, anterior, superior.

    Returns:
        (3, 3) float64 unit rows, det +1 or -1; the number of the row that is the slice's normal.
    """
    patient, camera = linear_sum_assignment(-np.abs(plane.camera_axes.T))
    axes = plane.camera_axes[camera]
    return axes * np.sign(np.diag(axes))[:, None], int(patient[camera == 2][0])


@dataclass(frozen=True)
class DirectGrid:
    """The box around a mask: SIDE points along each of its axes, the mask's centroid in the middle.

    Args:
        sides_mm: of the box, along right, anterior, superior.
        clip_mm: signed distances are clipped to this.
    """

    sides_mm: tuple[float, float, float]
    clip_mm: float

    @classmethod
    def of_labels(cls, labels: Sequence[Volume]) -> "DirectGrid":
        """The box that holds training organs, masks (I, J, K) bool, from any of their slices that is used.

        Raises:
            ValueError: without labels.
        """
        if not labels:
            raise ValueError("a direct regression needs at least one training label, got none")
        reaches_mm, lengths_mm = [], []
        for label in map(thinned, labels):
            points_mm = label.voxel_to_mm(np.argwhere(label.voxels))
            lengths_mm.append(float(np.ptp(points_mm, axis=0).max()) + max(label.spacing_mm))
            for plane_name in PLANES:
                for index in training_indices(label, plane_name):
                    slice = label_slice(label, plane_name, index)
                    assert slice is not None, "training_indices names slices that show the label"
                    axes, _ = box_axes(slice.plane)
                    reaches_mm.append(np.abs((points_mm - mask_center_mm(slice)) @ axes.T).max(axis=0))
        right, anterior, superior = (2 * _SPARE * np.max(reaches_mm, axis=0)).tolist()
        return cls((right, anterior, superior), _CLIP * max(lengths_mm))

    @property
    def steps_mm(self) -> FloatArray:
        """(3,) float64 distances of neighbouring points."""
        return np.array(self.sides_mm) / SIDE

    def affine(self, slice: SliceInput) -> FloatArray:
        """(4, 4) box index -> patient mm; may be left-handed."""
        axes, _ = box_axes(slice.plane)
        affine = np.eye(4)
        affine[:3, :3] = axes.T * self.steps_mm
        affine[:3, 3] = mask_center_mm(slice) - affine[:3, :3] @ np.full(3, (SIDE - 1) / 2)
        return affine

    def inputs(self, slice: SliceInput, image01: FloatArray) -> FloatArray:
        """(C, S, S) float32: what the network sees of a slice and its image (rows, cols) in [0, 1]."""
        _, normal = box_axes(slice.plane)
        spacing_mm = slice.plane.pixel_spacing_mm
        pad = [int(np.ceil(self.clip_mm / spacing)) + 1 for spacing in spacing_mm]
        distances = signed_distances_mm(np.pad(slice.mask, [(n, n) for n in pad]), spacing_mm).astype(np.float32)
        inputs = np.zeros((CHANNELS, SIDE, SIDE), dtype=np.float32)
        inputs[0] = self._on_plane(np.clip(distances / self.clip_mm, -1, 1), slice, pad, -1.0)
        inputs[1] = self._on_plane(image01, slice, [0, 0], 0.0)
        inputs[2:4] = np.meshgrid(*[np.linspace(-1, 1, SIDE)] * 2, indexing="ij")
        inputs[4 + normal] = 1
        return inputs

    def target(self, field: DistanceField, slice: SliceInput, warp: FloatArray | None = None) -> FloatArray:
        """(S, S, S) float32: an organ's distances / clip_mm around a slice, the layers along its normal first.

        Args:
            field: of the organ, clipped to this grid's clip_mm.
            slice: of the organ, warped if it is.
            warp: (4, 4) affine of patient space that moved the organ. Its distances are then those before the warp:
                the surface is right, what lies off it to the warp's scale.
        """
        affine = self.affine(slice)
        values = field.on(affine if warp is None else np.linalg.inv(warp) @ affine, (SIDE,) * 3)
        return np.ascontiguousarray(np.moveaxis(values, box_axes(slice.plane)[1], 0)) / np.float32(self.clip_mm)

    def _on_plane(self, values: AnyArray, slice: SliceInput, pad: Sequence[int], outside: float) -> FloatArray:
        """Sample an array (rows, cols), padded by `pad` pixels, at the box's points in the slice plane, (S, S)."""
        _, normal = box_axes(slice.plane)
        matrix = np.linalg.inv(slice.plane.affine) @ self.affine(slice)
        flat = [axis for axis in range(3) if axis != normal]
        sampled: FloatArray = ndimage.affine_transform(
            np.asarray(values, dtype=np.float32),
            matrix[:2, flat],
            offset=matrix[:2, 3] + matrix[:2, normal] * (SIDE - 1) / 2 + pad,
            output_shape=(SIDE, SIDE),
            order=1,
            mode="constant",
            cval=outside,
        )
        return sampled


def direct_network() -> nn.Module:
    """A residual U-Net (Ronneberger et al., MICCAI 2015; MONAI's), (B, C, S, S) -> (B, S, S, S) distances / clip_mm."""
    return UNet(
        spatial_dims=2,
        in_channels=CHANNELS,
        out_channels=SIDE,
        channels=_WIDTHS,
        strides=_STRIDES,
        num_res_units=2,
        act="LEAKYRELU",
    )


@dataclass(frozen=True, eq=False)
class DirectRegression:
    """A predictor: the surface where the predicted distance is 0.

    Args:
        network: of `direct_network`, on any device.
        grid: of its box.
        intensity, field_of_view, margin_mm: of the data set that it was trained on.
    """

    network: nn.Module
    grid: DirectGrid
    intensity: Intensity
    field_of_view: str
    margin_mm: float

    @torch.no_grad()
    def __call__(self, slice: SliceInput, seed: int) -> Mesh:
        """The mesh in patient mm; nothing is random.

        Raises:
            ValueError: no point of the box is inside.
        """
        seen, image01 = condition_image(slice, self.intensity, self.field_of_view, self.margin_mm)
        device = next(self.network.parameters()).device
        inputs = torch.from_numpy(self.grid.inputs(seen, image01))[None].to(device)
        layers = self.network(inputs)[0].float().cpu().numpy() * self.grid.clip_mm
        field = np.moveaxis(layers, 0, box_axes(seen.plane)[1])
        return surface_from_field(main_parts(field, 0.0), 0.0, self.grid.affine(seen))

    def save(self, path: Path, metrics: Mapping[str, float]) -> None:
        """Write one .safetensors file; geometry and metrics are in its metadata."""
        settings = {name: value for name, value in vars(self).items() if name not in ("network", "grid", "intensity")}
        settings |= {"grid": asdict(self.grid), "intensity": asdict(self.intensity), "metrics": dict(metrics)}
        state = {name: value.detach().cpu().contiguous() for name, value in self.network.state_dict().items()}
        with atomic_path(path) as temporary:
            save_file(state, temporary, metadata={"direct": json.dumps(settings)})

    @classmethod
    def load(cls, path: Path, device: str = "cpu") -> "DirectRegression":
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged or something else.
        """
        network = direct_network()
        try:
            with safe_open(path, framework="pt") as file:
                settings = json.loads(file.metadata()["direct"])
                network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"{path} is not a direct-regression network ({error}); remove it, train again") from error
        grid, intensity = settings["grid"], settings["intensity"]
        return cls(
            network.eval().requires_grad_(False).to(device),
            DirectGrid(tuple(grid["sides_mm"]), grid["clip_mm"]),
            Intensity(intensity["modality"], tuple(intensity["window_hu"]), tuple(intensity["percentiles"])),
            settings["field_of_view"],
            settings["margin_mm"],
        )
