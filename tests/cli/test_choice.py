"""How an adapter is sampled is chosen on validation slices, kept in its record, and said."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sam3d_objects.adapter import InferenceContract, read_adapter, read_adapter_set
from sam3d_objects.cli import choice
from sam3d_objects.cli.choice import CHOSEN, Choice, Way, choose_way, sample_counts, sampling_line, ways_table
from sam3d_objects.cli.threshold import CALIBRATED, THRESHOLDS, calibrate_adapter
from sam3d_objects.evaluation import Material, Truth
from sam3d_objects.mesh import ObjectFrame, solid_fraction
from sam3d_objects.model import SAM3DObjects
from sam3d_objects.reconstruct import PlacedSolid
from sam3d_objects.volume import SliceInput, Volume, oblique_plane
from tests.reconstruct.organ import CENTER_MM, organ, placed, slice_of
from tests.training.small_model import small_model

CONTRACT = InferenceContract(field_of_view="mask_margin", modality="mr", steps=1, samples=4, threshold=0.5)
SHAPE = (60, 48, 44)


@pytest.fixture(scope="module")
def material() -> Material:
    """The egg, on a grid of 1.5 mm, and an axial slice of it."""
    affine = np.diag([1.5, 1.5, 1.5, 1.0])
    affine[:3, 3] = CENTER_MM - 0.75 * np.array(SHAPE)
    label = Volume(solid_fraction(organ(), affine, SHAPE, supersample=1) > 0.5, affine)
    slice = slice_of(organ(), oblique_plane(CENTER_MM, np.eye(3), (50, 50), 1.2))
    return Material(slice, Truth(label, organ(), 100.0), label)


@pytest.mark.parametrize(("samples", "counts"), [(1, (1,)), (2, (1, 2)), (3, (1, 3)), (8, (1, 4, 8)), (16, (1, 8, 16))])
def test_one_half_and_all_of_the_samples_are_tried(samples: int, counts: tuple[int, ...]) -> None:
    assert sample_counts(samples) == counts


class Drawn:
    """In the place of `SharedSamples`: the truth, off by so many mm where it is not fitted, as many times as asked.

    The first sample is too small, so that more are better.
    """

    off_mm = 4.0

    def __init__(self, model: SAM3DObjects, contract: InferenceContract) -> None:
        self.contract = contract

    def first(self, slice: SliceInput, seed: int, count: int, fit: bool) -> list[PlacedSolid]:
        truth = placed(organ())
        shift = np.array([0.0 if fit else self.off_mm, 0, 0])
        sizes = [0.8] + [1.0] * (self.contract.samples - 1)
        return [
            PlacedSolid(truth.field, ObjectFrame(truth.frame.center_mm + shift, truth.frame.size_mm * size))
            for size in sizes[:count]
        ]


def test_the_best_way_is_found_and_the_residuals_are_those_of_the_samples(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(choice, "SharedSamples", Drawn)
    found = choose_way(small_model(), CONTRACT, [material] * 2, 0)
    assert (found.best.samples, found.best.fit, found.slices) == (4, True, 2)
    assert found.best.dice > 0.95 and found.best.threshold in THRESHOLDS
    assert [way.dice for way in found.ways] == sorted((way.dice for way in found.ways), reverse=True)
    assert {(way.samples, way.fit) for way in found.ways} == {(k, fit) for k in (1, 2, 4) for fit in (True, False)}
    size_mm = placed(organ()).frame.size_mm
    assert found.residuals["drawn"]["left"] == pytest.approx(Drawn.off_mm / size_mm, abs=1e-3)
    assert found.residuals["fitted"]["left"] == pytest.approx(0, abs=1e-3)
    assert found.residuals["fitted"]["log_size"] == pytest.approx(abs(np.log(0.8)) / 2, abs=1e-3)  # one of four


def test_no_fit_is_not_turned_on_and_few_samples_are_taken_where_more_are_no_better(
    material: Material, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Equal(Drawn):
        def __init__(self, model: SAM3DObjects, contract: InferenceContract) -> None:
            super().__init__(model, contract)

        def first(self, slice: SliceInput, seed: int, count: int, fit: bool) -> list[PlacedSolid]:
            return [placed(organ())] * count

    monkeypatch.setattr(choice, "SharedSamples", Equal)
    found = choose_way(small_model(), replace(CONTRACT, fit=False), [material], 0)
    assert {way.fit for way in found.ways} == {False} and set(found.residuals) == {"drawn"}
    assert found.best.samples == 1


def test_the_choice_is_kept_with_the_adapter_and_said(
    random_base: Path, adapter: Path, material: Material, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "best"
    shutil.copytree(adapter, folder)
    threshold = calibrate_adapter(folder, str(random_base), "cpu", [material], 0)
    meta = read_adapter(folder).meta
    best = meta.training[CHOSEN]["ways"][0]
    assert meta.contract.threshold == best["threshold"] == threshold
    assert (meta.contract.samples, meta.contract.fit) == (best["samples"], best["fit"])
    assert meta.metrics[CALIBRATED] == best["dice"]
    assert "ways of sampling on 1 validation slices, the best first" in capsys.readouterr().out
    adapters = read_adapter_set(folder)
    assert "(best of 4 ways on 1 validation slices, Dice " in sampling_line(adapters, adapters.contract)
    other = replace(adapters.contract, threshold=0.77, samples=9)
    assert "(samples, threshold as asked for, not as the adapter was validated)" in sampling_line(adapters, other)
    plain = read_adapter_set(adapter)
    assert "not chosen on validation patients" in sampling_line(plain, plain.contract)


def test_the_table_names_each_way() -> None:
    table = ways_table(Choice((Way(8, True, 0.35, 0.7), Way(1, False, 0.5, 0.4)), 12, {})).splitlines()
    assert (
        table[1].split() == "8 samples, fitted to the mask , threshold 0.35: mean Dice 0.700".replace(" ,", ",").split()
    )
    assert "1 samples, not fitted" in table[2]
