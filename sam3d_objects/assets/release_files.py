"""The table of the released files: names, sizes, hashes, what reads them; and a folder held against it."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from sam3d_objects.files import read_json, sha256_file

Stage = Literal["both", "structure", "latent", "encoders", "gaussians", "spare"]
TABLE = Path(__file__).with_name("release_files.json")


@dataclass(frozen=True)
class ReleaseFile:
    """One file of the release.

    Attributes:
        size: in bytes.
        sha256: 64 hex digits; None where nobody has published it.
        stage: what reads it: a stage or 'both', training alone ('encoders'), or nothing here ('gaussians' are other
            decoders, 'spare' are doubles and placeholders).
    """

    name: str
    size: int
    sha256: str | None
    stage: Stage

    def problem(self, path: Path, with_hash: bool) -> str | None:
        """Say what is wrong with the file at `path`, or None.

        Args:
            with_hash: read it whole and compare its hash, too.
        """
        if not path.is_file():
            return "missing"
        size = path.stat().st_size
        if size != self.size:
            return f"{size:,} bytes, expected {self.size:,}" if size else f"empty (0 bytes), expected {self.size:,}"
        if with_hash and self.sha256 is not None:
            found = sha256_file(path)
            if found != self.sha256:
                return f"SHA-256 {found}, expected {self.sha256}"
        return None


@dataclass(frozen=True)
class ReleaseTable:
    """The release as it is known.

    Attributes:
        repository, revision: where on the Hugging Face hub.
        files: by name.
        elements: stage -> module -> numbers that its weights hold.
    """

    repository: str
    revision: str
    files: dict[str, ReleaseFile]
    elements: dict[str, dict[str, int]]


@cache
def release_table() -> ReleaseTable:
    """Read the table that comes with the package."""
    content: dict[str, Any] = read_json(TABLE)
    files = {
        name: ReleaseFile(name, entry["bytes"], entry.get("sha256"), entry["stage"])
        for name, entry in content["files"].items()
    }
    return ReleaseTable(content["repository"], content["revision"], files, content["elements"])
