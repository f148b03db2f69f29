"""`sam3d-med phantoms` and `sam3d-med prepare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sam3d_objects.config import PhantomOptions, PrepareOptions

if TYPE_CHECKING:
    from sam3d_objects import dataset


def phantoms(out: Annotated[Path, "folder for the scans; made if it is not there"], options: PhantomOptions) -> None:
    """Make synthetic phantom scans with organ labels, for the demo.

    They are laid out as TotalSegmentator's: OUT/sXXXX/ct.nii.gz and OUT/sXXXX/segmentations/ORGAN.nii.gz.

        sam3d-med phantoms --out demo/scans --cases 24
    """
    from rich.progress import Progress

    from sam3d_objects.synthetic import write_phantoms

    with Progress() as bar:
        task = bar.add_task("synthetic phantoms", total=options.cases)
        folders = write_phantoms(
            out,
            options.cases,
            options.seed,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    print(f"{len(folders)} synthetic phantom scans in {out}")


def prepare(
    raw_nifti: Annotated[Path, "folder of scans with labels"],
    out: Annotated[Path, "folder for the prepared data set; made if it is not there"],
    options: PrepareOptions,
) -> None:
    """Turn a folder of labelled scans into a mesh data set with a split by patient.

    It reads TotalSegmentator's and the Medical Segmentation Decathlon's layouts and a plain folder of
    image/label pairs. Nothing is left out silently: what cannot be used is listed with its reason. It can be
    killed and run again; what is done stays done.

        sam3d-med prepare --raw_nifti Task04_Hippocampus --classes hippocampus=1+2 --out data/hippocampus
        sam3d-med prepare --raw_nifti Totalsegmentator --classes liver,kidney_left,kidney_right --out data/ct
    """
    from sam3d_objects.dataset import prepare as prepare_dataset

    prepare_dataset(raw_nifti, out, dataset_options(options))


def dataset_options(options: PrepareOptions) -> "dataset.PrepareOptions":
    """Say to the dataset package what the command line was told."""
    from sam3d_objects import dataset

    return dataset.PrepareOptions(
        structures=options.classes or None,
        layout=options.layout,
        modality=None if options.modality == "auto" else options.modality,
        window_hu=options.window_hu,
        percentiles=options.percentiles,
        field_of_view=options.field_of_view,
        margin_mm=options.margin_mm,
        patient_rule=options.patient_rule,
        val_fraction=options.val_fraction,
        test_fraction=options.test_fraction,
        test_source=options.test_nifti,
        seed=options.seed,
        min_voxels=options.min_voxels,
        min_extent_vox=options.min_extent_vox,
        max_part_percent=options.max_part_percent,
        keep=options.keep,
        on_error=options.on_error,
        num_workers=options.num_workers,
    )
