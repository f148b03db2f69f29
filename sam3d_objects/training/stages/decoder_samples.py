"""What the decoder stage learns from: shapes, without slices."""

import numpy as np

from sam3d_objects.dataset import TS_SAM3D_Dataset
from sam3d_objects.training.stages.shapes import ShapeKey


class ShapeSamples:
    """Each organ of a data set once an epoch, as one of its variants; a function of (seed, epoch, index).

    Args:
        dataset: whose organs, variants and seed they are; no slice of it is cut.
    """

    def __init__(self, dataset: TS_SAM3D_Dataset) -> None:
        self.dataset, self.epoch = dataset, 0

    def __len__(self) -> int:
        return len(self.dataset.pairs)

    def set_epoch(self, epoch: int) -> None:
        """Other variants in each epoch."""
        self.epoch = epoch

    def __getitem__(self, index: int) -> ShapeKey:
        """Return case, organ and variant of item `index`."""
        case, organ = self.dataset.pairs[index]
        generator = np.random.default_rng([self.dataset.seed, self.epoch, index])
        return case, organ, int(generator.integers(self.dataset.variants))
