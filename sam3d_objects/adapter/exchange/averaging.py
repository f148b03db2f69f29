"""One adapter from those of several sites.

The update of a layer is scaling B A, and the mean of the sites' updates is mean(B A). The mean of A times the mean of B
is something else: with two sites it differs by (B1 - B2)(A1 - A2) / 4. Three rules:

- `fedavg`: A and B are averaged apart (McMahan et al. 2017, arXiv 1602.05629; for LoRA: FedIT, arXiv 2305.05644). Cheap
  and common, and wrong by that term, which grows with what sites train between two rounds.
- `frozen_a`: only B trains and is sent, so the mean is exact and half as large (FFA-LoRA, arXiv 2403.12313). The
  adapter has fewer free numbers. Of an embedding B is the drawn one: A trains there and is sent, just as exactly.
- `svd`: the mean of B A is taken exactly and cut back to the rank (as FlexLoRA does, arXiv 2402.11505), which is the
  nearest adapter of that rank; what does not fit the rank is lost, and how much is reported.

The parts of a fused weight (q, k and v) are layers of their own in this. Whatever is no pair of A and B (heads,
norms) is averaged as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sam3d_objects.adapter.exchange.parameters import AdapterParameters, check_same
from sam3d_objects.adapter.exchange.product import (
    distance_of_parts,
    matrix_pairs,
    mean_factors,
    part_factors,
    truncated,
)
from sam3d_objects.arrays import AnyArray, FloatArray

FEDAVG, FROZEN_A, SVD = "fedavg", "frozen_a", "svd"
RULES = (FEDAVG, FROZEN_A, SVD)


@dataclass(frozen=True)
class Average:
    """The average of several adapters.

    Attributes:
        parameters: of it; its samples are those of all.
        off_percent: name of an A -> how far its layer's B A lies from the exact mean of the sites' B A (Frobenius
            norm of the difference, percent of the mean's). It is of the product B A alone. With DoRA or PiSSA that is
            not the share of the weight's update: DoRA scales each row of the sum of base and B A by a length that
            it learns (averaged as it is), PiSSA subtracts the B A from which it started.
    """

    parameters: AdapterParameters
    off_percent: Mapping[str, float]

    @property
    def worst_percent(self) -> float:
        """The largest of `off_percent`; 0 where there is none."""
        return max(self.off_percent.values(), default=0.0)


def check_rule(rule: str) -> None:
    """Raise ValueError unless `rule` is one of `RULES`."""
    if rule not in RULES:
        raise ValueError(f"adapters are averaged by {', '.join(RULES)}; got {rule!r}")


def average(sites: Sequence[AdapterParameters], rule: str = SVD) -> Average:
    """Average adapters, each weighted by its samples.

    The order of the sites does not matter beyond rounding; sums are in float64.

    Raises:
        ValueError: no site, a site without samples, an unknown rule, adapters of different kinds, or A matrices among
            the arrays that differ where they were to be frozen.
    """
    check_rule(rule)
    if not sites:
        raise ValueError("there is no adapter to average")
    for site in sites:
        check_same(sites[0].manifest, site.manifest)
        if site.samples < 1:
            raise ValueError(f"a site's weight is its number of samples, which must be 1 or more, got {site.samples}")
    samples = sum(site.samples for site in sites)
    weights = np.array([site.samples for site in sites], np.float64) / samples
    tables = [site.by_name for site in sites]
    means = {name: _mean([table[name] for table in tables], weights) for name in tables[0]}
    off_percent = {}
    for a_name, b_name in matrix_pairs(list(means)):
        pairs = [(table[a_name], table[b_name]) for table in tables]
        if rule == FROZEN_A and not all(np.array_equal(a, pairs[0][0]) for a, _ in pairs):
            raise ValueError(f"{a_name} differs between sites: with the rule {FROZEN_A} only B trains (freeze_a)")
        # Part -> (A, B) of every site.
        parts = [list(part) for part in zip(*(part_factors(a, b, a_name) for a, b in pairs), strict=True)]
        exact = [mean_factors(part, weights) for part in parts]
        if rule == SVD:
            rank = parts[0][0][0].shape[0]
            found = [truncated(*mean, rank, _row_norm(part)) for mean, part in zip(exact, parts, strict=True)]
            for name, blocks in zip((a_name, b_name), zip(*found, strict=True), strict=True):
                means[name] = np.concatenate(blocks).reshape(means[name].shape)
        off_percent[a_name] = 100 * distance_of_parts(exact, part_factors(means[a_name], means[b_name], a_name))
    arrays = tuple(means[key.name].astype(key.dtype) for key in sites[0].manifest.keys)
    return Average(AdapterParameters(sites[0].manifest, arrays, samples), off_percent)


def _mean(arrays: Sequence[AnyArray], weights: FloatArray) -> FloatArray:
    total = np.zeros(arrays[0].shape, np.float64)
    for weight, array in zip(weights, arrays, strict=True):
        total += weight * array
    return total


def _row_norm(factors: list[tuple[FloatArray, FloatArray]]) -> float:
    """The root mean square length of the rows of the sites' A; 1 where they are zero."""
    squares = np.concatenate([np.square(a).sum(axis=1) for a, _ in factors])
    return float(np.sqrt(squares.mean())) or 1.0
