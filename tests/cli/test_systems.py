"""What can be asked for by name is there, in the order asked for."""

import dataclasses
from pathlib import Path

import pytest

from sam3d_objects.cli.models import load_models
from sam3d_objects.cli.systems import evaluated_systems
from sam3d_objects.config import SYSTEMS, VARIANT_SUFFIXES, EvaluateOptions
from sam3d_objects.config.evaluate import BASELINE_SYSTEMS, CEILING_SYSTEMS
from sam3d_objects.evaluation import BASELINES, Truth
from sam3d_objects.evaluation.ceilings import CEILINGS, ENCODE, Ceiling
from sam3d_objects.evaluation.predictor import Stated
from sam3d_objects.reconstruct import VARIANTS, Reconstructor
from tests.evaluation.solids import ball_truth, middle_slice


def test_the_names_are_those_of_the_parts() -> None:
    assert tuple(VARIANTS) == ("", *VARIANT_SUFFIXES)
    assert (*CEILINGS, ENCODE) == CEILING_SYSTEMS
    assert tuple(BASELINES) == BASELINE_SYSTEMS
    assert len(set(SYSTEMS)) == len(SYSTEMS) == 3 * (1 + len(VARIANT_SUFFIXES)) + 5 + 4


def test_an_unknown_name_is_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"got 'adapted_nofi'\. Did you mean 'adapted_nofit'"):
        EvaluateOptions(systems="base,adapted_nofi")
    with pytest.raises(ValueError, match=r"systems knows base, .* got ''"):
        EvaluateOptions(systems=" , ")
    assert EvaluateOptions(systems="base, adapted,base").system_names == ("base", "adapted")


def test_models_variants_and_ceilings_by_name(random_base: Path, adapter: Path, tmp_path: Path) -> None:
    names = ("ceiling_encode", "adapted", "base_k1", "adapted_nofit", "ceiling_mesh", "merged_k8")
    options = EvaluateOptions(systems=",".join(names), stages="structure")
    models = load_models(str(random_base), adapter, options)
    systems = evaluated_systems(models, tmp_path / "unused", ["ball"], tmp_path / "out", options)
    assert tuple(systems) == names
    for name, samples, fit in (("base_k1", 1, True), ("adapted_nofit", 2, False), ("merged_k8", 8, True)):
        way = systems[name]
        assert isinstance(way, Reconstructor)
        assert (way.contract.samples, way.contract.fit, way.stages) == (samples, fit, "structure")
        assert way.model is getattr(models, name.split("_")[0])
    for name in ("ceiling_encode", "ceiling_mesh"):
        assert isinstance(systems[name], Ceiling)


def test_the_base_keeps_the_scene_scale_that_it_was_trained_with(
    random_base: Path, adapter: Path, tmp_path: Path
) -> None:
    options = EvaluateOptions(systems="base,adapted_nofit", stages="structure")
    models = load_models(str(random_base), adapter, options)
    metric = dataclasses.replace(models, contract=dataclasses.replace(models.contract, scene_scale_mm=5.3))
    systems = evaluated_systems(metric, tmp_path / "unused", ["ball"], tmp_path / "out", options)
    slice = middle_slice(ball_truth())
    for name, scale_mm in (("base", 0.0), ("adapted_nofit", 5.3)):
        way = systems[name]
        assert isinstance(way, Reconstructor) and way.contract.scene_scale_mm == scale_mm
        scene = way.condition_inputs(slice).scene
        assert (scene.scale == 5.3) == (scale_mm == 5.3)


def test_the_adapted_model_states_its_spread_after_its_mesh(random_base: Path, adapter: Path, tmp_path: Path) -> None:
    options = EvaluateOptions(systems="adapted", stages="structure")
    models = load_models(str(random_base), adapter, options)
    system = evaluated_systems(models, tmp_path / "unused", ["ball"], tmp_path / "out", options)["adapted"]
    truth: Truth = ball_truth()
    slice = middle_slice(truth)
    assert callable(system)
    stated = system(slice, 3)
    assert isinstance(stated, Stated)
    expected = Reconstructor(models.adapted, models.contract, "structure").predict(slice, 3)
    assert (stated.mesh.vertices == expected.mesh.vertices).all()
    spread_mm = stated.spread(stated.mesh)
    assert (spread_mm is None) == (expected.spread_mm is None)
    if spread_mm is not None and expected.spread_mm is not None:
        assert (spread_mm == expected.spread_mm).all() and len(spread_mm) == len(stated.mesh.vertices)
