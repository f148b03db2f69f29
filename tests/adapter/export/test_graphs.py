"""Exported networks compute what eager ones do, at batches that they were not exported with."""

import copy
import importlib
import sys
from pathlib import Path
from typing import cast

import pytest
import torch
from torch.export import ExportedProgram

from sam3d_objects.adapter.export import DENSE, dense_network, export_onnx, export_program, traced
from sam3d_objects.adapter.export.dense import nearest_index, outputs_of
from sam3d_objects.adapter.export.graphs import NEEDED
from sam3d_objects.model import SAM3DObjects
from sam3d_objects.model.lora import inject_lora, merge_lora_weights
from tests.model.lora.standins import randomise_adapters
from tests.training.small_model import small_model


@pytest.fixture(scope="module")
def model() -> SAM3DObjects:
    """A model whose flow holds a merged adapter."""
    made = small_model()
    inject_lora(made.structure_flow, rank=2)
    randomise_adapters(made.structure_flow)
    merge_lora_weights(made.structure_flow)
    return made


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_what_is_exported_computes_the_same(name: str, model: SAM3DObjects, tmp_path: Path) -> None:
    network = dense_network(model, name)
    program = traced(network)
    assert export_program(network, program, tmp_path / "network.pt2") <= 1e-6
    loaded = torch.export.load(tmp_path / "network.pt2").module()
    inputs = network.example(4, seed=9)
    for ours, theirs in zip(outputs_of(network.module, inputs), outputs_of(loaded, inputs), strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    for package in NEEDED:
        pytest.importorskip(package, reason=f"{package} is not installed (pip install sam3d-medical[onnx])")
    assert export_onnx(network, program, tmp_path / "network.onnx") <= 1e-5
    onnxruntime = importlib.import_module("onnxruntime")
    session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"), providers=["CPUExecutionProvider"])
    assert [put.name for put in session.get_inputs()] == list(network.inputs)
    assert [out.name for out in session.get_outputs()] == list(network.outputs)


def test_what_differs_is_not_kept(model: SAM3DObjects, tmp_path: Path) -> None:
    network = dense_network(model, "structure_decoder")
    program = traced(network)
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.structure_decoder.get_parameter("out_layer.2.bias").add_(1)
    with pytest.raises(ValueError, match=r"network\.pt2 was not kept: the exported structure_decoder differs"):
        export_program(dense_network(changed, "structure_decoder"), program, tmp_path / "network.pt2")
    assert not any(tmp_path.iterdir())


def test_what_is_missing_is_named(model: SAM3DObjects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    network = dense_network(model, "structure_decoder")
    with pytest.raises(ValueError, match=r"onnxscript is not installed: pip install \"sam3d-medical\[onnx\]\""):
        export_onnx(network, cast(ExportedProgram, None), tmp_path / "network.onnx")


def test_networks_are_those_of_the_model() -> None:
    model = small_model()
    network = dense_network(model, "structure_decoder")
    tokens = network.example(2)[0]
    assert torch.equal(outputs_of(network.module, [tokens])[0], model.decode_structure(tokens))
    embedder = dense_network(model, "condition_embedder")
    inputs = dict(zip(embedder.inputs, embedder.example(2), strict=True))
    assert torch.equal(outputs_of(embedder.module, list(inputs.values()))[0], model.embed(inputs))
    with pytest.raises(ValueError, match="the dense networks are"):
        dense_network(model, "mesh_decoder")


def test_nearest_picks_by_hand() -> None:
    assert nearest_index(4, 2).tolist() == [0, 2]
    assert nearest_index(28, 16).tolist()[:5] == [0, 1, 3, 5, 7], "floor(1.75 i)"
    assert nearest_index(3, 3).tolist() == [0, 1, 2]
