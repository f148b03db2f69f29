"""A release-like folder, whole, to break."""

import shutil
from pathlib import Path

import pytest

from tests.model.release_folder import write_release


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "checkpoints"
    folder.mkdir()
    write_release(folder)
    return folder


@pytest.fixture
def release(pristine: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    return Path(shutil.copytree(pristine, tmp_path / "checkpoints"))
