"""The doctor tells a machine and a folder that are well from those that are not."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from sam3d_objects import model
from sam3d_objects.assets import release_files
from sam3d_objects.assets.release_files import ReleaseFile, ReleaseTable, Stage, release_table
from sam3d_objects.cli import machine, self_test
from sam3d_objects.cli.doctor import base_files
from sam3d_objects.cli.findings import Finding, listed
from sam3d_objects.cli.machine import GIB, OLDEST_TORCH, PYTHONS, graphics, memory, software, what_fits
from sam3d_objects.cli.main import FAILED, main
from sam3d_objects.mesh import Mesh

REPOSITORY = Path(__file__).resolve().parents[2]
SIZES: dict[str, Stage] = {
    "pipeline.yaml": "both",
    "ss_generator.ckpt": "structure",
    "slat_generator.ckpt": "latent",
    "ss_encoder.ckpt": "encoders",
    "ss_encoder.yaml": "encoders",
    "slat_decoder_gs.ckpt": "gaussians",
    "ss_encoder.safetensors": "spare",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with every file of a small table, each 4 bytes."""
    digest = "0f4636c78f65d3639ece5a064b5ae753e3408614a14fb18ab4d7540d2c248543"  # of b"good"
    files = {name: ReleaseFile(name, 4, None, stage) for name, stage in SIZES.items()}
    files["ss_generator.ckpt"] = ReleaseFile("ss_generator.ckpt", 4, digest, "structure")
    table = ReleaseTable("r", "1", files, release_table().elements)
    monkeypatch.setattr(release_files, "release_table", lambda: table)
    for name in SIZES:
        (tmp_path / name).write_bytes(b"good")
    return tmp_path


def kinds(findings: list[Finding]) -> list[str]:
    return [finding.kind for finding in findings]


def test_all_is_well_with_the_tiny_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for topic in ("Python", "torch", "CUDA", "memory", "weights", "base", "self-test"):
        assert re.search(rf"^{topic} ", text, re.MULTILINE), topic
    assert text.endswith("all is well\n") and "!" not in text
    assert re.search(r"one slice with the tiny model on \w+: \d+ faces, \d+\.\d ml", text)


def test_a_problem_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(self_test, "self_test", lambda: [Finding("self-test", "not now")])
    assert main(["doctor", "--base", str(tmp_path)]) == FAILED
    output = capsys.readouterr()
    assert "! " in output.out and f"{tmp_path / 'ss_generator.ckpt'}: missing" in output.out
    assert re.search(r"error: \d+ problems, marked with '!' above", output.err)


def test_a_whole_folder(folder: Path) -> None:
    findings = list(base_files(str(folder), with_hash=False))
    assert kinds(findings) == ["good"] and "6 files as released, by their sizes (--hash" in findings[0].text
    assert kinds(list(base_files(str(folder), with_hash=True))) == ["good", "problem"], "the hash is of other bytes"
    assert kinds(list(base_files("tiny", with_hash=True))) == ["good"]


@pytest.mark.parametrize(
    ("name", "content", "kind", "said"),
    [
        ("ss_generator.ckpt", None, "problem", "missing; run scripts/download_checkpoints.py again"),
        ("ss_generator.ckpt", b"123", "problem", "3 bytes, expected 4; run scripts/download_checkpoints.py again"),
        ("slat_generator.ckpt", b"", "problem", "empty (0 bytes), expected 4; run scripts/download_checkpoints.py "),
        ("slat_generator.ckpt", None, "problem", "or load stages=('structure',) alone"),
        ("ss_encoder.ckpt", b"", "note", "empty (0 bytes), expected 4; without it no training targets are made"),
        ("ss_encoder.ckpt", None, "note", "missing; without it no training targets are made"),
        (
            "ss_encoder.ckpt",
            b"12",
            "problem",
            "2 bytes, expected 4; run scripts/download_checkpoints.py again, or delete",
        ),
        ("ss_encoder.yaml", None, "note", "missing; TRELLIS's config is taken"),
        (
            "ss_encoder.yaml",
            b"",
            "problem",
            "empty (0 bytes), expected 4; run scripts/download_checkpoints.py again, or",
        ),
        ("ss_encoder.yaml", b"12345", "problem", "or delete it, since only training reads it"),
        ("slat_decoder_gs.ckpt", None, "note", "missing; nothing here reads it"),
        ("ss_encoder.safetensors", b"", "note", "the empty placeholder of old downloads"),
    ],
)
def test_one_broken_file(folder: Path, name: str, content: bytes | None, kind: str, said: str) -> None:
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    first, second = base_files(str(folder), with_hash=False)
    assert first.kind == "good" and second.kind == kind
    assert second.text.startswith(f"{folder / name}: ") and said in second.text


