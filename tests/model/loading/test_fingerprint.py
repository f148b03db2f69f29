"""A base model's fingerprint is that of its files; a module's tells any change."""

from pathlib import Path

import torch
from torch import Tensor

from sam3d_objects.model import fingerprint, load_model
from tests.model.release_folder import FLOW, edit_state


def test_the_fingerprint_of_a_base_is_that_of_its_files(release: Path) -> None:
    model = load_model(release)
    assert model.fingerprint == load_model(release).fingerprint
    assert len(model.fingerprint) == 64
    seen = {model.fingerprint}
    keys = {
        "ss_generator.ckpt": (FLOW + "blocks.0.mlp.shape.mlp.0.bias", "_base_models.condition_embedder.idx_emb"),
        "ss_decoder.ckpt": ("input_layer.bias",),
    }
    for name, edited in keys.items():
        for key in edited:
            edit_state(release / name, lambda state, key=key: state[key].view(-1)[-1].add_(0.5))  # type: ignore[misc]
            seen.add(load_model(release, stages=("structure",)).fingerprint)
    assert len(seen) == 4


def test_fingerprint_tells_any_change(release: Path) -> None:
    decoder = load_model(release).structure_decoder
    seen = {fingerprint(decoder)}
    for value in decoder.state_dict().values():
        flat = value.view(-1)
        before = flat[-1].clone()
        flat[-1] += 0.5
        seen.add(fingerprint(decoder))
        flat[-1] = before
    assert len(seen) == 1 + len(decoder.state_dict())
    assert fingerprint(decoder) == fingerprint(load_model(release).structure_decoder)


def test_fingerprint_tells_names_shapes_and_dtypes() -> None:
    def of(**tensors: Tensor) -> str:
        module = torch.nn.Module()
        for name, value in tensors.items():
            module.register_buffer(name, value)
        return fingerprint(module)

    zeros = torch.zeros(2, 3)
    variants = [of(a=zeros), of(b=zeros), of(a=zeros.T), of(a=zeros.half()), of(a=zeros, b=torch.zeros(()))]
    assert len(set(variants)) == len(variants)
    assert of(a=zeros, b=zeros + 1) == of(b=zeros + 1, a=zeros)
    assert of(a=torch.zeros(3, 2).T) == of(a=zeros), "the layout in memory does not matter"
