"""`sam3d-med reconstruct` on volumes and on single slices."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam3d_objects.cli.main import FAILED, main
from sam3d_objects.cli.models import load_adapted
from sam3d_objects.cli.reconstruct import read_volume
from sam3d_objects.config import ReconstructOptions
from sam3d_objects.config.reconstruct import MESH_FORMATS
from sam3d_objects.files import read_json
from sam3d_objects.mesh import import_mesh, inside
from sam3d_objects.mesh.export import SUFFIXES, read_mesh_file
from sam3d_objects.model.lora import lora_layers
from sam3d_objects.model.stages import STAGES, adapted_module
from sam3d_objects.volume import read_label, read_nifti, slice_input, write_nifti


def call(base: Path, adapter: Path, out: Path, *words: object, stages: str = "structure") -> int:
    """Run the command and return its exit status."""
    files = ("--base", base, "--checkpoint", adapter, "--out", out, "--stages", stages)
    return main(["reconstruct", *map(str, (*files, *words))])


@pytest.mark.parametrize("stages", ["structure", "both"])
def test_a_volume_gives_meshes_in_patient_mm_and_a_mask_on_its_grid(
    random_base: Path, adapter: Path, scan: tuple[Path, Path], tmp_path: Path, stages: str
) -> None:
    image, labels = scan
    out = tmp_path / "out"
    words = ("--image", image, "--label", labels, "--classes", "1+2", "--plane", "coronal", "--slice_index", 12)
    assert call(random_base, adapter, out, *words, stages=stages) == 0
    assert {path.name for path in out.iterdir()} == {"scan.stl", "scan.ply", "scan_mask.nii.gz"}
    mesh, volume, mask = import_mesh(out / "scan.ply"), read_nifti(image), read_label(out / "scan_mask.nii.gz")
    assert mesh.is_watertight
    np.testing.assert_allclose(import_mesh(out / "scan.stl").volume, mesh.volume, rtol=1e-4)
    np.testing.assert_allclose(mask.affine, volume.affine, atol=1e-5)
    # The mask on the scan's grid is the mesh: same place, not mirrored. A voxel whose centre lies on the surface
    # may fall on either side, since files hold float32.
    solid = inside(mesh, volume.affine, volume.shape)
    assert solid.any()
    assert np.count_nonzero(solid != (mask.voxels != 0)) <= 0.001 * solid.size


def test_a_mask_that_was_given_is_not_overwritten(
    random_base: Path, adapter: Path, scan: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    image, labels = scan
    mask = image.parent / "scan_mask.nii.gz"
    mask.write_bytes(labels.read_bytes())
    words = ("--image", image, "--mask", mask, "--plane", "axial", "--slice_index", 8)
    assert call(random_base, adapter, image.parent, *words) == 1
    assert "would overwrite" in capsys.readouterr().err
    assert mask.read_bytes() == labels.read_bytes()


def test_files_hold_the_spread_in_the_frame_that_is_asked_for(
    random_base: Path, adapter: Path, scan: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, labels = scan
    words = ("--image", image, "--label", labels, "--classes", "1", "--plane", "axial", "--slice_index", 8)
    assert call(random_base, adapter, tmp_path / "lps", *words) == 0
    said = capsys.readouterr().out
    assert "2 samples in 1 steps, fitted to the mask, threshold 0.2 (the adapter's own; not chosen on" in said
    assert "in patient LPS" in said and "the samples' surfaces run" in said
    assert call(random_base, adapter, tmp_path / "ras", *words, "--space", "RAS", "--formats", "vtk", "obj") == 0
    assert {path.name for path in (tmp_path / "ras").iterdir()} == {"scan.vtk", "scan.obj", "scan_mask.nii.gz"}
    lps, ras = read_mesh_file(tmp_path / "lps/scan.ply"), read_mesh_file(tmp_path / "ras/scan.vtk")
    assert (lps.space, ras.space) == ("LPS", "RAS")
    np.testing.assert_allclose(lps.mesh.vertices * [-1, -1, 1], ras.mesh.vertices, atol=1e-4)
    np.testing.assert_allclose(lps.scalars["spread_mm"], ras.scalars["spread_mm"], atol=1e-4)
    assert lps.scalars["spread_mm"].min() >= 0 and lps.scalars["spread_mm"].max() > 0


def test_one_sample_has_no_spread(
    random_base: Path, adapter: Path, scan: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--image", scan[0], "--label", scan[1], "--classes", "1", "--plane", "axial", "--slice_index", 8)
    assert call(random_base, adapter, tmp_path / "out", *words, "--samples", 1) == 0
    assert "no spread: it takes two samples" in capsys.readouterr().out
    assert read_mesh_file(tmp_path / "out/scan.ply").scalars == {}


def test_the_formats_are_those_that_can_be_written() -> None:
    assert {f".{name}" for name in MESH_FORMATS} == set(SUFFIXES)
    with pytest.raises(ValueError, match=r"formats knows .*; got 'sti'.*stl"):
        ReconstructOptions(formats=("sti",))
    with pytest.raises(ValueError, match="formats is empty"):
        ReconstructOptions(formats=())


def test_a_set_adapts_each_stage_and_a_single_adapter_one(random_base: Path, adapter_set: Path) -> None:
    for checkpoint, use_stages, expected in (
        (adapter_set, (), STAGES),
        (adapter_set, ("latent",), ("latent",)),
        (adapter_set / "decoder", (), ("decoder",)),
    ):
        options = ReconstructOptions(base=str(random_base), use_stages=use_stages, samples=5)
        model, contract = load_adapted(checkpoint, options)
        assert tuple(stage for stage in STAGES if lora_layers(adapted_module(model, stage))) == expected
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert (contract.samples, contract.threshold) == (5, 0.2)


def test_the_same_seed_gives_the_same_mesh(
    random_base: Path, adapter: Path, scan: tuple[Path, Path], tmp_path: Path
) -> None:
    image, labels = scan
    words = ("--image", image, "--label", labels, "--classes", "1", "--plane", "axial", "--slice_index", 8)
    for out, seed in (("a", 0), ("b", 0), ("c", 1)):
        assert call(random_base, adapter, tmp_path / out, *words, "--seed", seed) == 0
    first, same, other = ((tmp_path / out / "scan.ply").read_bytes() for out in "abc")
    assert first == same
    assert first != other


def test_half_precision_and_offload_give_nearly_the_same(
    random_base: Path, adapter: Path, scan: tuple[Path, Path], tmp_path: Path
) -> None:
    image, labels = scan
    words = ("--image", image, "--label", labels, "--classes", "1", "--plane", "axial", "--slice_index", 8)
    assert call(random_base, adapter, tmp_path / "whole", *words) == 0
    assert call(random_base, adapter, tmp_path / "half", *words, "--dtype", "bfloat16", "--offload") == 0
    whole, half = (import_mesh(tmp_path / name / "scan.ply") for name in ("whole", "half"))
    np.testing.assert_allclose(half.bounds, whole.bounds, atol=0.1 * float((whole.bounds[1] - whole.bounds[0]).max()))


def write_slices(folder: Path, scan: tuple[Path, Path]) -> None:
    """One axial slice in each of the three forms, and one that is broken."""
    folder.mkdir()
    image, mask = read_volume(*scan, None, "1+2")
    cut = slice_input(image, mask, "axial", 8)
    np.savez(folder / "array.npz", image=cut.image, mask=cut.mask, affine=cut.plane.affine)
    grey = np.clip(cut.image - cut.image.min(), 0, 255).astype(np.uint8)
    Image.fromarray(grey).save(folder / "picture.png")
    Image.fromarray(cut.mask.astype(np.uint8) * 255).save(folder / "picture_mask.png")
    affine = image.affine.copy()
    affine[:3, 3] += 8 * affine[:3, 2]
    for name, volume in (("nifti", image), ("nifti_mask", mask)):
        part = type(volume)(volume.voxels[:, :, 8:9], affine)
        write_nifti(folder / f"{name}.nii.gz", part)
    (folder / "broken.npz").write_bytes(b"PK not a zip")


def test_a_folder_of_slices_gives_a_mesh_for_each_and_lists_what_failed(
    random_base: Path, adapter: Path, scan: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slices, out = tmp_path / "slices", tmp_path / "out"
    write_slices(slices, scan)
    words = ("--slices", slices, "--plane", "axial", "--spacing_mm", "1.5", "1.0")
    assert call(random_base, adapter, out, *words) == FAILED
    assert "1 of 4 slices failed" in capsys.readouterr().err
    assert list(read_json(out / "failures.json")) == ["broken.npz"]
    meshes = {stem: import_mesh(out / f"{stem}.ply") for stem in ("array", "nifti", "picture")}
    # The same slice in two forms: the same place in the patient.
    np.testing.assert_allclose(meshes["array"].bounds, meshes["nifti"].bounds, atol=1e-3)
    # The picture knows no patient: same shape, in the image's frame.
    np.testing.assert_allclose(meshes["picture"].volume, meshes["array"].volume, rtol=0.05)
    assert b"SPACE=image" in (out / "picture.ply").read_bytes()[:200]


def test_one_slice_alone_takes_the_mask_beside_it(
    random_base: Path, adapter: Path, scan: tuple[Path, Path], tmp_path: Path
) -> None:
    slices, out = tmp_path / "slices", tmp_path / "out"
    write_slices(slices, scan)
    image, mask = slices / "nifti.nii.gz", slices / "nifti_mask.nii.gz"
    assert call(random_base, adapter, out, "--image", image, "--mask", mask) == 0
    assert (out / "nifti.stl").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--image {image} --label {labels} --classes 7 --plane axial --slice_index 8",
            "has no label 7; it has [1, 2, 3]",
        ),
        ("--image {image} --label {labels} --plane axial --slice_index 8", "say with --classes which are the organ"),
        ("--image {image} --label {labels} --classes 1,2 --plane axial --slice_index 8", "one organ at a time"),
        ("--image {image} --label {labels} --classes 1 --slice_index 8", "needs --plane"),
        ("--image {image} --plane axial --slice_index 8", "needs --label (with --classes) or --mask"),
        ("--image {image} --label {labels} --classes 1 --plane axial --slice_index 99", "from 0 to 15"),
        ("--image {image} --label {labels} --classes 1 --plane axial --slice_index 15", "mask is empty"),
        ("--image {image} --label {labels}", "--label cannot be given with one slice alone"),
        ("--slices {image} --label {labels}", "--label cannot be given with --slices"),
        ("--image {image} --slices {labels}", "either --image"),
    ],
)
def test_wrong_use_says_what_is_wanted(
    random_base: Path,
    adapter: Path,
    scan: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: str,
    message: str,
) -> None:
    image, labels = scan
    line = words.format(image=image, labels=labels)
    assert call(random_base, adapter, tmp_path / "out", *line.split()) == FAILED
    assert message in capsys.readouterr().err


def test_a_label_on_another_grid_is_refused(
    random_base: Path, adapter: Path, scan: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, labels = scan
    label = read_label(labels)
    moved = label.affine.copy()
    moved[0, 3] += 1.0
    write_nifti(labels, type(label)(label.voxels, moved))
    words = ("--image", image, "--label", labels, "--classes", "1", "--plane", "axial", "--slice_index", 8)
    assert call(random_base, adapter, tmp_path / "out", *words) == FAILED
    assert "labels.nii.gz" in capsys.readouterr().err


def test_an_adapter_of_another_base_is_refused(
    random_base: Path, adapter: Path, scan: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = (adapter / "sam3d.json").read_text()
    other = tmp_path / "other"
    other.mkdir()
    for path in adapter.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    fingerprint = read_json(adapter / "sam3d.json")["adapter"]["base_fingerprint"]
    (other / "sam3d.json").write_text(record.replace(fingerprint, "0" * 64))
    words = ("--image", scan[0], "--label", scan[1], "--classes", "1", "--plane", "axial", "--slice_index", 8)
    assert call(random_base, other, tmp_path / "out", *words) == FAILED
    assert "load the base that it was trained on" in capsys.readouterr().err


def test_formats_and_space_are_what_was_asked_for(
    random_base: Path, adapter: Path, scan: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image, labels = scan
    words = ("--image", image, "--label", labels, "--classes", "1", "--plane", "axial", "--slice_index", 8)
    out = tmp_path / "out"
    assert call(random_base, adapter, out, *words, "--formats", "vtk", "glb", "--space", "RAS") == 0
    assert {path.name for path in out.iterdir()} == {"scan.vtk", "scan.glb", "scan_mask.nii.gz"}
    contents = [read_mesh_file(out / f"scan{suffix}") for suffix in (".vtk", ".glb")]
    assert [content.space for content in contents] == ["RAS", "RAS"]
    np.testing.assert_array_equal(contents[0].mesh.triangles, contents[1].mesh.triangles)
    assert call(random_base, adapter, out, *words, "--formats", "gltf") == 2  # wrong use
    assert "formats knows stl, ply, obj, glb, vtk; got 'gltf'" in capsys.readouterr().err
