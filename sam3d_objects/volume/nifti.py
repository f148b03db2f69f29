"""NIfTI in and out: one file, one 3D volume, in the orientation of the file."""

import gzip
import math
import os
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
from nibabel.spatialimages import HeaderDataError

from sam3d_objects.arrays import AnyArray, FloatArray
from sam3d_objects.files import atomic_path
from sam3d_objects.volume.volume import Volume

# https://nifti.nimh.nih.gov/nifti-1 and nifti-2: the header's own size, and where its magic string stands.
_CLASSES = {
    348: (nib.Nifti1Image, slice(344, 348), b"n+1\x00"),
    540: (nib.Nifti2Image, slice(4, 8), b"n+2\x00"),
}
_MM = {"meter": 1000.0, "micron": 0.001}
_GZIP_MAGIC = b"\x1f\x8b"
WHOLE_WITHIN = 1e-3
_AGAIN = "copy or download the file again"


def read_nifti(
    path: str | os.PathLike[str], dtype: npt.DTypeLike | None = np.float32, *, allow_2d: bool = False
) -> Volume:
    """Read a .nii or .nii.gz file (compression is recognised by content) as one 3D volume.

    Voxels are scaled by the header's slope and intercept. The affine is the sform, else the qform, else
    the one of the spacing alone, as nibabel decides, brought to mm where the header says metres or microns. Axes are
    not reordered; trailing axes of length one are dropped.

    Args:
        path: the file.
        dtype: dtype of the voxels; None keeps the file's.
        allow_2d: take an image of two axes as a volume of one slice.

    Raises:
        ValueError: the file is missing, empty, truncated or not NIfTI, has more or fewer than three
            axes, zero or non-finite spacing or affine, or voxels that are not finite or do not fit
            `dtype`. The message names the file, what was expected, what was found, and what to do.
    """
    image = _open(path, _read_bytes(Path(path)))
    shape = _shape_3d(path, image.shape, allow_2d)
    voxels = _cast(path, _scaled_voxels(path, image), dtype)
    try:
        return Volume(voxels.reshape(shape), _affine_mm(image))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _affine_mm(image: nib.Nifti1Image) -> FloatArray:
    """Return voxel index -> RAS mm; a header without a unit means mm, as all tools take it."""
    unit, _ = image.header.get_xyzt_units()
    affine: FloatArray = image.affine.copy()
    affine[:3] *= _MM.get(unit, 1.0)
    return affine


def read_label(path: str | os.PathLike[str], *, allow_2d: bool = False) -> Volume:
    """Read a label map as uint8, int16 or int32, the smallest that holds its labels.

    Some tools store whole numbers with a slope, from which they come back a little off: within a thousandth of a whole
    number a voxel is that number.

    Raises:
        ValueError: as `read_nifti`, and where a voxel is not a whole number (the message gives one).
    """
    volume = read_nifti(path, dtype=None, allow_2d=allow_2d)
    voxels = volume.voxels
    if voxels.dtype.kind == "f":
        whole = np.rint(voxels)
        fractional = np.abs(voxels - whole) > WHOLE_WITHIN
        if fractional.any():
            raise ValueError(
                f"{path}: expected a label map of whole numbers, found {fractional.sum()} voxels such as "
                f"{voxels[fractional][0]:.6g}; give the label map, not the scan (resample labels with order 0)"
            )
        voxels = whole
    low, high = voxels.min(), voxels.max()
    for dtype in (np.uint8, np.int16, np.int32):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return volume.with_voxels(voxels.astype(dtype))
    raise ValueError(f"{path}: expected labels that fit 32 bits, found {low} to {high}; renumber the labels")


def write_nifti(path: str | os.PathLike[str], volume: Volume, dtype: npt.DTypeLike | None = None) -> None:
    """Write a volume as NIfTI-1 (gzipped if the name ends in .gz), whole or not at all.

    The same volume always gives the same bytes. The affine is stored as sform and qform, in float32.

    Args:
        path: ends in .nii or .nii.gz.
        volume: any real or bool dtype; bool is stored as uint8 and float16 as float32.
        dtype: dtype in the file; by default the volume's.

    Raises:
        ValueError: another suffix, or voxels that do not fit `dtype`.
        OSError: the file cannot be written; the message names it.
    """
    target = Path(path)
    if not target.name.endswith((".nii", ".nii.gz")):
        raise ValueError(f"{target}: expected a name that ends in .nii or .nii.gz")
    stored = np.dtype(dtype) if dtype is not None else _storable(volume.voxels.dtype)
    image = nib.Nifti1Image(_cast(target, volume.voxels, stored), volume.affine, dtype=stored)
    # Other software may read either of the two: both say the same.
    image.set_sform(volume.affine, code="scanner")
    image.set_qform(volume.affine, code="scanner")
    image.header.set_xyzt_units("mm")
    raw = image.to_bytes()
    # mtime=0: the same voxels give the same file. Level 1, as nibabel: higher levels take minutes on a CT.
    with atomic_path(target) as temporary:
        temporary.write_bytes(gzip.compress(raw, compresslevel=1, mtime=0) if target.suffix == ".gz" else raw)


def _read_bytes(path: Path) -> bytes:
    """Return a file's bytes, unpacked, so that a cut or damaged archive is noticed wherever it is damaged."""
    if not path.is_file():
        raise ValueError(
            f"{path}: expected a NIfTI file, found {'a folder' if path.is_dir() else 'no such file'}"
        )
    raw = path.read_bytes()
    if not raw:
        raise ValueError(f"{path}: expected a NIfTI file, found an empty file (0 bytes); {_AGAIN}")
    # By content: scans are often unpacked, or packed, without being renamed.
    if raw[:2] == _GZIP_MAGIC:
        try:
            raw = gzip.decompress(raw)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path}: truncated or damaged gzip file: {error}; {_AGAIN}") from error
    elif path.suffix == ".gz":
        raise ValueError(
            f"{path}: expected a gzip file, found first bytes {raw[:8].hex(' ')}; {_AGAIN}, "
            "or rename it to .nii"
        )
    return raw


