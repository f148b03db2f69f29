"""Single slices as people have them: NIfTI with its mask, .npz with an affine, or PNG with a spacing."""

import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sam3d_objects.arrays import FloatArray
from sam3d_objects.files import nearest
from sam3d_objects.volume.nifti import read_label, read_nifti
from sam3d_objects.volume.orientation import nearest_axes
from sam3d_objects.volume.planes import DISPLAY, PLANES, SlicePlane
from sam3d_objects.volume.slice_input import SliceInput, slice_input
from sam3d_objects.volume.volume import Volume, check_same_grid

SUFFIXES = (".nii.gz", ".nii", ".npz", ".png")
_NPZ_KEYS = ("image", "mask", "affine")


def read_slice(
    path: str | os.PathLike[str],
    spacing_mm: float | Sequence[float] | None = None,
    plane: str | None = None,
    *,
    window_hu: tuple[float, float] | None = None,
) -> SliceInput:
    """Read one slice and its mask.

    NIfTI: `X.nii.gz` and `X_mask.nii.gz` (or .nii), with exactly one axis of length one. `.npz`: arrays
    `image` and `mask` (rows, cols) and `affine` (4, 4), pixel (row, col, 0, 1) -> RAS mm, of which the
    third column is not used. In both the plane is the one nearest to the affine's and pixels are flipped
    or transposed to its radiological display, which changes no pixel's place in the patient;
    `spacing_mm` and `plane` are not used. PNG: `X.png` and `X_mask.png`, taken to be in radiological
    display of `plane`, and pixel (0, 0) to lie at the origin; the returned `plane.image_frame` leads to
    image-frame mm. Colours become grey levels; every mask pixel that is not zero belongs to the organ.

    Args:
        path: the image (for NIfTI and PNG not the mask).
        spacing_mm: PNG only, and needed: side of a pixel, or (row, col) spacing.
        plane: PNG only, and needed: 'axial', 'coronal' or 'sagittal'.
        window_hu: PNG only: the HU window that black (0) to white (the bit depth's largest level) stand
            for, where the network expects HU; without it intensities are the grey levels.

    Raises:
        ValueError: a missing, damaged or unknown file, no mask beside it, arrays that do not fit each
            other, an affine that is not one, an empty mask, or a PNG without spacing or plane. The
            message names the file.
    """
    image_path = Path(path)
    suffix = _suffix(image_path)
    if not image_path.is_file():
        raise ValueError(f"{image_path}: expected a slice file, found no such file")
    try:
        if suffix == ".png":
            return _read_png(image_path, spacing_mm, plane, window_hu)
        image, mask = _read_npz(image_path) if suffix == ".npz" else _read_nifti_pair(image_path)
        return slice_input(image, mask, _plane_name(image), 0)
    except ValueError as error:
        if str(image_path) in str(error) or str(_mask_path(image_path)) in str(error):
            raise
        raise ValueError(f"{image_path}: {error}") from error


def list_slices(folder: str | os.PathLike[str]) -> list[Path]:
    """Return the slice files of a folder (no masks), sorted by name.

    Raises:
        ValueError: there is no such folder, it holds no slice, or two slices share a stem (their meshes
            would share a name).
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"{root}: expected a folder of slices, found no such folder")
    slices = [path for path in sorted(root.iterdir()) if path.is_file() and _is_slice(path)]
    if not slices:
        raise ValueError(f"{root}: expected slices ({', '.join(SUFFIXES)} beside their _mask), found none")
    stems = [slice_stem(path) for path in slices]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise ValueError(
            f"{root}: expected one slice for each name, found several of {', '.join(twice)}; rename"
        )
    return slices


def slice_stem(path: str | os.PathLike[str]) -> str:
    """Return a slice file's name without its suffix (both of them for .nii.gz)."""
    return Path(path).name[: -len(_suffix(Path(path)))]


def _suffix(path: Path) -> str:
    for suffix in SUFFIXES:
        if path.name.lower().endswith(suffix):
            return suffix
    raise ValueError(f"{path}: expected a slice file that ends in {', '.join(SUFFIXES)}")


def _is_slice(path: Path) -> bool:
    if path.name.startswith(".") or not path.name.lower().endswith(SUFFIXES):
        return False
    return _suffix(path) == ".npz" or not slice_stem(path).endswith("_mask")


def _mask_path(path: Path) -> Path:
    """Return where the mask of an image lies: the same name with `_mask`, .nii and .nii.gz being alike."""
    suffix = _suffix(path)
    alike = [suffix, *(s for s in (".nii.gz", ".nii") if suffix.startswith(".nii"))]
    candidates = [path.with_name(f"{slice_stem(path)}_mask{s}") for s in alike]
    return next((candidate for candidate in candidates if candidate.is_file()), candidates[0])


def _existing_mask_path(path: Path) -> Path:
    mask_path = _mask_path(path)
    if not mask_path.is_file():
        raise ValueError(f"{path}: expected its mask beside it, {mask_path.name}, found no such file")
    return mask_path


