"""A prepared data set that several tests read (and none changes)."""

from pathlib import Path

import pytest

from sam3d_objects.dataset import PrepareOptions, prepare
from tests.dataset.scans import write_decathlon


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten cases of five patients, the organ being the union of labels 1 and 2."""
    folder = tmp_path_factory.mktemp("prepared")
    source = write_decathlon(folder / "raw", [f"hippocampus_{number:03d}" for number in range(1, 11)])
    prepare(source, folder / "out", PrepareOptions(structures="organ=1+2"), say=lambda line: None)
    return folder / "out"
