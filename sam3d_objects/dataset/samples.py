"""Training samples over a prepared folder: a slice, the organ on it, where it lies, what is to be found."""

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sam3d_objects.arrays import FloatArray
from sam3d_objects.dataset.augment import Augment, grow_mask
from sam3d_objects.dataset.case import PreparedCase
from sam3d_objects.dataset.manifest import CaseEntry, Manifest
from sam3d_objects.dataset.slices import seeded_generator, slice_weights
from sam3d_objects.dataset.warp import SliceTable, random_warp, slice_table
from sam3d_objects.files import nearest
from sam3d_objects.mesh import Mesh, ObjectFrame, SliceCamera, pointmap
from sam3d_objects.volume import PLANES, SliceInput, condition_image

_DRAWS = 20  # a drawn slice of a warped organ may just miss it; so often in a row only a broken case does


@dataclass(frozen=True, eq=False)
class Sample:
    """One slice and its organ.

    Attributes:
        case, patient, organ: whose.
        plane_name: 'axial', 'coronal' or 'sagittal'.
        slice_index: native voxel index (of the scan's lattice; a warped organ moves through it).
        variant: 0 the organ itself, above 0 a fixed warp of it.
        slice: raw intensities, cut to the field of view.
        image01: (rows, cols) float32 in [0, 1], 0 where not valid.
        camera: of the slice.
        pointmap: (rows, cols, 3) float32, camera mm, NaN where not valid.
        frame: of the (warped) organ.
    """

    case: str
    patient: str
    organ: str
    plane_name: str
    slice_index: int
    variant: int
    slice: SliceInput
    image01: FloatArray
    camera: SliceCamera
    pointmap: FloatArray
    frame: ObjectFrame