def _read_nifti_pair(path: Path) -> tuple[Volume, Volume]:
    mask_path = _existing_mask_path(path)
    image, mask = read_nifti(path, allow_2d=True), read_label(mask_path, allow_2d=True)
    check_same_grid(image, mask, f"{path} and {mask_path.name}")
    return image, mask


def _plane_name(image: Volume) -> str:
    """Return the plane of a volume of one slice: the one whose through-plane axis has length one."""
    if image.shape.count(1) != 1:
        raise ValueError(
            f"expected one slice (exactly one axis of length 1), found shape {image.shape}; for a volume "
            "give the image, its label, a plane and a slice index"
        )
    axes, _ = nearest_axes(image.affine)
    across = axes.index(image.shape.index(1))
    return next(name for name in PLANES if DISPLAY[name][2] == across)


def _read_npz(path: Path) -> tuple[Volume, Volume]:
    """Return image and mask as volumes of one slice: axes row, col, and one across of length one."""
    try:
        with open(path, "rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            arrays = dict(archive) if isinstance(archive, np.lib.npyio.NpzFile) else {}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"{path}: expected a whole .npz file of plain arrays, found: {error}") from error
    if not set(_NPZ_KEYS) <= set(arrays):
        raise ValueError(
            f"expected an .npz file with {', '.join(_NPZ_KEYS)}, found {', '.join(arrays) or 'none of them'}"
        )
    image, mask, affine = (arrays[key] for key in _NPZ_KEYS)
    if image.ndim != 2 or image.shape != mask.shape:
        raise ValueError(
            f"expected image and mask of one shape (rows, cols), got {image.shape} and {mask.shape}"
        )
    if affine.shape != (4, 4):
        raise ValueError(f"expected a 4x4 affine, pixel (row, col, 0, 1) -> RAS mm, got shape {affine.shape}")
    for name, values in (("image", image), ("mask", mask), ("affine", affine)):
        if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
            raise ValueError(f"expected finite real numbers in {name}, got NaN, infinity or {values.dtype}")
    # A slice plane sets the third column, so a volume of one slice can be made of it, and then displayed.
    plane = SlicePlane("npz", affine, (image.shape[0], image.shape[1]))
    scan = Volume(image[..., None].astype(np.float32), plane.affine)
    return scan, scan.with_voxels(mask[..., None] != 0)


def _read_png(
    path: Path,
    spacing_mm: float | Sequence[float] | None,
    plane: str | None,
    window_hu: tuple[float, float] | None,
) -> SliceInput:
    mask_path = _existing_mask_path(path)
    if spacing_mm is None or plane is None:
        raise ValueError(f"{path}: a PNG tells neither its spacing nor its plane; give spacing_mm and plane")
    if plane not in PLANES:
        raise ValueError(f"expected a plane of {', '.join(PLANES)}, got {plane!r}.{nearest(plane, PLANES)}")
    image, white = _grey_levels(path)
    mask, _ = _grey_levels(mask_path)
    if image.shape != mask.shape:
        raise ValueError(
            f"{path}: expected a mask of shape {image.shape} (rows, cols), got {mask.shape} "
            f"in {mask_path.name}"
        )
    if window_hu is not None:
        low, high = window_hu
        image = low + image / white * (high - low)
    affine = _image_affine(plane, spacing_mm)
    shape = (image.shape[0], image.shape[1])
    return SliceInput(image, mask != 0, SlicePlane(plane, affine, shape, 0), np.ones(shape, dtype=bool))


def _grey_levels(path: Path) -> tuple[FloatArray, int]:
    """Return the grey levels (rows, cols) float32 of a PNG, and the level of white; what is transparent is black."""
    from PIL import Image  # here, because few commands read pictures

    try:
        with Image.open(path, formats=["PNG"]) as picture:
            deep = picture.mode.startswith("I")
            levels = np.asarray(picture if deep else picture.convert("L"))
            if not deep and ("A" in picture.getbands() or "transparency" in picture.info):
                levels = np.where(np.asarray(picture.convert("RGBA"))[..., 3] > 0, levels, 0)
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(f"{path}: expected a whole PNG image, found: {error}") from error
    return levels.astype(np.float32), 65535 if deep else 255


def _image_affine(plane: str, spacing_mm: float | Sequence[float]) -> FloatArray:
    """Return pixel -> mm for a slice of unknown place: radiological display, pixel (0, 0) at the origin."""
    values = np.asarray(spacing_mm, dtype=np.float64).ravel()
    if values.size not in (1, 2) or not np.isfinite(values).all() or (values <= 0).any():
        raise ValueError(f"expected spacing_mm as one or two numbers (row, col) above zero, got {spacing_mm}")
    row_mm, col_mm = np.broadcast_to(values, (2,))
    left, up, _ = DISPLAY[plane]
    affine = np.eye(4)
    affine[:3, 0] = -row_mm * np.eye(3)[up]
    affine[:3, 1] = -col_mm * np.eye(3)[left]
    return affine
