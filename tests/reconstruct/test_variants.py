"""One model in several ways: the same samples, drawn once, and each way what it is alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from sam3d_objects.adapter import InferenceContract
from sam3d_objects.model.sam3d import SAM3DObjects
from sam3d_objects.model.sampler import Latents
from sam3d_objects.reconstruct import VARIANTS, PlacedSolid, Reconstructor, fit_to_mask, variants
from sam3d_objects.volume import SliceInput, oblique_plane
from tests.reconstruct.organ import CENTER_MM, organ, slice_of
from tests.training.small_model import small_model

CONTRACT = InferenceContract(field_of_view="mask_margin", modality="mr", steps=1, samples=9, threshold=0.05)


@pytest.fixture(scope="module")
def model() -> SAM3DObjects:
    return small_model()


@pytest.fixture(scope="module")
def slice() -> SliceInput:
    return slice_of(organ(), oblique_plane(CENTER_MM, np.eye(3), (40, 40), 1.5))


@pytest.fixture
def drawn(model: SAM3DObjects, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many samples each call of the model drew."""
    counts: list[int] = []
    sample = model.sample_structure

    def count(condition: Tensor, generator: torch.Generator, *, samples: int, **others: float) -> Latents:
        counts.append(samples)
        return sample(condition, generator, samples=samples, **others)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(model, "sample_structure", count)
    return counts


def numbers(samples: list[PlacedSolid]) -> list[tuple[bytes, bytes, float, float]]:
    """All that there is to samples, for comparison to the last bit."""
    return [(one.field.tobytes(), one.frame.center_mm.tobytes(), one.frame.size_mm, one.weight) for one in samples]


def test_the_contracts_own_way_is_that_of_a_reconstructor_alone(model: SAM3DObjects, slice: SliceInput) -> None:
    contract = replace(CONTRACT, samples=1)
    ways = variants(model, contract, "structure")
    ways["_nofit"].samples(slice, 3)  # whatever was asked before
    alone, shared = Reconstructor(model, contract, "structure")(slice, 3), ways[""](slice, 3)
    np.testing.assert_array_equal(shared.vertices, alone.vertices)
    np.testing.assert_array_equal(shared.faces, alone.faces)


def test_each_way_takes_its_part_of_the_samples(model: SAM3DObjects, slice: SliceInput) -> None:
    ways = variants(model, CONTRACT, "structure")
    raw = Reconstructor(model, replace(CONTRACT, fit=False), "structure").samples(slice, 3)
    seen, _ = ways[""].prepared(slice)
    fitted, moved = (fit_to_mask(raw, seen.mask, seen.plane, scale) for scale in (True, False))
    expected = {"": fitted, "_k1": fitted[:1], "_k8": fitted[:8], "_nofit": raw, "_noscale": moved}
    assert set(ways) == set(VARIANTS) == set(expected)
    for suffix, samples in expected.items():
        assert numbers(ways[suffix].samples(slice, 3)) == numbers(samples)
    assert numbers(fitted) == numbers(Reconstructor(model, CONTRACT, "structure").samples(slice, 3))
    drawn_mm, fitted_mm, moved_mm = ([one.frame.size_mm for one in samples] for samples in (raw, fitted, moved))
    np.testing.assert_allclose(moved_mm, drawn_mm, rtol=1e-6)
    assert not np.allclose(fitted_mm, drawn_mm, rtol=1e-3)


def test_a_slice_is_sampled_once_for_all(model: SAM3DObjects, slice: SliceInput, drawn: list[int]) -> None:
    ways = variants(model, CONTRACT, "structure")
    for way in ways.values():
        way.samples(slice, 3)
    assert drawn == [9]
    ways["_k1"].samples(slice, 4)
    other = replace(slice)
    ways["_k8"].samples(other, 4)
    assert drawn == [9, 9, 9], "another seed, and another slice, are drawn anew"


def test_eight_of_fewer_are_drawn_apart(model: SAM3DObjects, slice: SliceInput, drawn: list[int]) -> None:
    ways = variants(model, replace(CONTRACT, samples=2), "structure")
    for suffix in ("", "_k8", "_k1", "_nofit"):
        ways[suffix].samples(slice, 3)
    assert drawn == [2, 8]


def test_an_unknown_stage_is_refused_as_by_a_reconstructor(model: SAM3DObjects) -> None:
    with pytest.raises(ValueError, match="stages must be one of"):
        variants(model, CONTRACT, "latent")
