"""Averages of B A: exactly, in factors, and back to low rank by a truncated singular value decomposition.

Letters: r the rank, n sites, m x k the shape of a layer's update as a matrix (m outputs; of a convolution, k is all
that follows the rank in A). A fused weight with p adapted parts has A (p r, k) and B (m, r): part i is the i-th block
of rows of each, and has a product of its own.
"""

import numpy as np

from sam3d_objects.arrays import FloatArray

_A, _B = "lora_A", "lora_B"


def matrix_pairs(names: list[str]) -> list[tuple[str, str]]:
    """Return the names of each A and its B among an adapter's names."""
    pairs = []
    for name in names:
        parts = name.split(".")
        if _A in parts:
            partner = ".".join(_B if part == _A else part for part in parts)
            if partner in names:
                pairs.append((name, partner))
    return pairs


def as_factors(a: FloatArray, b: FloatArray, name: str) -> tuple[FloatArray, FloatArray]:
    """Return A as (r, k) and B as (m, r), in float64; of a convolution, grouped or not, with its kernel in k.

    Raises:
        ValueError: the two don't share a rank (a fused weight with parts: see `part_factors`).
    """
    factors = part_factors(a, b, name)
    if len(factors) > 1:
        raise ValueError(f"{name}: A is {a.shape} and B {b.shape}, which is {len(factors)} products and not one")
    return factors[0]


def part_factors(a: FloatArray, b: FloatArray, name: str) -> list[tuple[FloatArray, FloatArray]]:
    """Return A as (r, k) and B as (m / p, r), in float64, of each of a layer's p parts; p is 1 ordinarily.

    Raises:
        ValueError: shapes that no adapted layer has.
    """
    rows, columns = (x.reshape(len(x), -1).astype(np.float64) for x in (a, b))
    rank = columns.shape[1]
    parts = len(rows) // rank if rank else 0
    if not parts or len(rows) != parts * rank or len(columns) % parts:
        raise ValueError(f"{name}: A is {a.shape} and B {b.shape}, which have no product")
    return list(zip(np.split(rows, parts), np.split(columns, parts), strict=True))


def mean_factors(factors: list[tuple[FloatArray, FloatArray]], weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return X (m, n r) and Y (n r, k) with X Y = sum of w_i B_i A_i: the exact mean, without forming it."""
    left = np.concatenate([weight * b for weight, (_, b) in zip(weights, factors, strict=True)], axis=1)
    return left, np.concatenate([a for a, _ in factors], axis=0)


def truncated(left: FloatArray, right: FloatArray, rank: int, row_norm: float) -> tuple[FloatArray, FloatArray]:
    """Return the A (r, k) and B (m, r) whose product is the nearest to `left` @ `right` that a rank r allows.

    Eckart and Young (1936); from QR decompositions of the two factors, so that only an (n r, n r) matrix is
    decomposed. Of the many A and B with this product, the one is taken in which the rows of A are orthogonal and all of
    one length, as those of a fresh adapter nearly are, and the size of the update is in B: a direction that nobody
    uses has a zero B, as a fresh one has, and can still be learnt.

    Args:
        left, right: (m, n r), (n r, k).
        rank: r.
        row_norm: length of A's rows, above 0.
    """
    q_left, r_left = np.linalg.qr(left)
    q_right, r_right = np.linalg.qr(right.T)
    u, values, vt = np.linalg.svd(r_left @ r_right.T, full_matrices=False)
    a, b = (vt @ q_right.T)[:rank], (q_left @ u)[:, :rank] * values[:rank]
    # Of the two signs the same on every machine.
    signs = np.sign(a[np.arange(len(a)), np.abs(a).argmax(axis=1)])
    signs[signs == 0] = 1.0
    a, b = a * signs[:, None] * row_norm, b * signs / row_norm
    missing = rank - len(a)  # a layer narrower than the rank
    return np.pad(a, ((0, missing), (0, 0))), np.pad(b, ((0, 0), (0, missing)))


def distance(left: FloatArray, right: FloatArray, a: FloatArray, b: FloatArray) -> float:
    """Return the Frobenius norm of B A - X Y as a share of that of X Y; 0 where X Y is zero."""
    return distance_of_parts([(left, right)], [(a, b)])


def distance_of_parts(exact: list[tuple[FloatArray, FloatArray]], found: list[tuple[FloatArray, FloatArray]]) -> float:
    """Return `distance` of a whole layer from X, Y (`mean_factors`) and A, B (`part_factors`) of each of its parts.

    Taken from Gram matrices of the factors: ||P Q||^2 = trace(P^T P Q Q^T).
    """
    whole = sum(_square(left, right) for left, right in exact)
    gap = sum(
        _square(np.concatenate([left, -b], axis=1), np.concatenate([right, a], axis=0))
        for (left, right), (a, b) in zip(exact, found, strict=True)
    )
    # What is left of equal squares is rounding: below the root of float64's precision there is no difference.
    return 0.0 if whole == 0.0 or gap < 1e-14 * whole else float(np.sqrt(gap / whole))


def _square(left: FloatArray, right: FloatArray) -> float:
    return float(np.sum((left.T @ left) * (right @ right.T)))
