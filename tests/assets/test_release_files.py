"""The table of the released files is the published one, and says what is wrong with a file."""

import hashlib
import json
from pathlib import Path

import pytest

from sam3d_objects.assets.release_files import ReleaseFile, release_table

CONTENT = b"weights"


def test_the_table_is_the_published_one(shared_reference: Path) -> None:
    published = json.loads((shared_reference / "release_files.json").read_text(encoding="utf-8"))
    table = release_table()
    assert table.revision == published["revision"] and published["repository"].startswith(table.repository)
    ours = {name: (file.size, file.sha256) for name, file in table.files.items()}
    assert ours == {name: (entry["bytes"], entry.get("sha256")) for name, entry in published["files"].items()}


def test_the_sizes_of_the_modules_are_the_manifests_(shared_reference: Path) -> None:
    summary = json.loads((shared_reference / "manifests" / "SUMMARY.json").read_text(encoding="utf-8"))
    names = {
        ("structure", "condition_embedder"): "ss_generator__condition_embedder",
        ("structure", "flow"): "ss_generator__generator",
        ("structure", "decoder"): "ss_decoder",
        ("structure", "encoder"): "ss_encoder__ASSUMED_TRELLIS_CONFIG",
        ("latent", "condition_embedder"): "slat_generator__condition_embedder",
        ("latent", "flow"): "slat_generator__generator",
        ("latent", "mesh_decoder"): "slat_decoder_mesh",
        ("latent", "encoder"): "slat_encoder__ASSUMED_TRELLIS_CONFIG",
    }
    ours = {(stage, part): n for stage, parts in release_table().elements.items() for part, n in parts.items()}
    assert ours == {key: summary[name]["params"] + summary[name]["buffer_elems"] for key, name in names.items()}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "missing"),
        (b"", "empty (0 bytes), expected 7"),
        (b"weight", "6 bytes, expected 7"),
        (
            b"Weights",
            f"SHA-256 {hashlib.sha256(b'Weights').hexdigest()}, expected {hashlib.sha256(CONTENT).hexdigest()}",
        ),
        (CONTENT, None),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, content: bytes | None, said: str | None) -> None:
    file = ReleaseFile("a.ckpt", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), "both")
    path = tmp_path / file.name
    if content is not None:
        path.write_bytes(content)
    assert file.problem(path, with_hash=True) == said
    unhashed = None if content == b"Weights" else said
    assert file.problem(path, with_hash=False) == unhashed
    assert ReleaseFile("a.ckpt", len(CONTENT), None, "both").problem(path, with_hash=True) == unhashed
