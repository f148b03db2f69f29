"""Mask and mesh lie on top of each other when readers that are not ours open both."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import trimesh

from sam3d_objects.arrays import BoolArray, FloatArray
from sam3d_objects.mesh import Mesh, export_mask, export_mesh, surface_from_mask
from sam3d_objects.mesh.export import SUFFIXES
from sam3d_objects.volume import Volume
from tests.mesh.shapes import SCANS, ellipsoid, joined, rotation, scan_affine, sphere

SHAPE = (24, 20, 8)


def organ(kind: str) -> tuple[Mesh, Volume]:
    """A tilted ellipsoid's surface, RAS mm, and the scan that it comes from."""
    affine = scan_affine(kind)
    mask, _ = ellipsoid(SHAPE, affine, np.array([6.0, 4.0, 7.0]), rotation())
    return surface_from_mask(mask, affine), Volume(mask.astype(np.float32), affine)


def shown_ras(path: Path, space: str) -> FloatArray:
    """(F, 3, 3) triangles in RAS mm as a viewer shows them: STL, PLY, OBJ and VTK by their tag, GLB upright."""
    if path.suffix == ".vtk":
        data = path.read_bytes()
        blocks = {}
        for word, dtype in ((b"POINTS", ">f4"), (b"POLYGONS", ">i4")):
            at = data.index(word)
            start = data.index(b"\n", at) + 1
            words = data[at:start].split()
            count = 3 * int(words[1]) if word == b"POINTS" else int(words[2])
            blocks[word] = np.frombuffer(data, dtype, count, start)
        points, faces = blocks[b"POINTS"].reshape(-1, 3).astype(float), blocks[b"POLYGONS"].reshape(-1, 4)[:, 1:]
        triangles = points[faces]
    elif path.suffix == ".glb":
        left, superior, anterior = np.moveaxis(
            np.array(trimesh.load_scene(path, process=False).to_mesh().triangles) * 1000, -1, 0
        )
        return np.stack([-left, anterior, superior], axis=-1)
    else:
        triangles = np.asarray(trimesh.load_mesh(path, process=False).triangles)
    return triangles * ([-1, -1, 1] if space == "LPS" else [1, 1, 1])


def encloses(triangles: FloatArray, points: FloatArray) -> BoolArray:
    """(N,) whether points lie inside: their winding number by solid angles (van Oosterom and Strackee, 1983)."""
    a, b, c = np.moveaxis(triangles[None] - points[:, None, None], 2, 0)
    length_a, length_b, length_c = (np.linalg.norm(side, axis=-1) for side in (a, b, c))
    above = np.einsum("nfi,nfi->nf", a, np.cross(b, c))
    below = length_a * length_b * length_c
    for (one, two), other in (((a, b), length_c), ((a, c), length_b), ((b, c), length_a)):
        below += np.einsum("nfi,nfi->nf", one, two) * other
    return np.arctan2(above, below).sum(axis=1) > np.pi  # half the solid angle of a full turn is 2 pi


@pytest.mark.parametrize(("kind", "space"), [*((kind, "LPS") for kind in SCANS), ("oblique", "RAS")])
def test_mesh_files_and_mask_coincide_when_others_read_them(kind: str, space: str, tmp_path: Path) -> None:
    mesh, scan = organ(kind)
    export_mask(tmp_path / "organ_mask.nii.gz", mesh, scan)
    mask = nib.Nifti1Image.from_filename(tmp_path / "organ_mask.nii.gz")
    solid = np.asarray(mask.dataobj) != 0
    # As many voxels inside as outside, next to the surface: where a shift or a mirror shows first.
    generator = np.random.default_rng(0)
    near = np.argwhere(np.ones(SHAPE, dtype=bool))[generator.permutation(solid.size)]
    kept = np.concatenate([near[solid[tuple(near.T)]][:25], near[~solid[tuple(near.T)]][:25]])
    centres = nib.affines.apply_affine(mask.affine, kept)
    expected = solid[tuple(kept.T)]
    for suffix in SUFFIXES:
        export_mesh(tmp_path / f"organ{suffix}", mesh, space)
        triangles = shown_ras(tmp_path / f"organ{suffix}", space)
        np.testing.assert_array_equal(encloses(triangles, centres), expected, err_msg=suffix)
        assert not encloses(triangles * [-1, -1, 1], centres).any()  # and nowhere else


def test_the_mask_has_the_scans_grid_and_holds_the_meshs_volume(tmp_path: Path) -> None:
    mesh, scan = organ("oblique left-handed")
    mask = export_mask(tmp_path / "mask.nii", mesh, scan)
    stored = nib.Nifti1Image.from_filename(tmp_path / "mask.nii")
    assert stored.shape == scan.shape and stored.get_data_dtype() == np.uint8
    for affine in (stored.affine, stored.get_qform()):  # viewers read either
        np.testing.assert_allclose(affine, scan.affine, atol=1e-5)
    assert mask.voxels.sum() * mask.voxel_volume_mm3 == pytest.approx(mesh.volume, rel=0.03)


def test_what_lies_beyond_the_scan_is_not_in_the_mask(tmp_path: Path) -> None:
    scan = Volume(np.zeros((5, 5, 5), dtype=np.float32), np.eye(4))
    far = sphere(3.0, step=0.5).transformed(np.diag([1.0, 1, 1, 1]) + np.eye(4, k=3) * 50)
    mask = export_mask(tmp_path / "mask.nii.gz", joined(sphere(3.0, step=0.5), far), scan)
    # Of the sphere about voxel (0, 0, 0) one eighth is on the grid, its three faces among them.
    grid = np.indices((5, 5, 5))
    np.testing.assert_array_equal(mask.voxels != 0, (grid**2).sum(axis=0) < 9)


def test_an_open_mesh_gives_no_mask(tmp_path: Path) -> None:
    mesh, scan = organ("anisotropic")
    heights = mesh.triangles[:, :, 2].mean(axis=1)
    cup = Mesh(mesh.vertices, mesh.faces[heights < np.median(heights)])
    with pytest.raises(ValueError, match="the mesh is open"):
        export_mask(tmp_path / "mask.nii.gz", cup, scan)
    assert list(tmp_path.iterdir()) == []
