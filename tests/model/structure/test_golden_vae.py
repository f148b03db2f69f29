"""The structure VAE against its golden vectors."""

from pathlib import Path

import pytest
import torch

from sam3d_objects.model.structure.vae import (
    StructureDecoder,
    StructureEncoder,
    cube_to_tokens,
    tokens_to_cube,
)
from sam3d_objects.model.structure.voxels import occupied_coordinates
from tests.model.golden import Golden, assert_parity, load_golden


@pytest.fixture(scope="module")
def encoding(shared_reference: Path) -> Golden:
    return load_golden(shared_reference, "ss_encoder")


@pytest.fixture(scope="module")
def decoding(shared_reference: Path) -> Golden:
    return load_golden(shared_reference, "ss_decoder")


@pytest.fixture
def encoder(encoding: Golden) -> StructureEncoder:
    encoder = StructureEncoder(**encoding.meta["args"])
    encoding.load_into(encoder)
    return encoder


@pytest.fixture
def decoder(decoding: Golden) -> StructureDecoder:
    decoder = StructureDecoder(**decoding.meta["args"])
    decoding.load_into(decoder)
    return decoder


@torch.no_grad()
def test_encoder(encoder: StructureEncoder, encoding: Golden) -> None:
    mean, logvar = encoder(encoding.inputs["occ"])
    assert_parity(mean, encoding.outputs["mean"], "mean")
    assert_parity(logvar, encoding.outputs["logvar"], "logvar")
    sampled = encoder.sample(mean, logvar, encoding.inputs["posterior_noise"])
    assert_parity(sampled, encoding.outputs["z_sampled_wrapper"], "sample")


@torch.no_grad()
def test_decoder(decoder: StructureDecoder, decoding: Golden) -> None:
    logits = decoder(decoding.inputs["z"])
    assert_parity(logits, decoding.outputs["logits"], "logits")
    coordinates = occupied_coordinates(logits)
    assert coordinates.dtype == torch.int32
    assert torch.equal(coordinates, decoding.outputs["coords"])


@torch.no_grad()
def test_decoder_takes_flat_tokens(decoder: StructureDecoder, decoding: Golden) -> None:
    flat = decoding.inputs["flat_latent"]
    assert torch.equal(tokens_to_cube(flat), decoding.outputs["cube"])
    assert torch.equal(cube_to_tokens(decoding.outputs["cube"]), flat)
    decoder.reshape_input_to_cube = True
    assert_parity(decoder(flat), decoding.outputs["logits_from_flat"], "logits from flat tokens")


@torch.no_grad()
def test_one_by_one_as_in_a_batch(
    encoder: StructureEncoder, encoding: Golden, decoder: StructureDecoder, decoding: Golden
) -> None:
    means = [encoder(one[None])[0] for one in encoding.inputs["occ"]]
    assert_parity(torch.cat(means), encoding.outputs["mean"], "mean")
    logits = [decoder(one[None]) for one in decoding.inputs["z"]]
    assert_parity(torch.cat(logits), decoding.outputs["logits"], "logits")


@torch.no_grad()
def test_in_float64(encoder: StructureEncoder, encoding: Golden, decoder: StructureDecoder, decoding: Golden) -> None:
    mean, _ = encoder.double()(encoding.inputs["occ"])
    logits = decoder.double()(decoding.inputs["z"])
    assert mean.dtype == logits.dtype == torch.float64
    assert_parity(mean, encoding.outputs["mean"], "mean")
    assert_parity(logits, decoding.outputs["logits"], "logits")
