"""The slices on which training is validated: fixed, of validation patients, without augmentation."""

from collections.abc import Sequence

import numpy as np

from sam3d_objects.dataset import Sample, TS_SAM3D_Dataset, evaluation_slices


class ValidationSlices(Sequence[Sample]):
    """The evaluation slices (largest and one random, of each plane) of every organ of a data set's cases.

    Args:
        dataset: of the validation patients.
        seed: of the random slices.
        most: at most so many slices, spread evenly over the cases.
    """

    def __init__(self, dataset: TS_SAM3D_Dataset, seed: int, most: int = 300) -> None:
        self.dataset = dataset
        every = [
            (case, organ, plane, index)
            for case, organ in dataset.pairs
            for plane, _, index in evaluation_slices(dataset.case(case), organ, seed, dataset.planes)
        ]
        chosen = np.linspace(0, len(every) - 1, min(most, len(every))).round().astype(int)
        self.slices = [every[i] for i in chosen]

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, number: int) -> Sample:  # type: ignore[override]  # no slices of slices
        """Return the sample of slice `number`."""
        return self.dataset.sample(*self.slices[number])
