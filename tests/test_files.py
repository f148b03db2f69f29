"""Files are whole or absent, and errors name them."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from sam3d_objects.files import atomic_path, nearest, read_json, sha256_file, write_json


def test_atomic_path_makes_folders_keeps_suffixes_and_leaves_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "new" / "ct.nii.gz"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffixes[-2:] == [".nii", ".gz"]
        temporary.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert os.listdir(target.parent) == ["ct.nii.gz"]


def test_atomic_path_keeps_the_old_file_when_the_writer_fails(tmp_path: Path) -> None:
    target = tmp_path / "mesh.stl"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="half way"), atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError("half way")
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["mesh.stl"]


def test_a_full_disk_is_an_error_that_names_the_target(tmp_path: Path) -> None:
    target = tmp_path / "adapter.safetensors"
    refusal = pytest.raises(OSError, match=r"cannot write .*adapter\.safetensors: .*No space left")
    with refusal as caught, atomic_path(target) as temporary:
        temporary.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == []


def test_a_writer_that_wrote_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"mesh\.ply"), atomic_path(tmp_path / "mesh.ply"):
        pass


def test_json_goes_round_in_order_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    write_json(path, {"b": 1, "a": [1.5, None]})
    assert list(read_json(path)) == ["b", "a"]
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"dice": float("nan")})
    assert read_json(path) == {"b": 1, "a": [1.5, None]}


@pytest.mark.parametrize("content", [b"", b'{"half": ', b"\xff\xfe\x00"])
def test_a_half_written_json_names_its_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "manifest.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"manifest\.json is not valid JSON"):
        read_json(path)


def test_sha256_of_more_than_one_chunk(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    path = tmp_path / "weights"
    path.write_bytes(content)
    assert sha256_file(path) == hashlib.sha256(content).hexdigest()


def test_nearest_names_one_option_or_none() -> None:
    assert nearest("lora_rnk", ["lr", "lora_rank", "lora_alpha"]) == " Did you mean 'lora_rank'?"
    assert nearest("zzz", ["lr", "lora_rank"]) == ""
