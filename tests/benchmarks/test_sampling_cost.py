"""The benchmark of sampling, run on a small model: its parts add up, and sharing samples is timed against not."""

import pytest

from benchmarks.sampling_cost import CONTRACT, PARTS, measure, measure_rows, table
from sam3d_objects.model import SAM3DObjects
from tests.training.small_model import small_model

QUICK = CONTRACT.__class__(field_of_view="mask_margin", modality="mr", steps=1, samples=1, threshold=0.05, fit=False)


@pytest.fixture(scope="module")
def model() -> SAM3DObjects:
    return small_model()


def test_the_parts_add_up_and_the_model_is_left_as_it_was(model: SAM3DObjects) -> None:
    before = model.embed, model.sample_structure, model.decode_structure
    found = measure(model, QUICK, [1, 2], 1, "structure")
    assert (model.embed, model.sample_structure, model.decode_structure) == before
    for seconds in found.values():
        assert set(seconds) == {"all", *PARTS}
        assert sum(seconds[part] for part in PARTS if part != "spread") == pytest.approx(seconds["all"])
        assert min(seconds["condition"], seconds["flow"], seconds["decode"], seconds["surface"]) > 0
        assert seconds["fit"] == seconds["latent"] == 0
    assert table(found).splitlines()[1].split()[2] == "1.00"


def test_variants_are_timed_both_ways(model: SAM3DObjects) -> None:
    found = measure_rows(model, QUICK, 1, "structure")
    assert set(found) == {"shared", "apart"} and min(found.values()) > 0
