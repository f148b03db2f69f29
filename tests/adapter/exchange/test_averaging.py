"""Averages of adapters: the exact mean where it can be had, and how far off the others are."""

import numpy as np
import pytest

from sam3d_objects.adapter.exchange import FEDAVG, FROZEN_A, RULES, SVD, AdapterParameters, average
from sam3d_objects.adapter.exchange.product import as_factors, distance, truncated
from tests.adapter.exchange.adapters import by_hand, drawn, product

HEAD = np.zeros((2, 4))


def one_number(a: float, b: float, samples: int = 1) -> AdapterParameters:
    """An adapter of one input and one output: its update is the number b a."""
    return by_hand([[a]], [[b]], [[samples]], samples)


def test_averages_of_a_and_b_apart_are_off_by_a_quarter_of_the_product_of_their_differences() -> None:
    # Updates 1 x 1 = 1 and 3 x 3 = 9: their mean is 5. Mean A is 2, mean B is 2: 4, which is (3 - 1)(3 - 1) / 4 less.
    sites = [one_number(1, 1), one_number(3, 3)]
    plain = average(sites, FEDAVG)
    assert product(plain.parameters).item() == pytest.approx(4.0)
    assert plain.worst_percent == pytest.approx(100 * (5 - 4) / 5)
    exact = average(sites, SVD)
    assert product(exact.parameters).item() == pytest.approx(5.0)
    assert exact.worst_percent == pytest.approx(0.0, abs=1e-4)


def test_sites_weigh_as_much_as_they_have_samples() -> None:
    sites = [one_number(2, 1, samples=1), one_number(2, 5, samples=3)]  # updates 2 and 10
    for rule in RULES:
        found = average(sites, rule).parameters
        assert product(found).item() == pytest.approx((2 + 3 * 10) / 4)
        assert found.by_name["head.weight"].item() == pytest.approx((1 + 3 * 3) / 4)
        assert found.samples == 4


def test_a_frozen_a_makes_the_mean_of_b_exact() -> None:
    a = np.random.default_rng(0).normal(size=(2, 5))
    sites = [by_hand(a, np.random.default_rng(seed).normal(size=(4, 2)), HEAD) for seed in (1, 2, 3)]
    found = average(sites, FROZEN_A)
    assert np.allclose(product(found.parameters), np.mean([product(site) for site in sites], axis=0), atol=1e-6)
    assert found.worst_percent < 1e-4
    with pytest.raises(ValueError, match=r"lora_A differs between sites.*only B trains"):
        average([sites[0], drawn(5)], FROZEN_A)


def test_svd_is_the_nearest_update_of_the_rank() -> None:
    sites = [drawn(seed, samples=seed + 1) for seed in range(3)]
    weights = np.array([1, 2, 3]) / 6
    mean = sum(w * product(site) for w, site in zip(weights, sites, strict=True))
    u, s, vt = np.linalg.svd(mean)
    nearest = (u[:, :2] * s[:2]) @ vt[:2]
    found = average(sites, SVD)
    assert np.allclose(product(found.parameters), nearest, atol=1e-6)
    # Eckart and Young: what is lost is the norm of the singular values that were cut.
    assert found.worst_percent == pytest.approx(100 * np.linalg.norm(s[2:]) / np.linalg.norm(s), rel=1e-5)
    assert found.worst_percent < average(sites, FEDAVG).worst_percent


def test_svd_keeps_a_single_site_as_it_is_and_does_not_mind_the_order() -> None:
    one, other = drawn(1), drawn(2)
    assert np.allclose(product(average([one], SVD).parameters), product(one), atol=1e-6)
    assert np.allclose(
        product(average([one, other], SVD).parameters), product(average([other, one], SVD).parameters), atol=1e-6
    )


def test_a_direction_that_nobody_uses_can_still_be_learnt() -> None:
    """With B zero everywhere, as in a fresh adapter, A must not become zero too: no gradient would ever pass."""
    fresh = [by_hand(drawn(seed).arrays[0], np.zeros((4, 2)), HEAD) for seed in (1, 2)]
    arrays = average(fresh, SVD).parameters.by_name
    assert not arrays["layer.lora_B"].any()
    lengths = np.linalg.norm(arrays["layer.lora_A"], axis=1)
    expected = np.sqrt(np.mean([np.square(site.arrays[0]).sum(axis=1) for site in fresh]))
    assert np.allclose(lengths, expected, rtol=1e-5)


