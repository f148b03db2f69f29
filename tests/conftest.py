"""Fixtures that every test may use."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_folder() -> Path:
    """The folder beside the repository with reference vectors and real scans (SAM3D_SHARED moves it)."""
    folder = Path(os.environ.get("SAM3D_SHARED", REPOSITORY.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no reference folder at {folder}: set SAM3D_SHARED to run the tests that need it")
    return folder


@pytest.fixture(scope="session")
def shared_data(shared_folder: Path) -> Path:
    """The folder of real scans: `Task04_Hippocampus` and `totalsegmentator_sample`."""
    folder = shared_folder / "data"
    if not folder.is_dir():
        pytest.skip(f"no real scans at {folder}: set SAM3D_SHARED to run the tests that need them")
    return folder


@pytest.fixture(scope="session")
def shared_reference(shared_folder: Path) -> Path:
    """The folder of reference material: golden vectors, manifests, the release's configs."""
    folder = shared_folder / "reference"
    if not (folder / "golden").is_dir():
        pytest.skip(f"no reference vectors at {folder}: set SAM3D_SHARED to run the tests that need them")
    return folder