def test_the_hash_of_an_encoder(folder: Path) -> None:
    files = release_files.release_table().files
    files["ss_encoder.ckpt"] = ReleaseFile("ss_encoder.ckpt", 4, "0" * 64, "encoders")
    assert kinds(list(base_files(str(folder), with_hash=False))) == ["good"]
    found = [finding.text for finding in base_files(str(folder), with_hash=True) if "ss_encoder" in finding.text]
    assert len(found) == 1 and "SHA-256" in found[0] and "or delete it" in found[0]


def test_a_folder_that_is_not_there_or_one_too_high(folder: Path, tmp_path: Path) -> None:
    (finding,) = base_files(str(tmp_path / "nowhere"), with_hash=False)
    assert finding.kind == "problem" and "no such folder" in finding.text
    above = tmp_path / "above"
    above.mkdir()
    folder_below = above / "checkpoints"
    folder_below.mkdir()
    (folder_below / "pipeline.yaml").write_bytes(b"good")
    (finding,) = base_files(str(above), with_hash=False)
    assert finding.kind == "problem" and f"--base {folder_below}" in finding.text


def test_the_versions_are_those_of_the_project() -> None:
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    first, beyond = (".".join(map(str, version)) for version in PYTHONS)
    assert f'requires-python = ">={first},<{beyond}"' in text
    assert f'"torch>={".".join(map(str, OLDEST_TORCH))}"' in text


def test_software(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kinds(list(software())) == ["good", "good"]
    monkeypatch.setattr(machine, "PYTHONS", ((3, 99), (4, 0)))
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu121")
    python, of_torch = software()
    assert python.kind == "problem" and "expected from 3.99, before 4.0" in python.text
    assert of_torch.kind == "problem" and "expected 2.6 or later" in of_torch.text


def test_no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "version")
    (finding,) = graphics()
    assert finding.kind == "note" and "driver" not in finding.text
    (tmp_path / "version").write_text("NVRM")
    (finding,) = graphics()
    assert finding.kind == "note" and "yet an NVIDIA driver is installed: pick a torch for it" in finding.text


def test_a_gpu_that_works_and_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = torch.zeros

    def on_a_gpu(size: int, device: str) -> torch.Tensor:
        if device == "cuda:1":
            raise RuntimeError("no kernel image is available\nmore")
        return zeros(size)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: f"GPU{index}")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (20 * GIB, 24 * GIB))
    monkeypatch.setattr(torch, "zeros", on_a_gpu)
    first, fits, second = graphics()
    assert first.text.startswith("0: GPU0, 24.0 GiB, 20.0 GiB free") and "float32 whole (11.1 GiB)" in fits.text
    assert second.kind == "problem" and "1: GPU1 does not compute: no kernel image is available;" in second.text


@pytest.mark.parametrize(
    ("gib", "single", "half"),
    [
        (24.0, "whole (11.1 GiB)", "whole (5.6 GiB)"),
        (12.0, "with offload=True (one module at a time, 3.6 GiB)", "whole (5.6 GiB)"),
        (6.0, "does not fit", "with offload=True (one module at a time, 1.8 GiB)"),
        (4.0, "does not fit", "does not fit"),
    ],
)
def test_what_fits_on_a_gpu(gib: float, single: str, half: str) -> None:
    """The released modules hold 964 M numbers at most and 2990 M in all; 3 GiB are kept for the work."""
    expected = f"float32 {single}; bfloat16 {half}; float16 {half}"
    assert what_fits(int(gib * GIB)) == expected


def test_what_fits_without_offloading() -> None:
    assert what_fits(10 * GIB, can_offload=False).startswith("float32 structure stage alone (6.2 GiB); bfloat16 whole")


def test_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kinds(list(memory())) == ["good"] * 3
    monkeypatch.setattr(machine, "main_memory", lambda: None)
    assert kinds(list(memory())) == ["good", "note"]


def test_the_report_names_a_topic_once() -> None:
    findings = [Finding("base", "one"), Finding("base", "two", "problem"), Finding("CUDA", "none", "note")]
    assert listed(findings) == "base         one\n           ! two\nCUDA       - none"


def test_the_self_test_judges_the_mesh() -> None:
    box = np.array([[x, y, z] for x in (0.0, 1) for y in (0.0, 1) for z in (0.0, 1)])
    faces = [[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]]
    faces += [[2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]]
    cube = Mesh((box - 0.5) * 30, np.array(faces))
    assert self_test.judged(cube, "cpu", 1.0).kind == "good"
    moved = Mesh(cube.vertices + np.array([11, 0, 0]), cube.faces)
    small = Mesh(cube.vertices / 3, cube.faces)
    for mesh in (moved, small):
        finding = self_test.judged(mesh, "cpu", 1.0)
        assert finding.kind == "problem" and "reinstall the package" in finding.text


def test_a_failing_self_test_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(base: str, device: str) -> None:
        raise ValueError(f"{base} is damaged")

    monkeypatch.setattr(model, "load_model", broken)
    (finding,) = self_test.self_test()
    assert finding.kind == "problem" and "failed: tiny is damaged" in finding.text
