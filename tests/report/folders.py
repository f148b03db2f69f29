"""An evaluation's folder, made in a moment: balls for organs, and one system that fails on every other slice."""

from pathlib import Path

from sam3d_objects.evaluation import Predictor, SummaryOptions, evaluate, write_summary
from sam3d_objects.mesh import Mesh
from sam3d_objects.volume import SliceInput
from tests.evaluation.solids import ball_case, ball_mesh


def radius(size_mm: float) -> Predictor:
    """A ball of one size, whatever is asked."""
    mesh = ball_mesh(size_mm, points=16)

    def predict(slice: SliceInput, seed: int) -> Mesh:
        return mesh

    return predict


def sometimes(slice: SliceInput, seed: int) -> Mesh:
    """A good ball for axial slices, and an exception for coronal ones."""
    if slice.plane.name == "coronal":
        raise RuntimeError("<no> mesh")
    return ball_mesh(9.5, points=16)


def evaluated_folder(out: Path, patients: int = 3) -> Path:
    """Judge four systems on two slices of each patient, and write rows, artefacts and summary into `out`."""
    cases = [ball_case(f"case <{n}>", 10.0 - 0.4 * n, plane) for n in range(patients) for plane in ("axial", "coronal")]
    systems = {"base": radius(6.0), "adapted": sometimes, "extrusion": radius(9.0), "mean_shape": radius(5.0)}
    rows = evaluate(cases, systems, out)
    write_summary(out, rows, SummaryOptions(notes=("margin 3 mm & no more",)))
    return out
