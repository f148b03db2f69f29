import numpy as np
import pytest

from sam3d_objects.volume import Intensity, quantile_summary


def test_ct_window_by_hand() -> None:
    image = np.array([[-1000, -160, 40], [140, 240, 3000]], dtype=np.int16)
    scaled = Intensity("ct").normalise(image)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [[0, 0, 0.5], [0.75, 1, 1]])


def test_ct_looks_at_no_reference() -> None:
    image = np.array([40.0])
    assert Intensity("ct").normalise(image, reference=np.array([np.nan, 1e9]))[0] == 0.5


@pytest.mark.parametrize("modality", ["mr", "us"])
def test_percentiles_by_hand(modality: str) -> None:
    image = np.arange(101.0)
    scaled = Intensity(modality, percentiles=(10, 90)).normalise(image)
    np.testing.assert_allclose(scaled[[0, 10, 50, 90, 100]], [0, 0, 0.5, 1, 1], atol=1e-6)


def test_percentiles_of_the_reference() -> None:
    scaled = Intensity("mr", percentiles=(0, 100)).normalise(
        np.array([0.0, 5.0, 20.0]), np.array([0.0, 10.0])
    )
    np.testing.assert_allclose(scaled, [0, 0.5, 1])


def test_scale_of_an_mr_scan_does_not_matter() -> None:
    image = np.random.default_rng(0).gamma(2.0, 100.0, (20, 20))
    intensity = Intensity("mr")
    np.testing.assert_allclose(intensity.normalise(image * 1e4), intensity.normalise(image), atol=1e-6)


def test_constant_image_is_zero() -> None:
    assert (Intensity("mr").normalise(np.full((3, 3), 7.0)) == 0).all()


def test_nearly_all_background_keeps_its_contrast() -> None:
    image = np.zeros(10_000)
    image[:10] = 200
    np.testing.assert_array_equal(Intensity("us").normalise(image)[:11], [1] * 10 + [0])


@pytest.mark.parametrize("modality", ["ct", "mr"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_intensities(modality: str, bad: float) -> None:
    with pytest.raises(ValueError, match="1 NaN or infinite values in the image"):
        Intensity(modality).normalise(np.array([0.0, bad]))


def test_bad_reference() -> None:
    with pytest.raises(ValueError, match="in the reference"):
        Intensity("mr").normalise(np.zeros(3), np.array([np.nan]))
    with pytest.raises(ValueError, match="empty reference"):
        Intensity("mr").normalise(np.zeros(3), np.array([]))


def test_unknown_modality_gives_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"'mri'\. Did you mean 'mr'"):
        Intensity("mri")


@pytest.mark.parametrize("window_hu", [(240.0, -160.0), (0.0, 0.0), (0.0, np.nan), (1.0, 2.0, 3.0)])
def test_bad_window(window_hu: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="window_hu"):
        Intensity("ct", window_hu=window_hu)


@pytest.mark.parametrize("percentiles", [(-1.0, 99.0), (0.0, 101.0), (99.0, 1.0)])
def test_bad_percentiles(percentiles: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="percentiles"):
        Intensity("mr", percentiles=percentiles)


def test_equal_settings_are_equal_however_given() -> None:
    window: list[float] = [-160, 240]
    assert Intensity("ct", window_hu=(window[0], window[1])) == Intensity("ct")


def test_quantile_summary_stands_for_the_volume() -> None:
    voxels = np.random.default_rng(0).gamma(2.0, 100.0, (30, 31, 32))
    summary = quantile_summary(voxels)
    assert summary.shape == (1001,)
    image = voxels[3]
    for percentiles in ((0.5, 99.5), (1.0, 99.0), (0.0, 100.0)):
        intensity = Intensity("mr", percentiles=percentiles)
        np.testing.assert_allclose(
            intensity.normalise(image, summary), intensity.normalise(image, voxels), atol=1e-6
        )
