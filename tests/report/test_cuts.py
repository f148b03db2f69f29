"""Pictures are drawn in millimetres, and outlines run around the pixels that they mean."""

import re

import numpy as np

from sam3d_objects.report.cuts import case_cuts
from sam3d_objects.report.results import Row


def row() -> Row:
    return Row("a", "a", "ball", "axial", "largest", 1, "adapted", False, "", 1.0, {})


def test_outlines_are_in_millimetres() -> None:
    one = np.zeros((3, 4), dtype=bool)
    one[1, 2] = True
    artefact = {
        "slice_image": np.zeros((3, 4), np.uint8),
        "slice_mask": one,
        "slice_spacing_mm": np.array([2.0, 1.0]),
        "views": np.array(["axial"]),
        "view0_image": np.zeros((3, 4), np.uint8),
        "view0_truth": np.ones((3, 4), dtype=bool),
        "view0_prediction": np.zeros((3, 4), dtype=bool),
        "view0_spacing_mm": np.array([2.0, 1.0]),
    }
    given, cut = case_cuts(row(), artefact)
    assert 'viewBox="0 0 4.00 6.00"' in given.svg
    # Pixel (1, 2) is 2 to 3 mm across and 2 to 4 mm down; the outline touches the middle of each of its edges.
    assert points(given.svg) == {(2.0, 3.0), (3.0, 3.0), (2.5, 2.0), (2.5, 4.0)}
    # A mask that fills its picture is closed along the picture's edges.
    whole = np.array(sorted(points(cut.svg)))
    assert whole.min() == 0.0 and whole.max(axis=0).tolist() == [4.0, 6.0]
    assert 'class="prediction"' not in cut.svg and "the prediction does not reach it" in cut.svg


def points(svg: str) -> set[tuple[float, float]]:
    path = re.search(r' d="([^"]*)"', svg)
    assert path is not None
    found = re.findall(r"([\d.]+) ([\d.]+)", path[1])
    return {(float(x), float(y)) for x, y in found}
