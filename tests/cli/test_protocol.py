"""Models see the protocol's eight bits as they are."""

import numpy as np
import pytest

from sam3d_objects.adapter import InferenceContract
from sam3d_objects.cli.protocol import eight_bit_contract
from sam3d_objects.volume import Intensity


@pytest.mark.parametrize("modality", ["ct", "mr"])
def test_eight_bits_become_grey_values_as_they_are(modality: str) -> None:
    contract = eight_bit_contract(InferenceContract(field_of_view="scan", modality=modality))
    intensity = Intensity(contract.modality, contract.window_hu, contract.percentiles)
    levels = np.array([0.0, 51, 102, 255])
    assert intensity.normalise(levels) == pytest.approx(levels / 255)
