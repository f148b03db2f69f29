"""An attempt never raises what a case does wrong, and says what it was; what stops the program goes through."""

import pytest

from sam3d_objects.evaluation.attempt import attempt
from sam3d_objects.mesh import Mesh
from tests.evaluation.solids import box_mesh

BOX = box_mesh((0, 0, 0), (1, 2, 3))


def raises(error: BaseException) -> Mesh:
    raise error


def test_a_success_has_its_scores_and_no_reason() -> None:
    tried = attempt(lambda: BOX, lambda mesh: {"volume": mesh.volume})
    assert tried.mesh is BOX and tried.scores == pytest.approx({"volume": 6})
    assert (tried.reason, tried.trace) == ("", "") and 0 <= tried.seconds < 1


def test_a_prediction_that_raises_has_its_reason_on_one_line() -> None:
    tried = attempt(lambda: raises(MemoryError("out of\nmemory")), lambda mesh: {})
    assert (tried.mesh, tried.scores, tried.reason) == (None, None, "MemoryError: out of memory")
    assert "Traceback" in tried.trace


def test_scores_that_are_no_numbers_are_a_failure_that_keeps_the_mesh() -> None:
    tried = attempt(lambda: BOX, lambda mesh: {"dice": float("nan")})
    assert tried.scores is None and tried.mesh is BOX and "not finite" in tried.reason


def test_what_is_no_mesh_is_not_kept_as_one() -> None:
    tried = attempt(lambda: "a string", lambda mesh: {"dice": 1.0})  # type: ignore[arg-type, return-value]  # foreign
    assert tried.mesh is None


def test_an_interrupt_is_no_failed_case() -> None:
    with pytest.raises(KeyboardInterrupt):
        attempt(lambda: raises(KeyboardInterrupt()), lambda mesh: {})
