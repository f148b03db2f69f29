"""Scene scale: what is 1 in every slice's positions, so that the network sees millimetres."""

import math

import numpy as np
import torch

from sam3d_objects.dataset import TS_SAM3D_Dataset
from sam3d_objects.model.preprocess import pointmap_statistics

MOST = 200  # slices; their median is rounded anyway


def typical_scene_scale_mm(dataset: TS_SAM3D_Dataset) -> float:
    """Return the power of two next to the median extent of a data set's slices, mm.

    A slice's extent is what the released model divides its positions by (`pointmap_statistics`); with one number for
    all slices near their median, positions stay in the range that the model knows, and say how large things are. The
    power of two keeps it the same where slices differ a little: with more patients, or at another hospital.

    Raises:
        ValueError: no slice.
    """
    if not len(dataset):
        raise ValueError("no slice to measure the scene scale on")
    scales_mm = []
    for index in range(0, len(dataset), math.ceil(len(dataset) / MOST)):
        sample = dataset[index]
        points = torch.from_numpy(sample.pointmap).permute(2, 0, 1)
        scales_mm.append(pointmap_statistics(points, torch.from_numpy(sample.slice.mask)[None]).scale)
    return 2.0 ** round(math.log2(float(np.median(scales_mm))))
