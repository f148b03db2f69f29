"""How people keep labelled scans on disk: one file a layout, each with `detect` and `read`."""

from sam3d_objects.dataset.layouts.detect import read_layout
from sam3d_objects.dataset.layouts.raw import RawCase, RawDataset

__all__ = ["RawCase", "RawDataset", "read_layout"]
