"""`sam3d-med eval --protocol slice3d-2602`: how a model is used on the protocol's eight-bit slices."""

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sam3d_objects.adapter import InferenceContract


def eight_bit_contract(contract: "InferenceContract") -> "InferenceContract":
    """Return a contract under which the levels 0 to 255 become 0 to 1, whatever the scanner.

    The protocol's slices are no Hounsfield units: a CT window would make most of them white.
    """
    return dataclasses.replace(contract, window_hu=(0.0, 255.0), percentiles=(0.0, 100.0))
