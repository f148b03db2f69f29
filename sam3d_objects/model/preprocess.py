"""From an image, a mask and a pointmap to the six inputs of the condition embedder.

Letters: Y, X image rows and columns; S the network's input side. Images are float in [0, 1], masks float 0 or 1, and
pointmaps are in the camera's frame (PyTorch3D's axes), NaN where unknown.
"""

from typing import NamedTuple

import torch
from torch import Tensor

BOX_FACTOR = 1.2


class PointmapStatistics(NamedTuple):
    """What normalises a pointmap: `shift` (3,) in its unit, `scale` (a float in its unit)."""

    shift: Tensor
    scale: float


def pointmap_statistics(pointmap: Tensor, mask: Tensor) -> PointmapStatistics:
    """Measure a pointmap (3, Y, X) with an object mask (1, y, x).

    The shift is the per-axis median of the masked points; the scale is the median over all points of
    max |p - shift|. Both are lower medians and ignore NaN. The mask is resized to the pointmap by nearest.

    Raises:
        ValueError: no masked point is finite, or all points coincide.
    """
    resized = _resize(mask.float(), pointmap.shape[-2:], "nearest") > 0.5
    inside = pointmap.flatten(1)[:, resized.flatten()]
    shift = inside.nanmedian(dim=1).values if inside.shape[1] else inside.new_full((3,), torch.nan)
    if not shift.isfinite().all():
        raise ValueError(f"the mask covers {inside.shape[1]} points, none of them finite: is the mask inside the scan?")
    extent = (pointmap.flatten(1) - shift[:, None]).abs().amax(dim=0)
    scale = float(extent.nanmedian())
    if not scale > 0:
        raise ValueError(f"the pointmap's median extent must be positive, got {scale}: do all points coincide?")
    return PointmapStatistics(shift, scale)


def normalise_pointmap(pointmap: Tensor, statistics: PointmapStatistics) -> Tensor:
    """Return (p - shift) / scale for a pointmap (3, Y, X)."""
    return (pointmap - statistics.shift[:, None, None]) / statistics.scale


def mask_box(mask: Tensor, factor: float = BOX_FACTOR) -> tuple[int, int, int, int]:
    """Return the square box (x0, y0, x1, y1) around a mask (1, Y, X), `factor` times its larger side.

    Raises:
        ValueError: the mask is empty.
    """
    rows, columns = torch.where(mask[0] > 0)
    if rows.numel() == 0:
        raise ValueError(f"the mask of shape {tuple(mask.shape)} is empty; mark the organ on the slice")
    y0, y1, x0, x1 = (float(v) for v in (rows.min(), rows.max(), columns.min(), columns.max()))
    side = factor * max(x1 - x0, y1 - y0)
    center_x, center_y = (x0 + x1) / 2, (y0 + y1) / 2
    box = center_x - side / 2, center_y - side / 2, center_x + side / 2, center_y + side / 2
    left, top, right, bottom = (int(v) for v in box)
    # A mask of one pixel has no extent; it still needs one pixel to look at.
    return left, top, max(right, left + 1), max(bottom, top + 1)


def crop(image: Tensor, box: tuple[int, int, int, int]) -> Tensor:
    """Cut a box (x0, y0, x1, y1) from an image (C, Y, X); what lies outside is 0."""
    x0, y0, x1, y1 = box
    rows, columns = image.shape[-2:]
    inside = image[:, max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    pad = (max(-x0, 0), max(x1 - columns, 0), max(-y0, 0), max(y1 - rows, 0))
    return torch.nn.functional.pad(inside, pad)


def pad_to_square(image: Tensor) -> Tensor:
    """Pad (C, Y, X) with 0 to a square; the smaller half of an odd padding comes first."""
    rows, columns = image.shape[-2:]
    extra_x, extra_y = max(rows - columns, 0), max(columns - rows, 0)
    pad = (extra_x // 2, extra_x - extra_x // 2, extra_y // 2, extra_y - extra_y // 2)
    return torch.nn.functional.pad(image, pad)


def resize_pointmap(pointmap: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (3, Y, X) bilinearly, NaN counted as 0 and restored where a nearest resize has NaN."""
    if tuple(pointmap.shape[-2:]) == tuple(size):
        return pointmap
    smooth = _resize(torch.where(pointmap.isnan(), 0.0, pointmap), size, "bilinear")
    return torch.where(_resize(pointmap, size, "nearest").isnan(), torch.nan, smooth)


def condition_inputs(
    image: Tensor, mask: Tensor, pointmap: Tensor | None, size: int, scene_scale: float = 0.0
) -> tuple[dict[str, Tensor], PointmapStatistics | None]:
    """Prepare the embedder's inputs.

    Args:
        image: (3, Y, X); mask: (1, Y, X); pointmap: (3, y, x) or None (the latent stage takes none).
        size: S, the side of each result.
        scene_scale: what is 1 in the prepared pointmap, in its unit; 0 measures it in each pointmap, as the release
            does, so that the network can't tell a small picture from a large one.

    Returns:
        `image`, `rgb_image` (3, S, S), `mask`, `rgb_image_mask` (1, S, S) and, with a pointmap, `pointmap`,
        `rgb_pointmap` (3, S, S); the plain names are cropped around the mask, the rgb_ ones show all. With the
        pointmap's statistics.
    """
    box = mask_box(mask)
    inputs = {
        "image": _finish(crop(image, box), size, "bilinear"),
        "rgb_image": _finish(image, size, "bilinear"),
        "mask": _finish(crop(mask, box), size, "nearest"),
        "rgb_image_mask": _finish(mask, size, "nearest"),
    }
    if pointmap is None:
        return inputs, None
    statistics = pointmap_statistics(pointmap, mask)
    if scene_scale:
        statistics = statistics._replace(scale=scene_scale)
    normalised = normalise_pointmap(pointmap, statistics)
    at_image = resize_pointmap(normalised, (image.shape[-2], image.shape[-1]))
    inputs["pointmap"] = _finish(crop(at_image, box), size, "nearest")
    inputs["rgb_pointmap"] = _finish(normalised, size, "nearest")
    return inputs, statistics


def _finish(image: Tensor, size: int, mode: str) -> Tensor:
    """Pad to square, then resize to (C, size, size); bilinear is antialiased."""
    return _resize(pad_to_square(image), (size, size), mode, antialias=mode == "bilinear")


def _resize(image: Tensor, size: tuple[int, int] | torch.Size, mode: str, antialias: bool = False) -> Tensor:
    corners = {"align_corners": False} if mode == "bilinear" else {}
    return torch.nn.functional.interpolate(image[None], size=tuple(size), mode=mode, antialias=antialias, **corners)[0]
