"""`sam3d-med reconstruct`: one slice with the organ marked becomes a mesh in patient millimetres."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sam3d_objects.config import ReconstructOptions
from sam3d_objects.files import write_json

if TYPE_CHECKING:
    from sam3d_objects.adapter import InferenceContract
    from sam3d_objects.reconstruct import Prediction, Reconstructor
    from sam3d_objects.volume import Volume

FAILURES_FILE = "failures.json"
SPREAD = "spread_mm"


def reconstruct(
    checkpoint: Annotated[Path, "adapter folder, or a set of them (such as runs/hippocampus/best)"],
    out: Annotated[Path, "folder for the meshes; made if it is not there"],
    options: ReconstructOptions,
    image: Annotated[Path | None, "a volume (NIfTI), or one slice: .nii.gz of one slice, .npz, .png"] = None,
    label: Annotated[Path | None, "labels of the volume; --classes says which are the organ"] = None,
    mask: Annotated[Path | None, "instead of --label: every voxel that is not 0 is the organ"] = None,
    classes: Annotated[str, "with --label: the organ's label, or a union such as 1+2"] = "",
    plane: Annotated[str | None, "axial, coronal or sagittal (a volume, or a .png)"] = None,
    slice_index: Annotated[int | None, "voxel index of the slice along the plane's axis, from 0"] = None,
    slices: Annotated[Path | None, "a folder of single slices; a mesh for each"] = None,
    spacing_mm: Annotated[tuple[float, ...], ".png: side of a pixel in mm, or row and column spacing"] = (),
) -> None:
    """Turn one slice with the organ marked into the whole organ's surface.

    From a volume: writes OUT/IMAGE.stl and .ply in patient millimetres (LPS, as 3D Slicer expects; --space RAS for the
    other) and OUT/IMAGE_mask.nii.gz on the volume's own grid. The .ply (and .vtk, .glb: --formats) has at each vertex
    `spread_mm`: how far from there the samples' surfaces run, which is what the slice could not say. Open the scan, the
    mask and the mesh in 3D Slicer: they lie on top of each other.

        sam3d-med reconstruct --checkpoint runs/hippocampus/best --image scan.nii.gz --label labels.nii.gz \\
            --classes 1+2 --plane sagittal --slice_index 17 --out mesh

    From one slice alone, or a folder of them: X.nii.gz with X_mask.nii.gz, X.npz with `image`, `mask` and `affine`
    (4x4, pixel (row, col, 0) -> RAS mm), or X.png with X_mask.png (the mesh is then in mm of the image's frame).

        sam3d-med reconstruct --checkpoint runs/hippocampus/best --image X.png --plane axial --spacing_mm 0.8 --out mesh
        sam3d-med reconstruct --checkpoint runs/hippocampus/best --slices slices --out meshes

    Research use, not for diagnosis.
    """
    if (image is None) == (slices is None):
        raise ValueError("give either --image (a volume or one slice) or --slices (a folder of slices)")
    volume_flags = {"--label": label, "--slice_index": slice_index, "--mask": mask, "--classes": classes or None}
    if slices is not None:
        _refuse(volume_flags, "--slices (each slice has its mask beside it)")
        _Job(checkpoint, out, options).folder(slices, spacing_mm, plane)
        return
    assert image is not None
    if slice_index is None:
        if mask is not None and _is_beside(mask, image):
            del volume_flags["--mask"]
        _refuse(volume_flags, "one slice alone (its mask lies beside it); for a volume add --slice_index")
        _Job(checkpoint, out, options).one_slice(image, spacing_mm, plane)
        return
    if plane is None:
        raise ValueError("a volume needs --plane: axial, coronal or sagittal")
    written = _mask_path(out, image)
    if any(path is not None and path.resolve() == written.resolve() for path in (image, label, mask)):
        raise ValueError(f"the predicted mask would overwrite {written}, which was given; choose another --out")
    scan, organ = read_volume(image, label, mask, classes)
    _Job(checkpoint, out, options).volume(image, scan, organ, plane, slice_index)


def read_volume(image: Path, label: Path | None, mask: Path | None, classes: str) -> tuple["Volume", "Volume"]:
    """Read a scan and the organ's voxels (bool), on one grid.

    Raises:
        ValueError: not exactly one of label and mask, files that cannot be read, two grids, or a label value
            that is not there.
    """
    from sam3d_objects.volume import check_same_grid, read_label, read_nifti

    if (label is None) == (mask is None):
        raise ValueError("a volume needs --label (with --classes) or --mask, and not both")
    scan = read_nifti(image)
    path = label or mask
    assert path is not None
    marked = read_label(path)
    check_same_grid(scan, marked, f"{image} and {path}")
    if label is None:
        return scan, marked.with_voxels(marked.voxels != 0)
    return scan, _union(marked, classes, label)


def _union(marked: "Volume", classes: str, path: Path) -> "Volume":
    import numpy as np

    from sam3d_objects.dataset.structures import parse_structures

    present = [int(value) for value in np.unique(marked.voxels) if value != 0]
    if not classes and len(present) > 1:
        raise ValueError(f"{path} has the labels {present}; say with --classes which are the organ, e.g. 1+2")
    if not classes:
        return marked.with_voxels(marked.voxels != 0)
    structures = parse_structures(classes)
    if len(structures) > 1:
        raise ValueError(f"--classes {classes}: one organ at a time; a union is written 1+2")
    terms = structures[0].terms
    missing = [term for term in terms if not term.isdigit() or int(term) not in present]
    if missing:
        raise ValueError(f"{path} has no label {', '.join(missing)}; it has {present}")
    return marked.with_voxels(np.isin(marked.voxels, [int(term) for term in terms]))


def _mask_path(out: Path, image: Path) -> Path:
    """Where the predicted mask of a volume goes."""
    from sam3d_objects.volume import slice_stem

    return out / f"{slice_stem(image)}_mask.nii.gz"


def _is_beside(mask: Path, image: Path) -> bool:
    from sam3d_objects.volume import slice_stem

    stem = f"{slice_stem(image)}_mask"
    return mask.resolve().parent == image.resolve().parent and mask.name.split(".")[0] == stem


def _refuse(flags: Mapping[str, object], what: str) -> None:
    given = [flag for flag, value in flags.items() if value is not None]
    if given:
        raise ValueError(f"{' '.join(given)} cannot be given with {what}")


@dataclass(frozen=True)
class _Job:
    """An adapter and where its meshes go."""

    checkpoint: Path
    out: Path
    options: ReconstructOptions

    def volume(self, path: Path, scan: "Volume", organ: "Volume", plane: str, index: int) -> None:
        """One slice of a volume: meshes in patient mm, and a mask on the volume's own grid."""
        from sam3d_objects.mesh import export_mask
        from sam3d_objects.volume import quantile_summary, slice_input, slice_stem

        slice = slice_input(scan, organ, plane, index)
        reconstruct_slice, contract = self._reconstructor()
        if contract.field_of_view == "scan":
            # As in training, where the percentiles are the whole volume's.
            slice = replace(slice, reference=quantile_summary(scan.voxels))
        predicted = reconstruct_slice.predict(slice, self.options.seed)
        self._export(slice_stem(path), predicted, self.options.space)
        written = _mask_path(self.out, path)
        marked = export_mask(written, predicted.mesh, scan)
        marked_ml = int(marked.voxels.sum()) * marked.voxel_volume_mm3 / 1000
        print(f"{written}: {marked_ml:.2f} ml on the grid of {path}")

    def one_slice(self, path: Path, spacing_mm: Sequence[float], plane: str | None) -> None:
        """One slice alone."""
        self._slice(path, spacing_mm, plane, *self._reconstructor())

    def folder(self, folder: Path, spacing_mm: Sequence[float], plane: str | None) -> None:
        """A folder of single slices; what fails is listed in failures.json, and the rest is done.

        Raises:
            ValueError: the folder has no slices, or some failed (when all others are done).
        """
        from sam3d_objects.volume import list_slices

        paths = list_slices(folder)
        loaded = self._reconstructor()
        failures: dict[str, str] = {}
        for number, path in enumerate(paths, start=1):
            try:
                self._slice(path, spacing_mm, plane, *loaded)
            except ValueError as error:
                failures[path.name] = str(error)
                print(f"{path.name}: FAILED: {error}")
            print(f"{number} of {len(paths)} slices, {len(failures)} failed")
        write_json(self.out / FAILURES_FILE, failures)
        if failures:
            listed = self.out / FAILURES_FILE
            raise ValueError(f"{len(failures)} of {len(paths)} slices failed; {listed} says why")

    def _slice(
        self,
        path: Path,
        spacing_mm: Sequence[float],
        plane: str | None,
        reconstruct_slice: "Reconstructor",
        contract: "InferenceContract",
    ) -> None:
        from sam3d_objects.volume import read_slice, slice_stem

        # A picture's grey levels stand for the window that it was saved with.
        window_hu = contract.window_hu if contract.modality == "ct" else None
        slice = read_slice(path, tuple(spacing_mm) or None, plane, window_hu=window_hu)
        predicted = reconstruct_slice.predict(slice, self.options.seed)
        is_picture = path.suffix.lower() == ".png"
        if is_picture:
            predicted = replace(predicted, mesh=predicted.mesh.transformed(slice.plane.image_frame))
        self._export(slice_stem(path), predicted, "image" if is_picture else self.options.space)

    def _reconstructor(self) -> "tuple[Reconstructor, InferenceContract]":
        from sam3d_objects.reconstruct import Reconstructor

        from .choice import sampling_line
        from .models import chosen_adapters, load_adapted

        model, contract = load_adapted(self.checkpoint, self.options)
        print(f"{self.checkpoint}: {sampling_line(chosen_adapters(self.checkpoint, self.options), contract)}")
        return Reconstructor(model, contract, self.options.stages), contract

    def _export(self, stem: str, predicted: "Prediction", space: str) -> None:
        from sam3d_objects.mesh import export_mesh

        mesh, spread = predicted.mesh, predicted.spread_mm
        for name in self.options.formats:
            export_mesh(self.out / f"{stem}.{name}", mesh, space, {} if spread is None else {SPREAD: spread})
        size = " x ".join(f"{side:.1f}" for side in mesh.bounds[1] - mesh.bounds[0])
        frame = "the image's frame" if space == "image" else f"patient {space}"
        files = ", ".join(f".{name}" for name in self.options.formats)
        print(f"{self.out / stem}{files}: {len(mesh.faces)} faces, {size} mm, in {frame}")
        if spread is None:
            print("  no spread: it takes two samples (--samples 8) to say how unsure the surface is")
        else:
            print(f"  the samples' surfaces run {spread.mean():.1f} mm from it on average, {spread.max():.1f} at most")
