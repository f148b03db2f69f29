"""Names say what a system is: model, variant, baseline or ceiling."""

import pytest

from sam3d_objects.report.systems import description, kind, title


@pytest.mark.parametrize(
    ("name", "found", "words"),
    [
        ("adapted", "model", "adapted model"),
        ("adapted_k8", "variant", "adapted model, K = 8"),
        ("base_nofit", "variant", "base model, not fitted to the slice"),
        ("pca_shape", "baseline", "PCA shape model"),
        ("direct", "baseline", "direct U-Net"),
        ("my_method", "baseline", "my method"),
        ("ceiling_grid64", "ceiling", "ceiling: 64³ grid"),
        ("ceiling_other", "ceiling", "ceiling other"),
    ],
)
def test_names(name: str, found: str, words: str) -> None:
    assert kind(name) == found and title(name) == words


def test_an_unknown_system_has_no_description() -> None:
    assert description("my_method") == ""
    assert description("adapted_k1") == "the adapted model with another setting of the sampling"