def _open(path: str | os.PathLike[str], raw: bytes) -> nib.Nifti1Image:
    """Return the image of a file's bytes, after a look at what nibabel would mend or trip over."""
    size = _header_size(raw)
    if size not in _CLASSES and len(raw) >= 4:
        raise _not_nifti(path, raw)
    if len(raw) < max(4, size):
        raise ValueError(
            f"{path}: truncated: expected a header of {size or 348} bytes, found {len(raw)}; {_AGAIN}"
        )
    image_class, magic_at, magic = _CLASSES[size]
    if raw[magic_at] != magic:
        raise _not_nifti(path, raw)
    header = image_class.header_class(raw[:size], check=False)
    _check_spacing(path, header)
    try:
        image = image_class.from_bytes(raw)
    except (HeaderDataError, ValueError) as error:
        raise ValueError(
            f"{path}: expected a valid NIfTI header, found: {error}; correct the header"
        ) from error
    # nibabel would allocate what a damaged header asks for before it finds the file too short.
    expected = int(header.get_data_offset()) + math.prod(image.shape) * header.get_data_dtype().itemsize
    if len(raw) < expected:
        raise ValueError(
            f"{path}: truncated: expected {expected} bytes for voxels of shape {image.shape} "
            f"({image.get_data_dtype()}), found {len(raw)}; {_AGAIN}"
        )
    return image


def _header_size(raw: bytes) -> int:
    """Return the header size that the file states, in the byte order that makes it one of NIfTI's."""
    little, big = (int.from_bytes(raw[:4], order) for order in ("little", "big"))
    return big if big in _CLASSES else little


def _not_nifti(path: str | os.PathLike[str], raw: bytes) -> ValueError:
    return ValueError(
        f"{path}: expected a single-file NIfTI image (.nii or .nii.gz), found another format "
        f"(first bytes {raw[:8].hex(' ')}); convert it to NIfTI"
    )


def _check_spacing(path: str | os.PathLike[str], header: nib.Nifti1Header) -> None:
    """Look at the spacing before nibabel does, which replaces a zero by one."""
    # The header is not checked yet, so its number of axes may be nonsense too.
    axes = min(3, max(1, int(header["dim"][0])))
    spacing_mm = header["pixdim"][1 : 1 + axes].astype(float)
    if not np.isfinite(spacing_mm).all() or (spacing_mm == 0).any():
        raise ValueError(
            f"{path}: expected finite, non-zero voxel spacing, found {spacing_mm.tolist()} mm; "
            "correct the header"
        )


def _shape_3d(path: str | os.PathLike[str], shape: tuple[int, ...], allow_2d: bool) -> tuple[int, int, int]:
    """Return a file's shape without trailing axes of length one beyond the third."""
    axes = list(shape)
    while len(axes) > 3 and axes[-1] == 1:
        axes.pop()
    if allow_2d and len(axes) == 2:
        axes.append(1)
    if len(axes) != 3 or 0 in axes:
        raise ValueError(
            f"{path}: expected a 3D volume, found shape {tuple(shape)}; give one 3D volume a file"
            + (" (split a series into its volumes)" if len(axes) > 3 else "")
        )
    return axes[0], axes[1], axes[2]


def _scaled_voxels(path: str | os.PathLike[str], image: nib.Nifti1Image) -> AnyArray:
    """Return an image's voxels times slope plus intercept, all of them real and finite."""
    if image.get_data_dtype().kind not in "iuf":
        raise ValueError(
            f"{path}: expected one real number for each voxel, found dtype {image.get_data_dtype()}; "
            "export the scan as a scalar image"
        )
    voxels = np.asanyarray(image.dataobj)
    bad = 0 if voxels.dtype.kind in "iu" else int((~np.isfinite(voxels)).sum())
    if bad:
        raise ValueError(
            f"{path}: expected finite voxels, found {bad} NaN or infinite ones; "
            "replace them by a background value"
        )
    return voxels


def _cast(path: str | os.PathLike[str], voxels: AnyArray, dtype: npt.DTypeLike | None) -> AnyArray:
    """Cast voxels, to the machine's byte order for None.

    Raises:
        ValueError: a value does not fit; it is never wrapped, rounded to an integer, or made infinite.
    """
    target = voxels.dtype.newbyteorder("=") if dtype is None else np.dtype(dtype)
    if target.kind in "iuf" and voxels.dtype.kind != "b":
        limits = np.iinfo(target) if target.kind in "iu" else np.finfo(target)
        low, high = voxels.min(), voxels.max()
        whole = target.kind == "f" or voxels.dtype.kind in "iu" or bool((voxels == np.rint(voxels)).all())
        if low < limits.min or high > limits.max or not whole:
            raise ValueError(
                f"{path}: expected voxels that {target} can hold, found {voxels.dtype} from {low} to {high}"
                f"{'' if whole else ' with fractions'}; choose another dtype"
            )
    return voxels.astype(target, copy=False)


def _storable(dtype: np.dtype) -> np.dtype:
    special = {"bool": np.uint8, "float16": np.float32, "int64": np.int32, "uint64": np.uint32}
    return np.dtype(special.get(dtype.name, dtype))
