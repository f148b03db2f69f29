"""Recipes: which size of data set gets which, and that what is said wins."""

import pytest

from sam3d_objects.adapter.presets import RECIPE_NAMES, RECIPES, choose_recipe, recipe_for


@pytest.mark.parametrize(
    ("samples", "name"),
    [(1, "small"), (1_999, "small"), (2_000, "medium"), (5_000, "medium"), (5_001, "large"), (10**7, "large")],
)
def test_the_number_of_samples_chooses(samples: int, name: str) -> None:
    assert recipe_for(samples).name == name
    chosen = choose_recipe("auto", samples)
    assert chosen is recipe_for(samples)
    assert f"{samples:,} training samples" in chosen.describe(samples)


def test_the_numbers_of_the_recipes() -> None:
    numbers = {name: (r.rank, r.alpha, r.dropout) for name, r in RECIPES.items()}
    assert numbers == {"small": (4, 8.0, 0.1), "medium": (8, 16.0, 0.05), "large": (16, 32.0, 0.0)}
    assert RECIPES["small"].lr_factor == RECIPES["medium"].lr_factor == 1.0 > RECIPES["large"].lr_factor


def test_a_name_chooses_whatever_the_size() -> None:
    assert choose_recipe("large", 10) is RECIPES["large"]
    assert choose_recipe("none", 10) is None
    assert RECIPE_NAMES == ("none", "small", "medium", "large", "auto")


def test_what_does_not_go() -> None:
    with pytest.raises(ValueError, match=r"got 'smal'\. Did you mean 'small'"):
        choose_recipe("smal")
    with pytest.raises(ValueError, match="say how many there are"):
        choose_recipe("auto")
    with pytest.raises(ValueError, match="at least 1; got 0"):
        recipe_for(0)
