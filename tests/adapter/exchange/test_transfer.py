"""Between a model and arrays: all of an adapter comes back, and what does not fit is refused with nothing changed."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from sam3d_objects.adapter.exchange import (
    FROZEN_A,
    SVD,
    AdapterParameters,
    Key,
    average,
    check_same,
    decode,
    encode,
    freeze_a,
    get_parameters,
    most_bytes,
    set_parameters,
)
from sam3d_objects.model.lora import freeze_base_params, get_lora_state_dict, inject_lora, use_adapter
from tests.adapter.exchange.adapters import BASE, NAMES, Small, drawn, small


def changed(parameters: AdapterParameters, name: str, array: np.ndarray) -> AdapterParameters:
    """The same with another array, and a manifest that says so."""
    arrays = parameters.by_name | {name: array}
    keys = tuple(Key(key, value.shape, value.dtype.name) for key, value in arrays.items())
    manifest = dataclasses.replace(parameters.manifest, keys=keys)
    return AdapterParameters(manifest, tuple(arrays.values()), parameters.samples)


def test_arrays_are_ordered_named_and_of_their_own() -> None:
    model = small()
    found = get_parameters(model, BASE, samples=12)
    assert [key.name for key in found.manifest.keys] == list(get_lora_state_dict(model))
    assert set(NAMES) == {key.name for key in found.manifest.keys}
    assert (found.samples, found.manifest.rank, found.manifest.base_fingerprint) == (12, 2, BASE)
    assert found.manifest.layers["layer"].scaling == 2.0
    assert found.manifest.nbytes == 4 * (2 * 5 + 4 * 2 + 2 * 4)
    found.by_name["head.weight"][:] = 5
    assert not (model.head.weight == 5).any()


def test_what_is_set_is_what_was_got() -> None:
    given = drawn(1)
    model = small()
    set_parameters(model, given, BASE)
    for name, array in get_parameters(model, BASE).by_name.items():
        assert np.array_equal(array, given.by_name[name])


def test_another_base_rank_scaling_or_adapter_is_refused_and_changes_nothing() -> None:
    model = small()
    before = get_parameters(model, BASE)
    cases = [
        (get_parameters(small(), "another"), "another base model: expected the fingerprint fingerprint-of-the-base"),
        (get_parameters(small(rank=3, alpha=6.0), BASE), "layer has rank 3, expected rank 2"),
        (get_parameters(small(alpha=8.0), BASE), r"scaled by 4 \(alpha / rank\), expected 2"),
        (changed(before, "head.weight", np.ones((3, 4), np.float32)), r"head.weight is \(3, 4\) float32, expected"),
        (
            changed(before, "head.weight", np.ones((2, 4))),
            r"head.weight is \(2, 4\) float64, expected \(2, 4\) float32",
        ),
        (changed(before, "tail.weight", np.ones(2, np.float32)), "tail.weight is left over"),
    ]
    for parameters, message in cases:
        with pytest.raises(ValueError, match=message):
            set_parameters(model, parameters, BASE)
    for old, new in zip(before.arrays, get_parameters(model, BASE).arrays, strict=True):
        assert np.array_equal(old, new)


def test_not_strict_takes_what_fits_but_no_other_shape() -> None:
    model, given = small(), drawn(3)
    keys = tuple(key for key in given.manifest.keys if key.name != "head.weight")
    part = AdapterParameters(dataclasses.replace(given.manifest, keys=keys), given.arrays[:2])
    with pytest.raises(ValueError, match=r"head\.weight is missing"):
        set_parameters(model, part, BASE)
    head = model.head.weight.detach().clone()
    set_parameters(model, part, BASE, strict=False)
    assert torch.equal(model.head.weight, head)
    assert np.array_equal(get_parameters(model, BASE).by_name["layer.lora_A"], given.by_name["layer.lora_A"])
    with pytest.raises(ValueError, match="is left over"):
        set_parameters(model, changed(given, "tail", np.ones(1, np.float32)), BASE)
    set_parameters(model, changed(given, "tail", np.ones(1, np.float32)), BASE, strict=False)
    with pytest.raises(ValueError, match=r"expected \(2, 4\)"):
        set_parameters(model, changed(given, "head.weight", np.ones((4, 2), np.float32)), BASE, strict=False)


def test_a_frozen_a_stays_here_and_must_be_the_same_everywhere() -> None:
    model = small()
    assert freeze_a(model) == 1
    found = get_parameters(model, BASE)
    assert [key.name for key in found.manifest.keys] == ["layer.lora_B", "head.weight"]
    check_same(found.manifest, get_parameters(_frozen(seed=0), BASE).manifest)
    with pytest.raises(ValueError, match="the frozen part of the adapter is another one"):
        set_parameters(model, get_parameters(_frozen(seed=1), BASE), BASE)
    a = model.get_parameter("layer.lora_A").detach().clone()
    set_parameters(model, AdapterParameters(found.manifest, tuple(x + 1 for x in found.arrays)), BASE)
    assert torch.equal(model.get_parameter("layer.lora_A"), a)
    assert torch.equal(model.get_parameter("layer.lora_B"), torch.ones(4, 2))


def _frozen(seed: int) -> Small:
    model = small(seed=seed)
    freeze_a(model)
    return model


def test_numbers_that_are_none_and_arrays_that_are_not_theirs_are_refused() -> None:
    given = drawn(1)
    bad = tuple(np.full_like(array, np.nan) for array in given.arrays)
    with pytest.raises(ValueError, match=r"layer\.lora_A holds NaN or infinity"):
        AdapterParameters(given.manifest, bad)
    with pytest.raises(ValueError, match=r"layer.lora_A is \(5, 2\) float32, not \(2, 5\)"):
        AdapterParameters(given.manifest, (given.arrays[0].T, *given.arrays[1:]))
    with pytest.raises(ValueError, match="an adapter of 3 arrays came with 2"):
        AdapterParameters(given.manifest, given.arrays[:2])
    with pytest.raises(ValueError, match="samples must be a whole number"):
        AdapterParameters(given.manifest, given.arrays, -1)


def test_models_without_an_adapter_and_half_precision_are_refused() -> None:
    with pytest.raises(ValueError, match="nothing to exchange"):
        get_parameters(Small().requires_grad_(False), BASE)
    model = Small().to(torch.bfloat16)
    inject_lora(model, ["layer"], 2)
    freeze_base_params(model)
    assert get_parameters(model, BASE).manifest.rank == 2  # the adapter itself is in float32
    model.head.requires_grad_(True)
    with pytest.raises(ValueError, match=r"not head.weight \(torch.bfloat16\)"):
        get_parameters(model, BASE)


def _words(seed: int = 0) -> nn.Sequential:
    """An adapted embedding, alike for one seed, whose drawn matrix stays."""
    torch.manual_seed(7)
    model = nn.Sequential(nn.Embedding(6, 4))
    inject_lora(model, ["0"], 2, 4.0, seed=seed)
    assert freeze_a(model) == 1
    return model


def test_a_frozen_half_of_an_embedding_is_the_drawn_one_and_its_average_is_exact() -> None:
    model, sites = _words(), []
    base = model(torch.arange(6)).detach()
    for word in (1, 4):
        site = _words()
        optimizer = torch.optim.SGD([parameter for parameter in site.parameters() if parameter.requires_grad], 0.1)
        site(torch.tensor([word])).square().sum().backward()
        optimizer.step()
        assert not torch.equal(site(torch.tensor([word])), base[[word]])  # with A frozen nothing moved, ever
        sites.append(site)
    answers = [get_parameters(site, BASE, samples=1) for site in sites]
    assert [key.name for key in answers[0].manifest.keys] == ["0.lora_A"]
    set_parameters(model, average(answers, FROZEN_A).parameters, BASE)
    mean = torch.stack([site(torch.arange(6)) for site in sites]).mean(0)
    assert torch.allclose(model(torch.arange(6)), mean, atol=1e-6)
    with pytest.raises(ValueError, match="the frozen part of the adapter is another one"):
        set_parameters(model, get_parameters(_words(seed=1), BASE), BASE)


def test_of_two_named_adapters_the_one_in_use_is_exchanged() -> None:
    model = Small()
    inject_lora(model, ["layer"], 2, 4.0, seed=0)
    inject_lora(model, ["layer", "head"], 3, 3.0, adapter="spleen", seed=1)
    found = get_parameters(model, BASE)
    assert {name: array.shape for name, array in found.by_name.items()} == {
        "layer.lora_A": (3, 5),
        "layer.lora_B": (4, 3),
        "head.lora_A": (3, 4),
        "head.lora_B": (2, 3),
    }
    assert {path: (x.rank, x.scaling) for path, x in found.manifest.layers.items()} == {
        "layer": (3, 1.0),
        "head": (3, 1.0),
    }
    first = get_lora_state_dict(model, "default")
    set_parameters(model, AdapterParameters(found.manifest, tuple(x + 1 for x in found.arrays)), BASE)
    assert torch.equal(model.get_parameter("layer.adapters.spleen.lora_B"), torch.ones(4, 3))
    use_adapter(model, "default")
    again = get_parameters(model, BASE)
    assert list(again.manifest.layers) == ["layer"]  # the head is the other's
    assert all(np.array_equal(array, first[name]) for name, array in again.by_name.items())


def test_a_frozen_a_of_an_adapter_with_a_name_stays_here_too() -> None:
    model = Small()
    inject_lora(model, ["layer"], 2, 4.0, adapter="liver", seed=0)
    freeze_a(model)
    found = get_parameters(model, BASE)
    assert [key.name for key in found.manifest.keys] == ["layer.lora_B"]
    assert found.manifest.held


def test_parts_come_back_travel_and_must_be_the_same_blocks() -> None:
    sites = {}
    for parts in ("qkv", "q_v", "qk_"):
        torch.manual_seed(7)
        model = nn.Sequential(nn.Linear(6, 9))
        inject_lora(model, patterns={"0": {"rank": 2, "parts": parts}}, seed=0)
        nn.init.ones_(model.get_parameter("0.lora_B"))
        sites[parts] = model
    for model in sites.values():
        x = torch.randn(3, 6)
        before, sent = model(x), get_parameters(model, BASE, samples=2)
        found = decode(encode(sent), most_bytes(sent.manifest))
        assert found.manifest == sent.manifest
        set_parameters(model, average([found, sent], SVD).parameters, BASE)
        assert torch.allclose(model(x), before, atol=1e-5)
    with pytest.raises(ValueError, match="0 has the parts 'qk_', expected 'q_v'"):
        set_parameters(sites["q_v"], get_parameters(sites["qk_"], BASE), BASE)
