"""What an adapter may be evaluated on, and what counts as a Dice in validation."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from sam3d_objects.adapter import InferenceContract, read_adapter_set
from sam3d_objects.cli.evaluate import check_fits, trained_on
from sam3d_objects.cli.merging import merge_difference
from sam3d_objects.cli.models import load_models, with_modules
from sam3d_objects.cli.reconstruct import read_volume
from sam3d_objects.cli.threshold import voxel_dice
from sam3d_objects.cli.validation import score_of
from sam3d_objects.config import EvaluateOptions
from sam3d_objects.dataset import Manifest
from sam3d_objects.evaluation import Truth
from sam3d_objects.mesh import Mesh, surface_from_mask
from sam3d_objects.model.lora import lora_layers
from sam3d_objects.model.stages import STAGES, adapted_module
from sam3d_objects.volume import SliceInput, slice_input

MANIFEST = Manifest(
    modality="mr",
    window_hu=(-160.0, 240.0),
    percentiles=(0.5, 99.5),
    field_of_view="mask_margin",
    margin_mm=3.0,
    structures={},
    layout="folder",
    source="scans",
    test_source=None,
    patient_rule="",
    cases=(),
    skipped=(),
    split={},
)
CONTRACT = InferenceContract(field_of_view="mask_margin", modality="mr", margin_mm=3.0)


def test_an_adapter_fits_data_that_were_prepared_alike() -> None:
    check_fits(CONTRACT, MANIFEST)
    # Whole slices hold all that the adapter may see; the reconstruction cuts them itself.
    check_fits(CONTRACT, dataclasses.replace(MANIFEST, field_of_view="scan"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modality": "ct"}, "the adapter is for ct, the data set is mr"),
        ({"margin_mm": 5.0}, r"--margin_mm 5"),
        ({"field_of_view": "scan"}, r"--field_of_view scan"),
    ],
)
def test_data_prepared_for_another_use_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_fits(dataclasses.replace(CONTRACT, **changes), MANIFEST)  # type: ignore[arg-type]  # one of its fields


def test_only_an_adapter_of_these_very_data_is_known_not_to_have_seen_their_test_patients(adapter: Path) -> None:
    found = read_adapter_set(adapter)
    record = found.records["structure"]
    for fingerprint, known in ((MANIFEST.fingerprint, True), ("of another fold", False), (None, False)):
        meta = dataclasses.replace(record.meta, training={"data": {"fingerprint": fingerprint}} if fingerprint else {})
        changed = {"structure": dataclasses.replace(record, meta=meta)}
        assert trained_on(dataclasses.replace(found, records=changed), MANIFEST) is known


def test_options_win_over_the_contract(random_base: Path, adapter: Path) -> None:
    plain = load_models(str(random_base), adapter, EvaluateOptions())
    assert (plain.contract.samples, plain.contract.threshold, plain.contract.fit) == (2, 0.2, True)
    changed = load_models(str(random_base), adapter, EvaluateOptions(samples=5, fit=False))
    assert (changed.contract.samples, changed.contract.threshold, changed.contract.fit) == (5, 0.2, False)


@pytest.fixture
def given(scan: tuple[Path, Path]) -> tuple[SliceInput, Mesh]:
    """A slice of the scan, and the organ's surface."""
    image, organ = read_volume(*scan, None, "1+2")
    return slice_input(image, organ, "axial", 8), surface_from_mask(np.asarray(organ.voxels), organ.affine)


def test_the_merged_model_is_the_adapted_one_and_the_base_is_another(
    random_base: Path, adapter_set: Path, given: tuple[SliceInput, Mesh]
) -> None:
    models = load_models(str(random_base), adapter_set, EvaluateOptions())
    assert merge_difference(models, *given) <= 1e-5
    assert not any("lora" in name for name in models.merged.state_dict())
    for stage in STAGES[:2]:  # the decoder's turn comes last, and takes seconds
        plain = {stage: adapted_module(models.base, stage)}
        wrong = dataclasses.replace(models, merged=with_modules(models.merged, plain))
        with pytest.raises(ValueError, match=f"outputs of the stage {stage} differ"):
            merge_difference(wrong, *given)


@pytest.mark.parametrize(
    ("use_stages", "stages", "adapted"),
    [
        ((), "both", STAGES),
        (("structure",), "both", ("structure",)),
        (("decoder", "latent"), "both", ("latent", "decoder")),
        ((), "structure", ("structure",)),
    ],
)
def test_stages_can_be_left_out(
    random_base: Path, adapter_set: Path, use_stages: tuple[str, ...], stages: str, adapted: tuple[str, ...]
) -> None:
    models = load_models(str(random_base), adapter_set, EvaluateOptions(use_stages=use_stages, stages=stages))
    assert models.adapters.stages == adapted
    for stage in STAGES if stages == "both" else STAGES[:1]:
        assert bool(lora_layers(adapted_module(models.adapted, stage))) == (stage in adapted)
        assert not lora_layers(adapted_module(models.base, stage))


def test_what_cannot_be_left_out_is_said(random_base: Path, adapter: Path, adapter_set: Path) -> None:
    with pytest.raises(ValueError, match="no adapter of the stage 'latent', only of structure"):
        load_models(str(random_base), adapter, EvaluateOptions(use_stages=("latent",)))
    with pytest.raises(ValueError, match="it would use the adapters of latent only; take --stages both"):
        load_models(str(random_base), adapter_set, EvaluateOptions(use_stages=("latent",), stages="structure"))
    with pytest.raises(ValueError, match="use_stages knows structure, latent, decoder; got 'latnt'"):
        EvaluateOptions(use_stages=("latnt",))


def test_models_share_what_is_frozen(random_base: Path, adapter: Path) -> None:
    models = load_models(str(random_base), adapter, EvaluateOptions())
    again = with_modules(models.base, {})
    assert again.structure_decoder is models.base.structure_decoder
    assert models.merged.condition_embedder is models.base.condition_embedder
    assert models.adapted.latent_stage.flow is models.base.latent_stage.flow
    tensors = zip(again.state_dict().values(), models.base.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in tensors)


def test_the_validation_dice_of_a_perfect_a_shifted_and_a_missing_mesh(scan: tuple[Path, Path]) -> None:
    _, organ = read_volume(*scan, None, "1+2")
    mesh = surface_from_mask(np.asarray(organ.voxels), organ.affine)
    truth = Truth(organ, mesh, organ.diagonal_mm)
    assert voxel_dice(lambda: mesh, truth) > 0.95
    far = Mesh(mesh.vertices + np.array([500.0, 0, 0]), mesh.faces)
    assert voxel_dice(lambda: far, truth) == 0.0

    def nothing() -> Mesh:
        raise ValueError("no voxel is solid")

    assert voxel_dice(nothing, truth) == 0.0
    assert score_of(mesh, truth).dice == voxel_dice(lambda: mesh, truth)
    # Marching cubes cuts the corners of voxels.
    assert score_of(mesh, truth).assd_mm < 0.3
    assert score_of(far, truth).assd_mm == pytest.approx(500, rel=0.1)
    assert score_of(None, truth) == (0.0, truth.diagonal_mm)
    assert score_of(Mesh(mesh.vertices, mesh.faces[1:]), truth) == (0.0, truth.diagonal_mm), "an open one is no solid"