class TS_SAM3D_Dataset:  # the name is fixed: users of the earlier code import it
    """The mesh dataset over a prepared folder: an item for each case, organ and plane, its slice drawn anew.

    Items depend on (seed, epoch, index) alone. It holds no torch, so that it works in any loader.

    Args:
        data_root: the prepared folder.
        split: 'train', 'val' or 'test'.
        organs: structure names; None takes all.
        planes: among 'axial', 'coronal', 'sagittal'.
        augment: photometric changes; None for validation.
        variants: how many versions of each organ there are: the organ itself and variants - 1 fixed warps.
        slices_per_plane: how many slices of each organ and plane an epoch draws.
        seed: of slices, warps and augmentation.
        allow_mirror: whether warps may turn a left organ into a right one.
        cache_bytes: cases are kept in memory up to about this much (one always is).

    Raises:
        ValueError: no prepared folder, no patient in the split, an unknown organ or plane, or no organ at
            all.
    """

    def __init__(
        self,
        data_root: str | Path,
        split: str = "train",
        organs: Sequence[str] | None = None,
        planes: Sequence[str] = PLANES,
        augment: Augment | None = None,
        variants: int = 1,
        seed: int = 0,
        allow_mirror: bool = False,
        cache_bytes: int = 2_000_000_000,
        slices_per_plane: int = 1,
    ) -> None:
        self.data_root = Path(data_root)
        self.manifest = Manifest.load(self.data_root)
        self.split, self.planes, self.augment, self.seed = split, tuple(planes), augment, seed
        self.variants, self.allow_mirror, self.epoch = variants, allow_mirror, 0
        self.slices_per_plane = slices_per_plane
        if slices_per_plane < 1:
            raise ValueError(f"slices_per_plane must be at least 1, got {slices_per_plane}")
        if variants < 1:
            raise ValueError(f"variants must be at least 1 (the organ itself), got {variants}")
        _check_names("plane", self.planes, PLANES)
        self.organs = tuple(self.manifest.structures) if organs is None else tuple(organs)
        _check_names("organ", self.organs, tuple(self.manifest.structures))
        self._entries = {entry.id: entry for entry in self.manifest.of_split(split)}
        self.pairs = [(e.id, organ) for e in self._entries.values() for organ in self.organs if organ in e.organs]
        if not self.pairs:
            raise ValueError(f"no case of the {split} split has {' or '.join(self.organs)}")
        self._cases = _CaseCache(self.data_root, self._entries, cache_bytes)
        self._warps: dict[tuple[str, str, int], FloatArray] = {}
        self._frames: dict[tuple[str, str, int], ObjectFrame] = {}
        self._tables: dict[tuple[str, str, int, str], SliceTable] = {}

    def __len__(self) -> int:
        return len(self.pairs) * len(self.planes) * self.slices_per_plane

    def __iter__(self) -> Iterator[Sample]:
        return (self[number] for number in range(len(self)))

    def set_epoch(self, epoch: int) -> None:
        """Other slices, variants and augmentation in each epoch."""
        self.epoch = epoch

    def __getitem__(self, number: int) -> Sample:
        """Item `number`: its case, organ and plane are fixed; its variant, slice and changes are drawn."""
        if not 0 <= number < len(self):
            raise IndexError(f"item {number} of {len(self)}")
        case_id, organ = self.pairs[number // len(self.planes) % len(self.pairs)]
        plane_name = self.planes[number % len(self.planes)]
        # A generator of its own: an item does not depend on which ones were asked for before it.
        generator = np.random.default_rng([self.seed, self.epoch, number])
        variant = int(generator.integers(self.variants))
        table = self._table(case_id, organ, variant, plane_name)
        weights = slice_weights(table.areas)
        case, warp = self.case(case_id), self.warp(case_id, organ, variant)
        for _ in range(_DRAWS):
            plane = table.plane(int(generator.choice(len(weights), p=weights)))
            marked = case.cut_mask(organ, plane, warp)
            if marked.any():
                return self._sample(case, organ, variant, case.cut_image(plane, marked, warp), generator)
        raise ValueError(f"case {case_id}, {organ}, variant {variant}: no {plane_name} slice shows the organ")

    def sample(self, case_id: str, organ: str, plane_name: str, slice_index: int, variant: int = 0) -> Sample:
        """A chosen slice, without augmentation.

        Args:
            case_id, organ: whose.
            plane_name: 'axial', 'coronal' or 'sagittal'.
            slice_index: native voxel index.
            variant: as in `Sample`.

        Raises:
            ValueError: an unknown case or organ, or no organ on that slice.
        """
        table = self._table(case_id, organ, variant, plane_name)
        assert table.first.slice_index is not None, "planes of the voxel lattice have an index"
        plane = table.plane(slice_index - table.first.slice_index)
        case = self.case(case_id)
        return self._sample(case, organ, variant, case.cut(organ, plane, self.warp(case_id, organ, variant)), None)

    def case(self, case_id: str) -> PreparedCase:
        """A case of this split; it is kept in memory while there is room."""
        return self._cases.get(case_id)

    def warp(self, case_id: str, organ: str, variant: int) -> FloatArray | None:
        """(4, 4) affine of patient space that makes a variant, None for variant 0."""
        if variant == 0:
            return None
        key = (case_id, organ, variant)
        if key not in self._warps:
            box_mm = np.array(self._entries[case_id].organs[organ].box_mm)
            generator = seeded_generator("warp", self.seed, *key)
            self._warps[key] = random_warp(generator, box_mm.mean(axis=0), self.allow_mirror)
        return self._warps[key]

    def geometry(self, case_id: str, organ: str, variant: int = 0) -> Mesh:
        """The (warped) organ's surface, patient mm."""
        mesh = self.case(case_id).mesh(organ)
        warp = self.warp(case_id, organ, variant)
        return mesh if warp is None else mesh.transformed(warp)

    def frame(self, case_id: str, organ: str, variant: int = 0) -> ObjectFrame:
        """The object frame of the (warped) organ."""
        key = (case_id, organ, variant)
        if key not in self._frames:
            self._frames[key] = ObjectFrame.from_points(self.geometry(*key).vertices)
        return self._frames[key]

    def _table(self, case_id: str, organ: str, variant: int, plane_name: str) -> SliceTable:
        key = (case_id, organ, variant, plane_name)
        if key not in self._tables:
            margin_mm = self.manifest.margin_mm if self.manifest.field_of_view == "mask_margin" else None
            warp = self.warp(case_id, organ, variant)
            self._tables[key] = slice_table(self.case(case_id), organ, plane_name, warp, margin_mm)
        return self._tables[key]

    def _sample(
        self,
        case: PreparedCase,
        organ: str,
        variant: int,
        raw: SliceInput,
        generator: np.random.Generator | None,
    ) -> Sample:
        """Cut to the field of view, normalise and, with a generator, augment."""
        manifest = self.manifest
        change = self.augment if generator is not None else None
        if change is not None and generator is not None:
            # Before the cut: the field of view follows the mask that is shown, as it will at inference.
            raw = replace(raw, mask=grow_mask(raw.mask, raw.valid, change.draw_mask(generator)))
        # Trap 14: with mask_margin even the percentiles come from the cut slice alone.
        if manifest.field_of_view == "scan":
            raw = replace(raw, reference=case.reference)
        cut, image01 = condition_image(raw, manifest.intensity, manifest.field_of_view, manifest.margin_mm)
        if change is not None and generator is not None:
            image01 = change.draw(generator, cut.plane.shape).apply(image01, cut.valid)
        camera = SliceCamera.from_plane(cut.plane)
        assert cut.plane.slice_index is not None, "planes of the voxel lattice have an index"
        return Sample(
            case=case.id,
            patient=case.patient,
            organ=organ,
            plane_name=cut.plane.name,
            slice_index=cut.plane.slice_index,
            variant=variant,
            slice=cut,
            image01=image01,
            camera=camera,
            pointmap=pointmap(cut.plane, camera, cut.valid),
            frame=self.frame(case.id, organ, variant),
        )


class _CaseCache:
    """The cases read last, up to a number of bytes; asked by several threads at once."""

    def __init__(self, data_root: Path, entries: dict[str, CaseEntry], max_bytes: int) -> None:
        self._data_root, self._entries, self._max_bytes = data_root, entries, max_bytes
        self._cases: OrderedDict[str, PreparedCase] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, case_id: str) -> PreparedCase:
        with self._lock:  # another thread may drop the very case that this one found
            if case_id not in self._cases:
                if case_id not in self._entries:
                    raise ValueError(f"no case {case_id!r} in this split.{nearest(case_id, self._entries)}")
                self._cases[case_id] = PreparedCase(self._data_root, self._entries[case_id])
                self._bytes += self._cases[case_id].nbytes
            self._cases.move_to_end(case_id)
            while len(self._cases) > 1 and self._bytes > self._max_bytes:
                self._bytes -= self._cases.popitem(last=False)[1].nbytes
            return self._cases[case_id]

    def __getstate__(self) -> dict[str, Any]:
        """Leave the lock out: a loader of processes copies the data set, and a lock cannot be copied."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())


def _check_names(kind: str, names: Sequence[str], available: Sequence[str]) -> None:
    for name in names:
        if name not in available:
            raise ValueError(f"no {kind} {name!r}; there are {', '.join(available)}.{nearest(name, available)}")
