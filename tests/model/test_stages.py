"""Which module each stage adapts, and whose fingerprint its adapter carries."""

import pytest

from sam3d_objects.model.stages import (
    DECODER,
    LATENT,
    STAGES,
    STRUCTURE,
    adapted_module,
    check_stage,
    stage_fingerprint,
)
from tests.training.small_model import small_latent_stage, small_model


def test_each_stage_adapts_a_module_of_its_own() -> None:
    model = small_model()
    model.latent = small_latent_stage()
    assert adapted_module(model, STRUCTURE) is model.structure_flow
    assert adapted_module(model, LATENT) is model.latent_stage.flow
    assert adapted_module(model, DECODER) is model.latent_stage.mesh_decoder
    assert [stage_fingerprint(model, stage)[0] for stage in STAGES] == ["0", "1", "1"]


def test_a_half_that_is_not_there_and_a_stage_that_does_not_exist_are_named() -> None:
    model = small_model()
    assert stage_fingerprint(model, STRUCTURE) == model.fingerprint
    for stage in (LATENT, DECODER):
        with pytest.raises(ValueError, match="its latent stage is not loaded"):
            adapted_module(model, stage)
    with pytest.raises(ValueError, match=r"got 'decodr'\. Did you mean 'decoder'"):
        check_stage("decodr")
