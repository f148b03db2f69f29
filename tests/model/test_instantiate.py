"""Configs to modules."""

from functools import partial

import pytest

from sam3d_objects.model.generator import FlowGenerator, GuidedNetwork
from sam3d_objects.model.instantiate import TARGETS, instantiate
from sam3d_objects.model.structure.vae import StructureDecoder

DECODER = "sam3d_objects.model.backbone.tdfy_dit.models.sparse_structure_vae.SparseStructureDecoder"
SAMPLER = "sam3d_objects.model.backbone.generator.flow_matching.model.lognorm_sampler"
GUIDANCE = (
    "sam3d_objects.model.backbone.generator.classifier_free_guidance."
    "ClassifierFreeGuidanceWithExternalUnconditionalProbability"
)
SMALL = {"out_channels": 1, "latent_channels": 2, "num_res_blocks": 1, "channels": [4, 4], "num_res_blocks_middle": 1}


def test_plain_values_stay() -> None:
    config = {"a": [1, {"b": None}], "c": "x"}
    assert instantiate(config) == config


def test_nested_targets_and_partial() -> None:
    node = {"list": [{"_target_": DECODER, **SMALL}], "times": {"_target_": SAMPLER, "_partial_": True, "mean": -1.0}}
    built = instantiate(node)
    assert isinstance(built["list"][0], StructureDecoder)
    assert isinstance(built["times"], partial) and built["times"](3, std=0.0).shape == (3,)


def test_wrapped_and_plain_names_of_the_vae() -> None:
    wrapped = DECODER + "TdfyWrapper"
    assert TARGETS[wrapped] is TARGETS[DECODER] is StructureDecoder


def test_an_unknown_target_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown _target_ '.*Decoders'; the nearest known one is .*Decoder$"):
        instantiate({"_target_": DECODER + "s"})
    with pytest.raises(ValueError, match=r"unknown _target_ 'os.system'"):
        instantiate({"_target_": "os.system", "command": "true"})


def test_arguments_that_a_class_refuses() -> None:
    with pytest.raises(ValueError, match=r"SparseStructureDecoder: its arguments .*'colour'.* do not fit"):
        instantiate({"_target_": DECODER, **SMALL, "colour": 1})
    with pytest.raises(ValueError, match="norm_type 'layer', not 'group'"):
        instantiate({"_target_": DECODER, **SMALL, "norm_type": "group"})


def test_flows_that_are_not_known() -> None:
    network = instantiate({"_target_": GUIDANCE, "backbone": instantiate({"_target_": DECODER, **SMALL})})
    assert isinstance(network, GuidedNetwork) and network.interval is None
    with pytest.raises(ValueError, match=r"knows sigma_min 0 and time_scale 1000, got 0\.1 and 1000\.0"):
        FlowGenerator(network, sigma_min=0.1)
    with pytest.raises(ValueError, match=r"must be one of \['euler', 'midpoint', 'rk4'\], got 'dopri5'"):
        FlowGenerator(network, solver_method="dopri5")
    assert FlowGenerator(network, solver_method="rk4").solver_method == "rk4"
