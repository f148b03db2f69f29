"""`sam3d-med eval` and `sam3d-med report`: what an adapter is worth, beside what a user would try instead."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sam3d_objects.config import SLICE3D, EvaluateOptions
from sam3d_objects.config.evaluate import BASELINE_SYSTEMS

from .organs import organ_names, organs_in_splits

if TYPE_CHECKING:
    from sam3d_objects.adapter import AdapterSet, InferenceContract
    from sam3d_objects.dataset import Manifest
    from sam3d_objects.evaluation import Row

# Merged and adapted draw the same samples; their scores may differ by rounding only.
DICE_TOLERANCE = 1e-3

OTHER_DATA = (
    "the adapter was trained on another data set, preparation or fold than it is judged on: whether it has seen some "
    "of these patients is not known"
)


def evaluate(
    checkpoint: Annotated[Path, "adapter folder, or a set of them (such as runs/hippocampus/best)"],
    data_root: Annotated[Path, "prepared data set (from `sam3d-med prepare`)"],
    options: EvaluateOptions,
    eval_dir: Annotated[Path, "folder for rows, summaries and pictures [runs/evaluation]"] = Path("runs/evaluation"),
) -> None:
    """Score an adapter on patients that it has not seen, beside the base model and simple methods.

    For each organ and plane: the largest slice and a random one. Patient millimetres, no alignment to the truth;
    a failed case counts as the worst. It proves that the merged model equals the adapted one. A killed evaluation
    goes on where it was.

        sam3d-med eval --checkpoint runs/hippocampus/best --data_root data/hippocampus

    What sampling and fitting add, and what no method can pass:

        sam3d-med eval --checkpoint runs/hippocampus/best --data_root data/hippocampus \\
            --systems base,adapted,adapted_k1,adapted_nofit,pca_shape,ceiling_mesh,ceiling_encode

    Research use, not for diagnosis.
    """
    evaluate_adapter(checkpoint, data_root, eval_dir, options)
    print(pooled_table(eval_dir))


def report(eval_dir: Annotated[Path, "folder of an evaluation"]) -> None:
    """Make report.html and report.md of an evaluation.

    sam3d-med report --eval_dir runs/evaluation
    """
    write_reports(eval_dir)


def evaluate_adapter(checkpoint: Path, data_root: Path, out: Path, options: EvaluateOptions) -> None:
    """Judge the systems on the data set's patients and write rows.csv, summary.json and summary.md into `out`.

    Raises:
        ValueError: the adapter is damaged, of another base, or not for data like these; the merged model
            differs from the adapted one.
    """
    from sam3d_objects.dataset import Manifest
    from sam3d_objects.evaluation import SummaryOptions, prepared_cases
    from sam3d_objects.evaluation.protocols import middle_cases

    from .choice import sampling_line
    from .evaluation_run import Judging, keep_history, worker_count
    from .merging import merge_difference
    from .models import load_models
    from .protocol import eight_bit_contract
    from .systems import evaluated_systems

    manifest = Manifest.load(data_root)
    models = load_models(options.base, checkpoint, options)
    check_fits(models.adapters.contract, manifest)
    same_data = trained_on(models.adapters, manifest)
    if not same_data:
        print(f"CAUTION: {OTHER_DATA}")
    workers = worker_count(models, options)
    organs = _organs(manifest, options)
    if options.protocol == SLICE3D:
        models = dataclasses.replace(models, contract=eight_bit_contract(models.contract))
        cases = middle_cases(data_root, organs, options.split)
    else:
        cases = prepared_cases(data_root, organs, options.seed, options.split)
    first = cases[0].load()
    apart = merge_difference(models, first.slice, first.truth.mesh)
    notes = (
        f"adapter: {checkpoint} ({', '.join(models.adapters.stages)}), trained on {', '.join(models.adapters.organs)}; "
        f"base model: {models.base.name}",
        f"patients: the {options.split} split of {data_root}; what is seen: {_field_of_view(manifest, options)}",
        *(() if same_data else (OTHER_DATA,)),
        f"sampling: {sampling_line(models.adapters, models.contract)}; stages {options.stages}",
        f"merged equals adapted: outputs differ by {apart:.1e} of the largest (at most 1e-5)",
        *(f"not judged: {organ}" for organ in manifest.structures if organ not in organs),
    )
    identity = " ".join([manifest.fingerprint, models.base.fingerprint, models.adapters.identity, str(models.contract)])
    identity = f"{identity} {options.stages} {models.base.latent.fingerprint if models.base.latent else ''}"
    systems = evaluated_systems(models, data_root, organs, out, options, workers)
    judging = Judging(cases, systems, out, options.seed, identity, workers)
    unseen = same_data and options.split == "test"
    summary = SummaryOptions(synthetic=is_synthetic(manifest), unseen=unseen, notes=notes, seed=options.seed)
    if options.protocol == SLICE3D:
        judging.by_slice3d(summary)
    else:
        judging.in_patient_space(summary, _merged_note)
    keep_history(checkpoint, out)


def check_fits(contract: "InferenceContract", manifest: "Manifest") -> None:
    """Refuse a data set that was prepared for another use than the adapter's.

    Raises:
        ValueError: another modality, or slices that are cut closer than what the adapter was trained to see.
    """
    if contract.modality != manifest.modality:
        raise ValueError(
            f"the adapter is for {contract.modality}, the data set is {manifest.modality}; "
            "prepare it with --modality if that is wrong, or train an adapter for it"
        )
    cut_closer = manifest.field_of_view == "mask_margin" and (
        contract.field_of_view == "scan" or contract.margin_mm > manifest.margin_mm
    )
    if cut_closer:
        raise ValueError(
            f"the adapter sees {contract.field_of_view} (margin {contract.margin_mm:g} mm), the data set shows the "
            f"mask and {manifest.margin_mm:g} mm; prepare it with --field_of_view {contract.field_of_view} "
            f"--margin_mm {contract.margin_mm:g}"
        )


def trained_on(adapters: "AdapterSet", manifest: "Manifest") -> bool:
    """Whether every stage's adapter was trained on this very preparation, and so on none of its test patients."""
    return all(record.meta.data_fingerprint == manifest.fingerprint for record in adapters.records.values())


