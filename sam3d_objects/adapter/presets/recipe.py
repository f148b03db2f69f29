"""Recipes: rank, dropout and learning rate by the size of the data set.

Few samples are learnt by heart soon: a small rank and dropout hold against it. Many samples have more to say than a
small rank can keep, and a larger update wants smaller steps.
"""

from dataclasses import dataclass

from sam3d_objects.files import nearest

ALPHA_PER_RANK = 2.0
"""alpha / rank of every recipe: the update is scaled alike, so that a learning rate suits all ranks."""
NONE, BY_COUNT = "none", "auto"


@dataclass(frozen=True)
class Recipe:
    """What training is told for one size of data set.

    Attributes:
        name: `small`, `medium` or `large`.
        size: the data sets that it is for, in words.
        rank, dropout: of LoRA.
        lr_factor: what the learning rate that would be used otherwise is multiplied by.
    """

    name: str
    size: str
    rank: int
    dropout: float
    lr_factor: float = 1.0

    @property
    def alpha(self) -> float:
        """LoRA's alpha; the update is scaled by alpha / rank."""
        return ALPHA_PER_RANK * self.rank

    def describe(self, samples: int | None = None) -> str:
        """Return one line for people; `samples` is the count that the recipe was chosen by, if it was."""
        why = self.size if samples is None else f"{samples:,} training samples, {self.size}"
        return (
            f"recipe {self.name} ({why}): rank {self.rank}, alpha {self.alpha:g}, dropout {self.dropout:g}, "
            f"learning rate x {self.lr_factor:g}"
        )


SMALL_BELOW, MEDIUM_TO = 2_000, 5_000
RECIPES = {
    recipe.name: recipe
    for recipe in (
        Recipe("small", f"under {SMALL_BELOW:,} samples", rank=4, dropout=0.1),
        Recipe("medium", f"{SMALL_BELOW:,} to {MEDIUM_TO:,} samples", rank=8, dropout=0.05),
        Recipe("large", f"over {MEDIUM_TO:,} samples", rank=16, dropout=0.0, lr_factor=0.5),
    )
}
RECIPE_NAMES = (NONE, *RECIPES, BY_COUNT)


def recipe_for(samples: int) -> Recipe:
    """Return the recipe for a number of training samples.

    Raises:
        ValueError: there are none.
    """
    if samples < 1:
        raise ValueError(f"a recipe is chosen by the number of training samples, at least 1; got {samples}")
    if samples < SMALL_BELOW:
        return RECIPES["small"]
    return RECIPES["medium" if samples <= MEDIUM_TO else "large"]


def choose_recipe(name: str, samples: int | None = None) -> Recipe | None:
    """Return the recipe of a name: None for `none`, and for `auto` the one for `samples`.

    Raises:
        ValueError: no recipe has that name, or `auto` without a number of samples.
    """
    if name not in RECIPE_NAMES:
        raise ValueError(f"a recipe is one of {', '.join(RECIPE_NAMES)}; got {name!r}.{nearest(name, RECIPE_NAMES)}")
    if name != BY_COUNT:
        return RECIPES.get(name)
    if samples is None:
        raise ValueError(f"the recipe {BY_COUNT} counts training samples: say how many there are, or name a recipe")
    return recipe_for(samples)
