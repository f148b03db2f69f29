"""One model used in several ways on the same samples: fewer of them, or not fitted.

What each choice of the contract is worth then costs one sampling and one fit of a slice, not one for each way.
Letter: K samples.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any

from sam3d_objects.adapter import InferenceContract
from sam3d_objects.model import SAM3DObjects
from sam3d_objects.reconstruct.field import PlacedSolid
from sam3d_objects.reconstruct.fit import fit_to_mask
from sam3d_objects.reconstruct.reconstructor import Reconstructor
from sam3d_objects.volume import SliceInput

# Suffix of a system's name -> what differs from the contract. With another K the threshold stays the contract's.
VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "": {},
    "_k1": {"samples": 1},
    "_k8": {"samples": 8},
    "_nofit": {"fit": False},
    "_noscale": {},
}


def variants(model: SAM3DObjects, contract: InferenceContract, stages: str = "both") -> dict[str, Reconstructor]:
    """Return a model's ways of being used: suffix of the system's name -> reconstructor.

    `""` is the contract's own way and gives the mesh of `Reconstructor(model, contract, stages)` to the last bit.
    The others are `_k1` and `_k8`, one and eight samples; `_nofit`, samples where the model puts them; and `_noscale`,
    where the fit moves them only. `_k1` is the first of K samples, `_k8` the first eight; from a contract
    of fewer than eight, `_k8` draws its own.

    The samples of the last slice are kept, so that ways that are asked one after another about the same `SliceInput`
    and seed share them. Who is asked first draws them: seconds tell costs of `""` asked alone, not of the others. The
    model's weights must not change meanwhile.

    Args:
        model: a base, adapted or merged model.
        contract: how slices are prepared and the model is sampled.
        stages: 'both' or 'structure', as for `Reconstructor`.
    """
    drawn: dict[int, SharedSamples] = {}
    found = {}
    for suffix, changes in VARIANTS.items():
        used = dataclasses.replace(contract, **changes)
        most = max(used.samples, contract.samples)
        if most not in drawn:
            drawn[most] = SharedSamples(model, dataclasses.replace(contract, samples=most))
        source = partial(drawn[most].first, count=used.samples, fit=used.fit, scale=suffix != "_noscale")
        found[suffix] = Reconstructor(model, used, stages, source)
    return found


class SharedSamples:
    """The K samples of the slice that was asked for last, as they were drawn and as they were fitted.

    Args:
        model: whose weights stay as they are.
        contract: of how many samples, and how they are drawn.
    """

    def __init__(self, model: SAM3DObjects, contract: InferenceContract) -> None:
        self._unfitted = Reconstructor(model, dataclasses.replace(contract, fit=False), "structure")
        self._asked: tuple[SliceInput, int] | None = None
        self._drawn: list[PlacedSolid] = []
        self._fitted: dict[bool, list[PlacedSolid]] = {}

    def first(self, slice: SliceInput, seed: int, count: int, fit: bool, scale: bool = True) -> list[PlacedSolid]:
        """Return the first `count` samples of a slice; all K are drawn, and fitted if need be, when they are new.

        Args:
            slice, seed: as for `Reconstructor`.
            count: at most K.
            fit: whether they are fitted to the mask.
            scale: whether the fit may scale them.
        """
        # The slice itself is kept, for the `id` of one that is gone may come again.
        if self._asked is None or self._asked[0] is not slice or self._asked[1] != seed:
            self._drawn, self._fitted = self._unfitted.samples(slice, seed), {}
            self._asked = slice, seed
        if not fit:
            return self._drawn[:count]
        if scale not in self._fitted:
            seen, _ = self._unfitted.prepared(slice)
            self._fitted[scale] = fit_to_mask(self._drawn, seen.mask, seen.plane, scale)
        return self._fitted[scale][:count]