def is_synthetic(manifest: "Manifest") -> bool:
    """Whether the scans are this tool's phantoms, which is then said wherever figures are shown."""
    return (Path(manifest.source) / "SYNTHETIC.md").is_file()


def write_reports(eval_dir: Path) -> None:
    """Write report.html and report.md beside the rows of an evaluation."""
    from sam3d_objects.report import write_report

    write_report(eval_dir)
    print(f"report: {eval_dir / 'report.html'}")


def pooled_table(eval_dir: Path) -> str:
    """Return the first part of summary.md: what was judged, and all cases pooled."""
    parts = (eval_dir / "summary.md").read_text(encoding="utf-8").split("\n## ")
    return "\n## ".join(parts[:2])


def _organs(manifest: "Manifest", options: EvaluateOptions) -> list[str]:
    """The structures that were asked for, or all that can be judged: a baseline needs training patients, too."""
    baselines = set(options.system_names) & set(BASELINE_SYSTEMS)
    splits = [options.split, *(["train"] if baselines or options.direct else [])]
    return organ_names(options.organs) or organs_in_splits(manifest, splits)


def _merged_note(rows: "list[Row]") -> tuple[str, ...]:
    means = {}
    for name in ("adapted", "merged"):
        scores = [row.scores["dice"] for row in rows if row.system == name]
        if not scores:
            return ()
        means[name] = sum(scores) / len(scores)
    apart = abs(means["adapted"] - means["merged"])
    if apart > DICE_TOLERANCE:
        raise ValueError(f"the merged model scores otherwise than the adapted one: mean Dice {means}")
    return (f"mean Dice of merged and adapted differ by {apart:.1e} (at most {DICE_TOLERANCE:g})",)


def _field_of_view(manifest: "Manifest", options: EvaluateOptions) -> str:
    if options.protocol == SLICE3D:
        return "the organ's middle slice, cut to the mask's box, black beside the mask, 8 bit"
    if manifest.field_of_view == "scan":
        return "whole slices"
    return f"slices cut to the mask and {manifest.margin_mm:g} mm around it"
