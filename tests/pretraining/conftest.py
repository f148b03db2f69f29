"""A bank of few shapes, made in this process."""

from collections.abc import Callable, Iterable, Iterator

import pytest

from sam3d_objects.pretraining import bank
from sam3d_objects.pretraining.bank import ShapeBank, load_bank

SHAPES, SEED, RESOLUTION = 6, 3, 16


class InProcess:
    """Stands in for a pool of processes: forking a test run that has threads is slow and may hang."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def __enter__(self) -> "InProcess":
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def map(self, function: Callable[[object], object], jobs: Iterable[object]) -> Iterator[object]:
        return map(function, jobs)


@pytest.fixture(scope="session")
def small_chunks() -> Iterator[None]:
    """Chunks of a few shapes instead of 500."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bank, "CHUNK", SHAPES // 2)
        patch.setattr(bank, "ProcessPoolExecutor", InProcess)
        yield


@pytest.fixture(scope="session")
def shapes(small_chunks: None, tmp_path_factory: pytest.TempPathFactory) -> ShapeBank:
    """Six procedural shapes in two chunks."""
    return load_bank(tmp_path_factory.mktemp("bank"), SHAPES, SEED, RESOLUTION, 1)