def test_svd_serves_layers_narrower_than_the_rank_and_convolutions() -> None:
    narrow = [drawn(seed, rank=6, shape=(2, 3)) for seed in (1, 2)]
    mean = np.mean([product(site) for site in narrow], axis=0)
    assert np.allclose(product(average(narrow, SVD).parameters), mean, atol=1e-5)
    a, b = np.random.default_rng(0).normal(size=(2, 3, 3, 3)), np.random.default_rng(1).normal(size=(4, 2, 1, 1))
    arrays = average([by_hand(a, b, HEAD)], SVD).parameters.by_name
    assert arrays["layer.lora_A"].shape == (2, 3, 3, 3)
    assert arrays["layer.lora_B"].shape == (4, 2, 1, 1)
    before = b.reshape(4, 2) @ a.reshape(2, -1)
    assert np.allclose(arrays["layer.lora_B"].reshape(4, 2) @ arrays["layer.lora_A"].reshape(2, -1), before, atol=1e-5)


def test_matrices_without_a_product_are_named() -> None:
    for a, b in ((np.ones((5, 3)), np.ones((4, 2))), (np.ones((4, 3)), np.ones((5, 2)))):
        with pytest.raises(
            ValueError, match=rf"layer\.lora_A: A is \({len(a)}, 3\) and B \({len(b)}, 2\), which have no"
        ):
            average([by_hand(a, b, HEAD)], SVD)
    with pytest.raises(ValueError, match="which is 2 products and not one"):
        as_factors(np.ones((4, 3)), np.ones((4, 2)), "x")


def _part_products(site: AdapterParameters) -> list[np.ndarray]:
    """The updates of a fused layer's three parts of rank 2."""
    arrays = site.by_name
    blocks = zip(np.split(arrays["layer.lora_A"], 3), np.split(arrays["layer.lora_B"], 3), strict=True)
    return [b.astype(np.float64) @ a for a, b in blocks]


def test_the_parts_of_a_fused_layer_are_averaged_each_for_itself() -> None:
    """A (6, 6), B (9, 2): q, k and v of three rows each, of rank 2."""
    generator = np.random.default_rng(0)
    sites = [by_hand(generator.normal(size=(6, 6)), generator.normal(size=(9, 2)), HEAD, samples) for samples in (1, 3)]
    means = [(one + 3 * other) / 4 for one, other in zip(*map(_part_products, sites), strict=True)]
    size = np.linalg.norm(means)
    found = average(sites, SVD)
    lost = []
    for mean, update in zip(means, _part_products(found.parameters), strict=True):
        u, s, vt = np.linalg.svd(mean)
        assert np.allclose(update, (u[:, :2] * s[:2]) @ vt[:2], atol=1e-5)
        lost.append(s[2:])
    assert found.worst_percent == pytest.approx(100 * np.linalg.norm(lost) / size, rel=1e-5)
    plain = average(sites, FEDAVG)
    for name in ("layer.lora_A", "layer.lora_B"):
        one, other = (site.by_name[name] for site in sites)
        assert np.allclose(plain.parameters.by_name[name], (one + 3 * other) / 4, atol=1e-6)
    gaps = np.subtract(means, _part_products(plain.parameters))
    assert plain.worst_percent == pytest.approx(100 * np.linalg.norm(gaps) / size, rel=1e-5)


def test_what_can_not_be_averaged_is_refused() -> None:
    with pytest.raises(ValueError, match="no adapter to average"):
        average([])
    with pytest.raises(ValueError, match="averaged by fedavg, frozen_a, svd; got 'mean'"):
        average([drawn(1)], "mean")
    with pytest.raises(ValueError, match="must be 1 or more, got 0"):
        average([drawn(1, samples=0)])
    with pytest.raises(ValueError, match="layer has rank 3, expected rank 2"):
        average([drawn(1), drawn(2, rank=3)])


def test_truncation_alone_is_an_identity_up_to_the_rank() -> None:
    generator = np.random.default_rng(3)
    left, right = generator.normal(size=(7, 3)), generator.normal(size=(3, 6))
    a, b = truncated(left, right, rank=3, row_norm=0.5)
    assert np.allclose(b @ a, left @ right)
    assert np.allclose(a @ a.T, 0.25 * np.eye(3), atol=1e-12)
    assert distance(left, right, a, b) == 0.0
    assert distance(left, right, 2 * a, b) == pytest.approx(1.0)
    assert as_factors(a, b, "x")[0].dtype == np.float64
