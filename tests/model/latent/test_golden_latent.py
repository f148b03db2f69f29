"""Parity of the latent half's networks with the golden vectors, in float32, float64 and in batches."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sam3d_objects.model.latent.encoder import LatentEncoder
from sam3d_objects.model.latent.flow import LatentFlow
from sam3d_objects.model.latent.mesh_decoder import MeshDecoder
from sam3d_objects.model.sparse import SparseGrid, SparseTensor
from tests.model.golden import Golden, assert_parity, load_golden

DTYPES = [torch.float32, torch.float64]


def loaded(golden: Golden, kind: Any, dtype: torch.dtype) -> nn.Module:
    module = kind(**golden.meta["args"])
    module.load_state_dict({name: value.float() for name, value in golden.state.items()})
    return module.eval().to(dtype)


def voxels(features: Tensor, coordinates: Tensor, dtype: torch.dtype) -> SparseTensor:
    return SparseTensor(features.reshape(coordinates.shape[0], -1).to(dtype), SparseGrid(coordinates))


def blocks_of(module: nn.Module, *names: str) -> dict[str, Any]:
    """What the named submodules return, once the module has run."""
    seen: dict[str, Any] = {}
    for name in names:
        module.get_submodule(name).register_forward_hook(lambda _, __, out, name=name: seen.__setitem__(name, out))
    return seen


@pytest.mark.parametrize("dtype", DTYPES)
def test_flow(shared_reference: Path, dtype: torch.dtype) -> None:
    golden = load_golden(shared_reference, "slat_flow")
    flow = loaded(golden, LatentFlow, dtype)
    seen = blocks_of(flow, "input_blocks.0", "input_blocks.1", "blocks.0", "blocks.1", "out_blocks.0", "out_blocks.1")
    given = golden.inputs
    x = voxels(given["x"], given["coords"], dtype)
    t, condition = given["t"].to(dtype), given["cond"].to(dtype)
    assert_parity(flow(x, t, condition)[None], golden.outputs["out"], "out")
    for name, out in seen.items():
        inter = "inter." + name.replace("blocks.", "block")
        assert_parity(out.features if isinstance(out, SparseTensor) else out, golden.outputs[f"{inter}.feats"], name)
        if isinstance(out, SparseTensor):
            assert torch.equal(out.grid.coordinates, golden.outputs[f"{inter}.coords"])
    assert_parity(flow(x, t, condition * 0)[None], golden.outputs["out_cfg"], "out_cfg")


@pytest.mark.parametrize("dtype", DTYPES)
def test_flow_of_two_samples(shared_reference: Path, dtype: torch.dtype) -> None:
    golden = load_golden(shared_reference, "slat_flow")
    given = {name: value for name, value in golden.inputs.items() if name.startswith("batch2_")}
    x = voxels(given["batch2_x"], given["batch2_coords"], dtype)
    out = loaded(golden, LatentFlow, dtype)(x, given["batch2_t"].to(dtype), given["batch2_cond"].to(dtype))
    assert_parity(out, golden.outputs["batch2_out"], "batch2")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("samples", [1, 2])
def test_encoder(shared_reference: Path, dtype: torch.dtype, samples: int) -> None:
    golden = load_golden(shared_reference, "slat_encoder")
    encoder = loaded(golden, LatentEncoder, dtype)
    found = encoder(repeated(golden.inputs, samples, dtype))
    for name, value in zip(("mean", "logvar"), found, strict=True):
        for part in value.chunk(samples):
            assert_parity(part, golden.outputs[name], name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("samples", [1, 2])
def test_mesh_decoder(shared_reference: Path, dtype: torch.dtype, samples: int) -> None:
    golden = load_golden(shared_reference, "slat_decoder_mesh")
    decoder = loaded(golden, MeshDecoder, dtype)
    seen = blocks_of(decoder, "blocks.0", "blocks.1", "upsample.0")
    out = decoder(repeated(golden.inputs, samples, dtype))
    for index in range(2):
        assert_parity(seen[f"blocks.{index}"].chunk(samples)[-1], golden.outputs[f"inter.block{index}"])
    assert_parity(seen["upsample.0"].features.chunk(samples)[-1], golden.outputs["inter.upsample0.feats"])
    for features, coordinates in zip(out.features.chunk(samples), out.grid.coordinates.chunk(samples), strict=True):
        assert_parity(features, golden.outputs["features101"], "features")
        assert torch.equal(coordinates[:, 1:], golden.outputs["features101_coords"][:, 1:])


def repeated(given: dict[str, Tensor], samples: int, dtype: torch.dtype) -> SparseTensor:
    """The golden voxels as several equal samples of one batch."""
    coordinates = torch.cat([given["coords"] + torch.tensor([k, 0, 0, 0], dtype=torch.int32) for k in range(samples)])
    return voxels(given["feats"].repeat(samples, 1), coordinates, dtype)


def test_the_decoder_is_not_blind_to_the_reading_of_its_point_kernels(shared_reference: Path) -> None:
    golden = load_golden(shared_reference, "slat_decoder_mesh")
    x = repeated(golden.inputs, 1, torch.float32)
    right = loaded(golden, MeshDecoder, torch.float32)(x).features
    for index in range(2):
        name = f"upsample.{index}.skip_connection.conv.weight"
        weight = golden.state[name]
        golden.state[name] = weight.reshape(weight.shape[-1], -1).T.reshape(weight.shape)
    transposed = loaded(golden, MeshDecoder, torch.float32)(x).features
    assert float((right - transposed).detach().abs().max()) > 0.1
