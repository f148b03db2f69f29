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
    for target in (["a"], {"a": 1}, 3):
        with pytest.raises(ValueError, match="unknown _target_ "):
            instantiate({"_target_": target})


def test_an_error_names_the_key_of_the_node() -> None:
    with pytest.raises(ValueError, match=r"^module\.list\.1: unknown _target_ 'x'"):
        instantiate({"list": [1, {"_target_": "x"}]}, "module")
    with pytest.raises(ValueError, match=r"^flow: \S+SparseStructureDecoder: channels\[1\] must be a whole number"):
        instantiate({"flow": {"_target_": DECODER, **SMALL, "channels": [4, "4"]}})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"channels": []}, r"its arguments \['channels', .*\] do not fit: IndexError: list index out of range"),
        ({"channels": 4}, "channels must be a list of whole numbers, got 4"),
        ({"latent_channels": True}, "latent_channels must be a whole number from 1 on, got True"),
        ({"num_res_blocks": 1.0}, r"num_res_blocks must be a whole number from 1 on, got 1\.0"),
        ({"reshape_input_to_cube": "no"}, "reshape_input_to_cube must be true or false, got 'no'"),
        ({"mlp_ratio": float("nan")}, "mlp_ratio must be a finite number above 0, got nan"),
    ],
)
def test_values_of_another_type(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=rf"SparseStructureDecoder: {said}"):
        instantiate({"_target_": DECODER, **SMALL, **changes})


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
